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

from pbx.asterisk.ari import errors as faults
from pbx.errors import DataError, Deadline, SettingsError, StorageFull, Unreachable
from pbx.settings import Connection
from pbx.timed_http import POOLS, OutOfTime, announced_bytes, time_limit

ATTEMPTS = 3  # for a transfer that breaks off
_CHUNK_BYTES = 256 * 1024
_FULL_BYTES = 64 * 1024
_GATHER_S = 0.0015
_ANSWER_S = 300.0  # for all but a recording; Asterisk walks through every folder before it answers with the list
_ANSWER_BYTES = 64 * 1024 * 1024  # about 700,000 recordings
_ANSWER_VALUES = 2_500_000  # JSON values in them: two bytes of an answer can take a hundred in memory
_PACE_S = 30.0  # a download is judged by what arrives in such a time
_LEAST_BYTES_PER_S = 2000  # a call is recorded at 16,000: a slower line never catches up with even one
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
    are not. A download may take `deadline_s` in all, any other request five minutes of it: connecting, TLS, headers
    and all attempts included. Neither may go `idle_timeout_s` without a byte, nor a download fall below a least rate.

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
        pace_s: float = _PACE_S,
        stop: threading.Event | None = None,
    ) -> None:
        self.connection = connection
        self._deadline_s = deadline_s
        self._backoff_s = backoff_s
        self._pace_s = pace_s
        self._cancelled = threading.Event()
        self._stop = stop or threading.Event()
        self._path = connection.ari_path
        self._pool = POOLS["https" if connection.ari_tls else "http"](
            connection.host,
            connection.ari_port,
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
        """Break off all transfers, of other threads too: they raise Unreachable, as they do when `stop` is set."""
        self._cancelled.set()

    def info(self) -> SystemInfo:
        """Version, entity id and start of the Asterisk that answers."""
        answer = self._json("/asterisk/info")
        try:
            started_at = datetime.fromisoformat(answer["status"]["startup_time"]).astimezone(UTC)
            version, entity_id = self._texts(answer["system"][name] for name in ("version", "entity_id"))
            return SystemInfo(version, entity_id, started_at)
        except (KeyError, TypeError, ValueError, OverflowError):
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

    def download(self, name: str, target: Path, accept: Callable[[int], None] | None = None) -> int:
        """Fetch a recording into `target`, which appears only when all of it is there; return its size in bytes.

        `accept` is that of `fetch`.

        Raises StorageFull or DataError when it can't be written, and the class's errors; nothing is left behind then.
        """
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:  # buffered: a raw write may take only a part
                size_bytes = self.fetch(name, file, accept)
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise storage_fault(error, target) from error
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return size_bytes

    def fetch(self, name: str, sink: BinaryIO, accept: Callable[[int], None] | None = None) -> int:
        """Write a recording into an open, empty file and return its size in bytes; OSError is the file's own.

        `accept` is given the announced size before any of it is fetched; what it raises ends the download.
        """
        return self._fetch(f"/recordings/stored/{quote(name, safe='')}/file", sink, self._deadline_s, accept)

    def _json(self, path: str) -> Any:
        body = io.BytesIO()
        self._fetch(path, body, min(_ANSWER_S, self._deadline_s), self._accept_answer)
        answer = body.getvalue()
        if sum(answer.count(mark) for mark in (b",", b"[", b"{")) > _ANSWER_VALUES:
            raise faults.endless(self.connection)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise faults.not_json(self.connection) from None

    def _accept_answer(self, size_bytes: int) -> None:
        if size_bytes > _ANSWER_BYTES:
            raise faults.endless(self.connection)

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

    def _fetch(self, path: str, sink: BinaryIO, limit_s: float, accept: Callable[[int], None] | None) -> int:
        """GET into `sink`, all of it again when the transfer breaks off: ARI has no Range (it sends the whole file)."""
        with time_limit(limit_s, self._check_wanted):
            try:
                return self._try(path, sink, accept)
            except OutOfTime:
                where = f"{self.connection.host}:{self.connection.ari_port}"
                fix = "Try again. If it happens again, the PBX is overloaded or the network very slow."
                raise Deadline(f"{where} took longer than {limit_s:g} s to answer.", fix) from None

    def _try(self, path: str, sink: BinaryIO, accept: Callable[[int], None] | None) -> int:
        for attempt in range(ATTEMPTS):
            self._check_wanted()
            if attempt:
                sink.seek(0)
                sink.truncate()
            try:
                return self._receive(path, sink, accept)
            except http.HTTPError as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, http.MaxRetryError):
                    raise faults.line_fault(error, self.connection) from None
            self._cancelled.wait(self._backoff_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _check_wanted(self) -> None:
        if self._cancelled.is_set() or self._stop.is_set():
            raise Unreachable("The transfer was broken off.", "Start it again.")

    def _receive(self, path: str, sink: BinaryIO, accept: Callable[[int], None] | None) -> int:
        url = f"{self._path}{path}"
        response = self._pool.urlopen("GET", url, redirect=False, preload_content=False, decode_content=False)
        try:
            if response.status != 200:
                kind, text = response.headers.get("Content-Type", ""), response.read(500).decode(errors="replace")
                raise faults.refusal(response.status, kind, _message(text), self.connection)
            size_bytes = announced_bytes(response.headers.get("Content-Length", ""))
            if size_bytes is None or "Transfer-Encoding" in response.headers:
                raise faults.no_length(self.connection)
            if accept is not None:
                accept(size_bytes)
            self._copy(response, sink.write, size_bytes)
            return size_bytes
        except BaseException:
            response.close()  # the rest of the answer is still in it
            raise
        finally:
            response.release_conn()

    def _copy(self, response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], size_bytes: int) -> None:
        """Write the body; urllib3 raises IncompleteRead when it is shorter than announced."""
        left_bytes = judged_bytes = size_bytes
        judged_at = time.monotonic()
        while left_bytes:
            chunk = response.read1(_CHUNK_BYTES)
            write(chunk)
            left_bytes -= len(chunk)
            self._check_wanted()
            took_s = time.monotonic() - judged_at
            if left_bytes and took_s > self._pace_s:
                if judged_bytes - left_bytes < _LEAST_BYTES_PER_S * took_s:
                    text = f"The PBX sent less than {_LEAST_BYTES_PER_S:,} bytes a second for {took_s:.0f} s."
                    raise Deadline(
                        text, "Try again. If it happens again, the PBX is overloaded or the network very slow."
                    )
                judged_bytes, judged_at = left_bytes, judged_at + took_s
            if left_bytes and len(chunk) < _FULL_BYTES:
                # Asterisk sends 4 KB at a time: waking for each would cost more than the bytes themselves.
                time.sleep(_GATHER_S)


def storage_fault(error: OSError, path: Path) -> DataError:
    """The error for a file that can't be written: StorageFull when there is no room, else DataError."""
    if error.errno in _NO_ROOM:
        return StorageFull(
            f"There is no room left for recordings in {path.parent} ({error.strerror}).",
            "Free some space on its disk, then sync again. Recordings already stored are safe.",
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
            f"The CA file {connection.ca_file} can't be read as PEM certificates.", "Fix FREEPBX_CA_FILE."
        ) from None


def _message(text: str) -> str:
    """ARI's own word for an error, "" where it has none."""
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer.get("error") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""
