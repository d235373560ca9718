"""A demo PBX whose time a test moves, and a bare line to it."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from pbx.demo.pbx import DemoPbx
from pbx.demo.recording_dir import Shelf

BUSY_AT = datetime(2026, 11, 18, 10, 20, tzinfo=UTC)  # a Wednesday's peak
BYTES_ENOUGH = 1 << 20


class Clock:
    """Stands until a test moves it: then all that the story has until there happens at once."""

    def __init__(self, at: datetime = BUSY_AT) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


@contextmanager
def living(version: Literal["16", "22"] = "16", at: datetime = BUSY_AT) -> Iterator[tuple[DemoPbx, Clock]]:
    """It listens on ports of its own, with an empty shelf."""
    clock = Clock(at)
    with DemoPbx(version=version, clock=clock, shelf=Shelf()) as pbx:
        yield pbx, clock


class BareLine:
    """A connection on which a test writes bytes, and reads until it has what it waits for."""

    def __init__(self, pbx: DemoPbx) -> None:
        self.sock = socket.create_connection(("127.0.0.1", pbx.ami_port), timeout=10)
        self.pbx = pbx
        self.received = b""

    def __enter__(self) -> "BareLine":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def say(self, text: str, piece: int = BYTES_ENOUGH) -> None:
        """Send lines, each message's end included, in pieces of so many bytes."""
        data = text.replace("\n", "\r\n").encode()
        for start in range(0, len(data), piece):
            self.sock.sendall(data[start : start + piece])

    def until(self, pattern: bytes) -> bytes:
        """All that came up to what matches; raises TimeoutError without it, EOFError once the PBX has hung up."""
        while not (found := re.search(pattern, self.received, re.DOTALL)):
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.received)
            self.received += data
        taken, self.received = self.received[: found.end()], self.received[found.end() :]
        return taken

    def rest(self) -> bytes:
        """What comes until the PBX hangs up."""
        while data := self.sock.recv(65536):
            self.received += data
        return self.received

    def log_in(self, events: str = "off") -> bytes:
        self.until(rb"\r\n")
        self.say(f"Action: Login\nUsername: {self.pbx.username}\nSecret: {self.pbx.password}\nEvents: {events}\n\n")
        return self.until(rb"\r\n\r\n")
