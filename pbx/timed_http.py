"""HTTP whose waits end: connecting, TLS, headers and body share one time limit.

A socket's own timeout starts again with every byte, so a peer that sends a byte now and then is waited for forever.
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

_LOOK_S = 0.5  # how often a read that waits looks whether it is still wanted


class OutOfTime(Exception):
    """The time limit passed while a peer was being waited for."""


class _Deadline(NamedTuple):
    end: float  # on the monotonic clock
    check: Callable[[], object]


_NO_LIMIT = _Deadline(math.inf, lambda: None)
_limit: ContextVar[_Deadline] = ContextVar("limit", default=_NO_LIMIT)


@contextlib.contextmanager
def time_limit(seconds: float, check: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Give the timed connections that this thread uses in the block so much time in all, retries included.

    They raise OutOfTime when it has passed, and whatever `check` raises, which is called now and then while they wait.
    """
    token = _limit.set(_Deadline(time.monotonic() + seconds, check))
    try:
        yield
    finally:
        _limit.reset(token)


def time_left() -> float:
    """Return the seconds left of the time limit, infinite without one. Raises OutOfTime when none is left."""
    limit = _limit.get()
    limit.check()
    left_s = limit.end - time.monotonic()
    if left_s <= 0:
        raise OutOfTime
    return left_s


def announced_bytes(length: str) -> int | None:
    """Return the number in a Content-Length header; None where there is none, or one that no file has."""
    return int(length) if length.isascii() and length.isdecimal() and len(length) <= 15 else None


class _TimedReader(io.RawIOBase):
    """A socket's incoming bytes; each read waits no longer than the time limit allows."""

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
            self._sock.settimeout(max(min(time_left(), idle_left_s, _LOOK_S), 0.001))
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
    """An HTTP connection that keeps to `time_limit`."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        self.timeout = _shortened(self.timeout)
        return super()._new_conn()


class TimedHTTPSConnection(HTTPSConnection):
    """An HTTPS connection that keeps to `time_limit`."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        self.timeout = _shortened(self.timeout)  # of the TLS handshake too, which as a whole ends then
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
