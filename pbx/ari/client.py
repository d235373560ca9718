"""ARI over HTTP: what is recorded, what is going on, and the recordings themselves."""

import errno
import io
import json
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import urllib3
import urllib3.exceptions as http

from pbx.ari import faults
from pbx.errors import AriProtocolError, DataError, Deadline, SettingsError, StorageFull, Unreachable
from pbx.settings import Connection

ATTEMPTS = 3  # for a transfer that breaks off
_CHUNK_BYTES = 256 * 1024
_FULL_BYTES = 64 * 1024
_GATHER_S = 0.0015
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoredRecording(NamedTuple):
    """A recording as ARI lists it: its path below `recording` without extension, and that extension."""

    name: str
    format: str


class SystemInfo(NamedTuple):
    """Who answers, and since when it runs."""

    version: str
    entity_id: str
    started_at: datetime


class AriClient:
    """One PBX's ARI, by Basic authentication. Safe to share among `parallel` threads, which get a connection each.

    Failed connections, lost answers and 5xx are tried again with growing pauses (from `backoff_s`); 401, 403 and 404
    are not. A request may take `deadline_s` in all and `idle_timeout_s` without a byte.

    Every method raises Unreachable or Deadline for the line, AriLoginError (401), AriDenied (403), AriNotFound (404),
    AriServerError (5xx) or AriProtocolError for the answer.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        parallel: int = 4,
        connect_timeout_s: float = 10,
        idle_timeout_s: float = 60,
        deadline_s: float = 1800,
        backoff_s: float = 0.5,
    ) -> None:
        self.connection = connection
        self._deadline_s = deadline_s
        self._backoff_s = backoff_s
        self._cancelled = threading.Event()
        self._pool = urllib3.connection_from_url(
            connection.ari_url,
            maxsize=parallel,
            block=True,
            timeout=urllib3.Timeout(connect=connect_timeout_s, read=idle_timeout_s),
            headers={"Authorization": _authorization(connection)},
            retries=urllib3.Retry(
                total=3,
                other=0,
                redirect=False,
                status_forcelist=(500, 502, 503, 504),
                backoff_factor=backoff_s,
                respect_retry_after_header=False,
                raise_on_status=False,
            ),
            **({"ssl_context": _tls(connection)} if connection.ari_tls else {}),
        )

    def __enter__(self) -> "AriClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close()

    def cancel(self) -> None:
        """Break off all transfers, of other threads too: they raise Unreachable, at their next byte."""
        self._cancelled.set()

    def info(self) -> SystemInfo:
        """Version, entity id and start of the Asterisk that answers."""
        answer = self._json("/asterisk/info")
        try:
            started_at = datetime.fromisoformat(answer["status"]["startup_time"]).astimezone(UTC)
            return SystemInfo(answer["system"]["version"], answer["system"]["entity_id"], started_at)
        except (KeyError, TypeError, ValueError):
            raise faults.not_json(self.connection) from None

    def channels(self) -> set[str]:
        """The uniqueids of all live channels."""
        answer = self._json("/channels")
        try:
            return set(self._texts(channel["id"] for channel in answer))
        except (KeyError, TypeError):
            raise faults.not_json(self.connection) from None

    def list_recordings(self) -> list[StoredRecording]:
        """All stored recordings; ARI knows no paging, no filter and no dates. One that grows is listed too."""
        answer = self._json("/recordings/stored")
        try:
            names = self._texts(item["name"] for item in answer)
            formats = self._texts(item["format"] for item in answer)
        except (KeyError, TypeError):
            raise faults.not_json(self.connection) from None
        return list(map(StoredRecording, names, formats))

    def download(self, name: str, target: Path) -> int:
        """Fetch a recording into `target`, which appears only when all of it is there; return its size in bytes.

        Raises StorageFull or DataError when it can't be written, and the class's errors; nothing is left behind then.
        """
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:  # buffered: a raw write may take only a part
                size_bytes = self.fetch(name, file)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise storage_fault(error, target) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return size_bytes

    def fetch(self, name: str, sink: BinaryIO) -> int:
        """Write a recording into an open, empty file and return its size in bytes; OSError is the file's own."""
        return self._fetch(f"/recordings/stored/{quote(name, safe='')}/file", sink)

    def _json(self, path: str) -> Any:
        body = io.BytesIO()
        self._fetch(path, body)
        try:
            return json.loads(body.getvalue())
        except ValueError:
            raise faults.not_json(self.connection) from None

    def _texts(self, values: Iterable[Any]) -> list[str]:
        """Values that must be texts which a database takes. Raises AriProtocolError."""
        texts = list(values)
        try:
            together = "".join(texts).encode()
        except (TypeError, UnicodeEncodeError):  # a number, say, or half a pair of surrogates
            raise faults.not_json(self.connection) from None
        if b"\0" in together:
            raise faults.not_json(self.connection)
        return texts

    def _fetch(self, path: str, sink: BinaryIO) -> int:
        """GET into `sink`, all of it again when the transfer breaks off: ARI has no Range (it sends the whole file)."""
        end = time.monotonic() + self._deadline_s
        for attempt in range(ATTEMPTS):
            self._check_wanted()
            if attempt:
                sink.seek(0)
                sink.truncate()
            try:
                return self._receive(path, sink, end)
            except http.HTTPError as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, http.MaxRetryError):
                    raise faults.line_fault(error, self.connection) from None
            self._cancelled.wait(self._backoff_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _check_wanted(self) -> None:
        if self._cancelled.is_set():
            raise Unreachable("The transfer was broken off.", "Start it again.")

    def _receive(self, path: str, sink: BinaryIO, end: float) -> int:
        response = self._pool.urlopen("GET", f"/ari{path}", redirect=False, preload_content=False, decode_content=False)
        try:
            if response.status != 200:
                kind, text = response.headers.get("Content-Type", ""), response.read(500).decode(errors="replace")
                raise faults.refusal(response.status, kind, _message(text), self.connection)
            return self._copy(response, sink.write, end)
        except BaseException:
            response.close()  # the rest of the answer is still in it
            raise
        finally:
            response.release_conn()

    def _copy(self, response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], end: float) -> int:
        """Write the body; urllib3 raises IncompleteRead when it is shorter than announced."""
        announced_bytes = response.headers.get("Content-Length", "")
        if not announced_bytes.isdigit():
            raise AriProtocolError(
                f"{self.connection.ari_url} doesn't say how long its answer is, so it can't be checked.",
                "Connect to Asterisk's own port, not through a proxy that drops Content-Length.",
            )
        left_bytes = int(announced_bytes)
        while left_bytes:
            chunk = response.read1(_CHUNK_BYTES)
            write(chunk)
            left_bytes -= len(chunk)
            self._check_wanted()
            if time.monotonic() > end:
                raise Deadline(f"The transfer took longer than {self._deadline_s:.0f} s.", "Is the line very slow?")
            if left_bytes and len(chunk) < _FULL_BYTES:
                # Asterisk sends 4 KB at a time: waking for each would cost more than the bytes themselves.
                time.sleep(_GATHER_S)
        return int(announced_bytes)


def storage_fault(error: OSError, path: Path) -> DataError:
    """The error for a file that can't be written: StorageFull when there is no room, else DataError."""
    if error.errno in _NO_ROOM:
        return StorageFull(
            f"There is no room left for recordings in {path.parent} ({error.strerror}).",
            "Free some space on its disk, then sync again. What was stored before is unharmed.",
        )
    return DataError(
        f"{path.parent} can't be written to: {error.strerror}.",
        "Give this user the right to write there, or set PBX_DATA_DIR to another directory.",
    )


def _authorization(connection: Connection) -> str:
    login = f"{connection.ari_username}:{connection.ari_password.get_secret_value()}"
    return f"Basic {b64encode(login.encode()).decode()}"


def _tls(connection: Connection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except (OSError, ssl.SSLError):
        raise SettingsError(
            f"The CA file {connection.ca_file} can't be read as PEM certificates.", "Mend FREEPBX_CA_FILE."
        ) from None


def _message(text: str) -> str:
    """ARI's own word for an error, "" where it has none."""
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer.get("error") or "")
    except (ValueError, AttributeError):
        return ""
