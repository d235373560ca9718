"""The ARI client: lists and downloads recordings, and lists live channels, over HTTP."""

import errno
import io
import json
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import urllib3
import urllib3.exceptions as http

from pbx.asterisk.ari import errors
from pbx.errors import DataError, Deadline, SettingsError, StorageFull, Unreachable
from pbx.operating_system import replace_file
from pbx.settings import Connection
from pbx.timed_http import POOLS, OutOfTime, announced_bytes, time_limit

ATTEMPTS = 3  # for a transfer that is interrupted
_CHUNK_BYTES = 256 * 1024
_SMALL_READ_BYTES = 64 * 1024
_READ_PAUSE_S = 0.0015
_ANSWER_S = 300.0  # for all but a download; Asterisk reads every folder before it sends the list
_MAX_ANSWER_BYTES = 64 * 1024 * 1024  # about 700,000 recordings
_MAX_ANSWER_VALUES = 2_500_000  # in JSON; two bytes of an answer can take a hundred in memory
_PROGRESS_CHECK_S = 30.0  # how often a download's rate is checked
_MIN_BYTES_PER_S = 2000  # calls are recorded at 16,000: a slower connection never catches up
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class StoredRecording(NamedTuple):
    """A recording as ARI lists it: its path below `recording` without the extension, and the extension."""

    name: str
    format: str


class SystemInfo(NamedTuple):
    """The Asterisk that answers: its version, its entity id and its start time (UTC)."""

    version: str
    entity_id: str
    started_at: datetime


