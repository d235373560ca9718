"""A simulated PBX whose clock a test sets, and a raw AMI connection to it."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from pbx.demo.ami_messages import Release
from pbx.demo.asterisk_16 import ASTERISK_16
from tests.simulator.simulated_pbx import SimulatedPbx

BUSY_AT = datetime(2026, 11, 18, 10, 20, tzinfo=UTC)  # the busiest time of a Wednesday
_UNDIVIDED_BYTES = 1 << 20


class Clock:
    """A clock that a test sets. The PBX then sends all events up to the new moment together."""

    def __init__(self, at: datetime = BUSY_AT) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


@contextmanager
def running_pbx(release: Release = ASTERISK_16, at: datetime = BUSY_AT) -> Iterator[tuple[SimulatedPbx, Clock]]:
    """A simulated PBX without recordings, on ports that the system chose, and its clock."""
    clock = Clock(at)
    with SimulatedPbx(release=release, clock=clock) as pbx:
        yield pbx, clock


class AmiReader:
    """A connection to AMI that is read until a pattern matches."""

    def __init__(self, host: str, port: int) -> None:
        self.sock = socket.create_connection((host, port), timeout=10)
        self.received = b""

    def until(self, pattern: bytes) -> bytes:
        """The bytes up to a match. Raises TimeoutError if there is none, EOFError if the PBX closes first."""
        while not (found := re.search(pattern, self.received, re.DOTALL)):
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.received)
            self.received += data
        taken, self.received = self.received[: found.end()], self.received[found.end() :]
        return taken

    def rest(self) -> bytes:
        """The bytes until the PBX closes the connection."""
        while data := self.sock.recv(65536):
            self.received += data
        return self.received


class RawConnection(AmiReader):
    """An AMI connection to a simulated PBX, over which a test sends text."""

    def __init__(self, pbx: SimulatedPbx) -> None:
        super().__init__("127.0.0.1", pbx.ami_port)
        self.pbx = pbx

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, text: str, piece: int = _UNDIVIDED_BYTES) -> None:
        """Send lines, including the empty line that ends a message, in pieces of `piece` bytes."""
        data = text.replace("\n", "\r\n").encode()
        for start in range(0, len(data), piece):
            self.sock.sendall(data[start : start + piece])

    def log_in(self, events: str = "off") -> bytes:
        """Log in with an event mask, and return the response."""
        self.until(rb"\r\n")
        self.send(f"Action: Login\nUsername: {self.pbx.username}\nSecret: {self.pbx.password}\nEvents: {events}\n\n")
        return self.until(rb"\r\n\r\n")
