"""HTTP with a total time limit: connecting, TLS, headers and body share it.

A socket's timeout starts again with every byte, so a peer that sends a byte now and then could delay a reader forever.
"""

import contextlib
import http.client
import io
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CHECK_S = 0.5  # how often a waiting read calls `check`


class OutOfTime(Exception):
    """The time limit passed before the peer had answered."""


class _Deadline(NamedTuple):
    end: float  # on the monotonic clock
    check: Callable[[], object]


_NO_LIMIT = _Deadline(math.inf, lambda: None)
_limit: ContextVar[_Deadline] = ContextVar("limit", default=_NO_LIMIT)


@contextlib.contextmanager
def time_limit(seconds: float, check: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Limit the total time of this thread's timed connections within the block, including retries.

    They raise OutOfTime once it has passed. While they wait they call `check` now and then, and raise what it raises.
    """
    token = _limit.set(_Deadline(time.monotonic() + seconds, check))
    try:
        yield
    finally:
        _limit.reset(token)


def time_left() -> float:
    """Return the seconds left of the time limit; infinity without a limit. Raises OutOfTime when none are left."""
    limit = _limit.get()
    limit.check()
    left_s = limit.end - time.monotonic()
    if left_s <= 0:
        raise OutOfTime
    return left_s


def announced_bytes(length: str) -> int | None:
    """Return the number in a Content-Length header; None when it is missing or implausible."""
    return int(length) if length.isascii() and length.isdecimal() and len(length) <= 15 else None


class _TimedReader(io.RawIOBase):
    """A socket's incoming bytes; a read never waits beyond the time limit."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._idle_s = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        idle_end = math.inf if self._idle_s is None else time.monotonic() + self._idle_s
        while True:
            idle_left_s = idle_end - time.monotonic()
            self._sock.settimeout(max(min(time_left(), idle_left_s, _CHECK_S), 0.001))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                time_left()
                if time.monotonic() >= idle_end:
                    raise

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReader(sock))


class TimedHTTPConnection(HTTPConnection):
    """An HTTP connection that respects `time_limit`."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        self.timeout = _shortened(self.timeout)
        return super()._new_conn()


class TimedHTTPSConnection(HTTPSConnection):
    """An HTTPS connection that respects `time_limit`."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        self.timeout = _shortened(self.timeout)  # limits the TLS handshake as well
        return super()._new_conn()


class TimedHTTPPool(HTTPConnectionPool):
    """Timed connections to one server."""

    ConnectionCls = TimedHTTPConnection


class TimedHTTPSPool(HTTPSConnectionPool):
    """Timed connections to one server over TLS."""

    ConnectionCls = TimedHTTPSConnection


POOLS = {"http": TimedHTTPPool, "https": TimedHTTPSPool}


def _shortened(timeout_s: Any) -> Any:
    left_s = time_left()
    return min(timeout_s, left_s) if isinstance(timeout_s, int | float) else None if left_s == math.inf else left_s
