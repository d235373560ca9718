"""The steps that check ARI, the REST interface: port, TLS, login, list of recordings, download of one."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pbx.asterisk.ari.client import AriClient, StoredRecording, SystemInfo
from pbx.asterisk.doctor import advice
from pbx.asterisk.doctor.network import Address, open_port
from pbx.asterisk.doctor.step import Check, CheckSession, StepFailed, StepResult
from pbx.asterisk.formats.recording_files import check_recording
from pbx.asterisk.formats.recording_names import parse_name
from pbx.errors import (
    AriLoginError,
    AriNotFound,
    AriProtocolError,
    AriServerError,
    DataError,
    Deadline,
    PbxError,
    Unreachable,
)
from pbx.formatting import count_text
from pbx.settings import Connection
from pbx.speech.audio import probe_audio

ANSWER_S = 2.0  # without a byte; a lost request is repeated up to three times
DOWNLOAD_S = 30.0
MAX_DOWNLOAD_BYTES = 200_000_000  # of a recording that the check downloads
MAX_FOLDERS = 4  # top-level folders that are tried, newest first: each may be a link
MAX_PER_FOLDER = 4  # recordings that are tried in a folder, until one is good


class AriCheck(CheckSession):
    """Checks ARI with the requests of a sync. A context manager, which closes its connections."""

    def __init__(self, connection: Connection, addresses: list[Address]) -> None:
        super().__init__()
        self.connection = connection
        self.addresses = addresses
        self._info: SystemInfo | PbxError | None = None
        self._client: AriClient
        self._recordings: list[StoredRecording] = []

    def steps(self) -> list[Check]:
        """The steps, in order."""
        tls = [Check("ARI TLS", self.tls)] if self.connection.ari_tls else []
        return [
            Check("ARI port open", self.port),
            *tls,
            Check("ARI answers", self.answers),
            Check("ARI login", self.login),
            Check("Recordings listed", self.listed),
            Check("Recording downloads", self.downloads),
        ]

    def port(self) -> StepResult:
        """Connect to the ARI port."""
        with open_port(self.addresses, self.connection.ari_port, "ARI") as sock:
            peer = sock.getpeername()
        return StepResult(f"{peer[0]}:{peer[1]} accepts connections.")

    def tls(self) -> StepResult:
        """Encrypt the connection and verify the certificate."""
        if isinstance(info := self._system_info(), Unreachable):
            raise info
        return StepResult(f"Encrypted, with a valid certificate for {self.connection.host}.")

    def answers(self) -> StepResult:
        """Check that ARI answers at the expected path."""
        info = self._system_info()
        if isinstance(info, AriNotFound):
            found = self._other_prefix()
            prefix = self.connection.ari_prefix
            fix = (
                advice.ari_not_found(self.connection.ari_port, prefix)
                if found is None
                else advice.other_ari_prefix(found)
            )
            raise StepFailed(str(info), fix)
        if isinstance(info, (Unreachable, AriProtocolError, AriServerError)):
            raise info
        return StepResult(f"ARI answers at {self.connection.ari_url}.")

    def login(self) -> StepResult:
        """Log in as the ARI user."""
        info, user = self._system_info(), self.connection.ari_username
        if isinstance(info, AriLoginError):
            empty = "" if user else " No ARI user is set (FREEPBX_ARI_USERNAME)."
            raise StepFailed(f"{info}{empty}", advice.ari_login(user or "notebook"))
        if isinstance(info, PbxError):
            raise info
        return StepResult(f"Logged in as {user!r} to Asterisk {info.version}.")

    def _system_info(self) -> SystemInfo | PbxError:
        """ARI's answer to `info`, or its error; requested once for the three steps that need it."""
        if self._info is None:
            self._info = _info(self.connection)
        return self._info

    def _other_prefix(self) -> str | None:
        """The usual prefix, or "", if ARI answers there instead of under the prefix that is set."""
        for prefix in ("/asterisk", ""):
            if prefix != self.connection.ari_prefix:
                info = _info(self.connection.model_copy(update={"ari_prefix": prefix}))
                if isinstance(info, SystemInfo | AriLoginError):
                    return prefix
        return None

    def listed(self) -> StepResult:
        """List the recordings."""
        self._client = self._open.enter_context(AriClient(self.connection, deadline_s=DOWNLOAD_S, backoff_s=0.1))
        try:
            self._recordings = self._client.list_recordings()
        except AriServerError as error:
            raise StepFailed(
                str(error), advice.listing_failed() if "Allocation" in str(error) else [error.fix]
            ) from None
        if not self._recordings:
            return StepResult("The list is empty: ARI finds no recordings.", "warning", advice.no_recordings())
        return StepResult(f"{count_text(len(self._recordings), 'recording')}.")

    def downloads(self) -> StepResult:
        """Download the newest recording of each top-level folder: files behind a link are listed, then refused."""
        if not self._recordings:
            return StepResult("There is nothing to download.", "skipped")
        folders: dict[str, list[StoredRecording]] = {}
        for recording in sorted(self._recordings, key=_age, reverse=True):
            folders.setdefault(recording.name.rpartition("/")[0].partition("/")[0], []).append(recording)
        tried = [self._try_newest(found[:MAX_PER_FOLDER]) for found in list(folders.values())[:MAX_FOLDERS]]
        refused = [folder for folder, outcome in zip(folders, tried, strict=False) if set(outcome) == {"refused"}]
        if refused:
            where = " and ".join(f"{folder}/" if folder else "the top-level folder" for folder in refused)
            text = f"The PBX lists recordings in {where} but refuses to send them (404)."
            return StepResult(text, "failed", [line for folder in refused for line in advice.downloads_refused(folder)])
        good = [outcome["good"] for outcome in tried if "good" in outcome]
        if good:
            return StepResult(good[0])
        reasons = dict.fromkeys(reason for outcome in tried for reason in outcome.values())
        slow = all("slow" in outcome for outcome in tried)
        text = f"None of the newest recordings contains sound. {' '.join(reasons)}"
        return StepResult(text, "warning", [] if slow else advice.no_sound())

    def _try_newest(self, recordings: list[StoredRecording]) -> dict[str, str]:
        """Try recordings until one is good. Return the last text for each outcome that occurred.

        The outcomes: good, refused, slow, large, waiting, empty, unreadable.
        """
        outcome: dict[str, str] = {}
        for recording in recordings:
            try:
                state, text = self._fetch(recording)
            except AriNotFound as error:
                state, text = "refused", str(error)
            except Deadline as error:
                state, text = "slow", f"{recording.name}: {error}"
            except _ProbeTooLarge:
                state, text = "large", f"{recording.name} is too large for this check."
            outcome[state] = text
            if state == "good":
                break
        return outcome

    def _fetch(self, recording: StoredRecording) -> tuple[str, str]:
        """Download a recording, examine it and delete it. Return the outcome and a text about it."""
        with TemporaryDirectory(prefix="pbx-check-") as folder:
            target = Path(folder, "recording")
            size_bytes = self._client.download(recording.name, target, _accept)
            with target.open("rb") as file:
                judged = check_recording(file, size_bytes, recording.format)
            if judged.state in ("waiting", "empty") or judged.cut_short:
                return judged.state, f"{recording.name}: {judged.reason}"
            try:
                facts = probe_audio(target.rename(target.with_suffix(f".{judged.suffix}")))
            except DataError as error:
                return "unreadable", f"{recording.name}: {judged.reason or error}"
        length = f"{size_bytes:,} bytes, {facts.duration_s:.1f} s of {facts.codec}"
        return "good", f"{recording.name} ({recording.format}) downloaded completely: {length}."


def _info(connection: Connection) -> SystemInfo | PbxError:
    waits = {"connect_timeout_s": ANSWER_S, "idle_timeout_s": ANSWER_S, "deadline_s": 4 * ANSWER_S + 2}
    with AriClient(connection, **waits, backoff_s=0.1) as client:  # type: ignore[arg-type]
        try:
            return client.info()
        except PbxError as error:
            return error


class _ProbeTooLarge(Exception): ...


def _accept(size_bytes: int) -> None:
    if size_bytes > MAX_DOWNLOAD_BYTES:
        raise _ProbeTooLarge


def _age(recording: StoredRecording) -> tuple[datetime, str]:
    return parse_name(recording.name).started_at or datetime.min.replace(tzinfo=UTC), recording.name