class AriClient:
    """A client for the ARI of one PBX, with Basic authentication. Up to `parallel` threads may share it.

    Failed connections, lost answers and status 5xx are retried with growing pauses, the first of `backoff_s`; status
    401, 403 and 404 are not. A download may take `deadline_s`, any other request up to five minutes of that, including
    connecting, TLS and all attempts. Both fail after `idle_timeout_s` without a byte, and a download also when it falls
    below a minimum rate, checked every `pace_s`.

    Every method raises Unreachable or Deadline for the connection, and AriLoginError (401), AriDenied (403),
    AriNotFound (404), AriServerError (5xx) or AriProtocolError for the answer.
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
        pace_s: float = _PROGRESS_CHECK_S,
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def cancel(self) -> None:
        """Stop all transfers, in all threads: they raise Unreachable, as they do when `stop` is set."""
        self._cancelled.set()

    def info(self) -> SystemInfo:
        """Return which Asterisk answers."""
        answer = self._json("/asterisk/info")
        try:
            started_at = datetime.fromisoformat(answer["status"]["startup_time"]).astimezone(UTC)
            version, entity_id = self._texts(answer["system"][name] for name in ("version", "entity_id"))
            return SystemInfo(version, entity_id, started_at)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise errors.not_json_error(self.connection) from None

    def channels(self) -> set[str]:
        """Return the uniqueids of all live channels."""
        answer = self._json("/channels")
        try:
            return set(self._texts(channel["id"] for channel in answer))
        except (KeyError, TypeError):
            raise errors.not_json_error(self.connection) from None

    def list_recordings(self) -> list[StoredRecording]:
        """Return all stored recordings, including those still being recorded. ARI has no paging, filter or dates."""
        answer = self._json("/recordings/stored")
        try:
            names = self._texts(item["name"] for item in answer)
            formats = self._texts(item["format"] for item in answer)
        except (KeyError, TypeError):
            raise errors.not_json_error(self.connection) from None
        return list(map(StoredRecording, names, formats))

    def download(self, name: str, target: Path, accept: Callable[[int], None] | None = None) -> int:
        """Download a recording to `target` and return its size in bytes. The file appears only when it is complete.

        `accept`: see `fetch`. Raises StorageFull or DataError if the file can't be written, and the class's errors.
        After an error, no part of the file remains.
        """
        part = target.with_name(f"{target.name}.part")
        with removed_on_error(part):
            with part.open("wb") as file:  # buffered: a raw write may take only a part
                size_bytes = self.fetch(name, file, accept)
            replace_file(part, target)
        return size_bytes

    def fetch(self, name: str, sink: BinaryIO, accept: Callable[[int], None] | None = None) -> int:
        """Write a recording into an open, empty file and return its size in bytes. Raises OSError from the file.

        `accept` is called with the announced size before the download; what it raises ends the download.
        """
        return self._fetch(f"/recordings/stored/{quote(name, safe='')}/file", sink, self._deadline_s, accept)

    def _json(self, path: str) -> Any:
        body = io.BytesIO()
        self._fetch(path, body, min(_ANSWER_S, self._deadline_s), self._accept_answer)
        answer = body.getvalue()
        if sum(answer.count(mark) for mark in (b",", b"[", b"{")) > _MAX_ANSWER_VALUES:
            raise errors.list_too_large_error(self.connection)
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise errors.not_json_error(self.connection) from None

    def _accept_answer(self, size_bytes: int) -> None:
        if size_bytes > _MAX_ANSWER_BYTES:
            raise errors.list_too_large_error(self.connection)

    def _texts(self, values: Iterable[Any]) -> list[str]:
        """Check that all values are texts that a database accepts, and return them. Raises AriProtocolError."""
        texts = list(values)
        try:
            together = "".join(texts).encode()
        except (TypeError, UnicodeEncodeError):  # such as a number, or an unpaired surrogate
            raise errors.not_json_error(self.connection) from None
        if b"\0" in together:
            raise errors.not_json_error(self.connection)
        return texts

    def _fetch(self, path: str, sink: BinaryIO, limit_s: float, accept: Callable[[int], None] | None) -> int:
        """GET `path` into `sink`. An interrupted transfer starts again from the first byte: ARI ignores Range."""
        with time_limit(limit_s, self._check_cancelled):
            try:
                return self._try(path, sink, accept)
            except OutOfTime:
                where = f"{self.connection.host}:{self.connection.ari_port}"
                fix = "Try again. If it happens again, check the PBX’s load and the network."
                raise Deadline(f"{where} took longer than {limit_s:g} s to answer.", fix) from None

    def _try(self, path: str, sink: BinaryIO, accept: Callable[[int], None] | None) -> int:
        for attempt in range(ATTEMPTS):
            self._check_cancelled()
            if attempt:
                sink.seek(0)
                sink.truncate()
            try:
                return self._receive(path, sink, accept)
            except http.HTTPError as error:
                if attempt == ATTEMPTS - 1 or isinstance(error, http.MaxRetryError):
                    raise errors.connection_error(error, self.connection) from None
            self._cancelled.wait(self._backoff_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _check_cancelled(self) -> None:
        if self._cancelled.is_set() or self._stop.is_set():
            raise Unreachable("The transfer was cancelled.", "Start it again.")

    def _receive(self, path: str, sink: BinaryIO, accept: Callable[[int], None] | None) -> int:
        url = f"{self._path}{path}"
        response = self._pool.urlopen("GET", url, redirect=False, preload_content=False, decode_content=False)
        try:
            if response.status != 200:
                kind, text = response.headers.get("Content-Type", ""), response.read(500).decode(errors="replace")
                raise errors.status_error(response.status, kind, _message(text), self.connection)
            size_bytes = announced_bytes(response.headers.get("Content-Length", ""))
            if size_bytes is None or "Transfer-Encoding" in response.headers:
                raise errors.no_length_error(self.connection)
            if accept is not None:
                accept(size_bytes)
            self._copy(response, sink.write, size_bytes)
            return size_bytes
        except BaseException:
            response.close()  # the rest of the answer is unread
            raise
        finally:
            response.release_conn()

    def _copy(self, response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], size_bytes: int) -> None:
        """Write the body. urllib3 raises IncompleteRead if it is shorter than announced."""
        left_bytes = checked_bytes = size_bytes
        checked_at = time.monotonic()
        while left_bytes:
            chunk = response.read1(_CHUNK_BYTES)
            write(chunk)
            left_bytes -= len(chunk)
            self._check_cancelled()
            took_s = time.monotonic() - checked_at
            if left_bytes and took_s > self._pace_s:
                if checked_bytes - left_bytes < _MIN_BYTES_PER_S * took_s:
                    text = f"The PBX sent less than {_MIN_BYTES_PER_S:,} bytes a second for {took_s:.0f} s."
                    raise Deadline(text, "Try again. If it happens again, check the PBX’s load and the network.")
                checked_bytes, checked_at = left_bytes, checked_at + took_s
            if left_bytes and len(chunk) < _SMALL_READ_BYTES:
                # Asterisk sends 4 KB at a time: reading each one separately would cost more CPU time than the copy.
                time.sleep(_READ_PAUSE_S)


@contextmanager
def removed_on_error(part: Path) -> Iterator[None]:
    """Remove an unfinished file when the block raises; an OSError becomes StorageFull or DataError."""
    try:
        yield
    except OSError as error:
        part.unlink(missing_ok=True)
        raise storage_error(error, part) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def storage_error(error: OSError, path: Path) -> DataError:
    """The error for a file that can't be written: StorageFull if the disk is full, otherwise DataError."""
    if error.errno in _DISK_FULL:
        return StorageFull(
            f"Not enough disk space for recordings in {path.parent} ({error.strerror}).",
            "Free disk space, then sync again. Recordings already downloaded are kept.",
        )
    return DataError(
        f"Can't write to {path.parent}: {error.strerror}.",
        "Give this user write permission there, or set PBX_DATA_DIR to another directory.",
    )


def _authorization(connection: Connection) -> str:
    login = f"{connection.ari_username}:{connection.ari_password.get_secret_value()}"
    return f"Basic {b64encode(login.encode()).decode()}"


def _tls(connection: Connection) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=connection.ca_file)
    except (OSError, ssl.SSLError):
        raise SettingsError(
            f"The CA file {connection.ca_file} can't be read as PEM certificates.", "Correct FREEPBX_CA_FILE."
        ) from None


def _message(text: str) -> str:
    """ARI's own message in an error, or ""."""
    try:
        answer = json.loads(text)
        return str(answer.get("message") or answer.get("error") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""
