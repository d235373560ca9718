"""A PBX on loopback for tests of the listener: it answers with captured bytes and sends events that a test gives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from pbx.live.listener import Listener
from pbx.settings import Settings, load_settings
from pbx.store.job_queue import required_connection
from tests.unit.asterisk.ami.replay import ReplayServer, Session, replay

OK = b"Response: Success\r\nActionID: x\r\n\r\n"
DENIED = b"Response: Error\r\nActionID: x\r\nMessage: Permission denied\r\n\r\n"
EMPTY = (
    b"Response: Success\r\nActionID: x\r\nEventList: start\r\n\r\n"
    b"Event: Over\r\nActionID: x\r\nEventList: Complete\r\nListItems: 0\r\n\r\n"
)


class Line:
    """What the PBX sends on each connection. `entries`: the QueueEntry events in its reply to QueueStatus."""

    def __init__(self) -> None:
        self.entries = b""
        self.may_filter = True
        self.asked: list[str] = []
        self.connections = 0
        self._session: Session | None = None
        self._lock = threading.Lock()

    def serve(self, session: Session) -> None:
        plain = session.send
        session.send = lambda data: self._locked(plain, data)  # type: ignore[method-assign]
        session.log_in()
        self._session = session
        self.connections += 1
        for action in session.actions():
            name = action["Action"]
            self.asked.append(name)
            if name in ("Filter", "Events"):
                session.reply(action, OK if self.may_filter else DENIED)
            elif name == "QueueStatus":
                session.reply(
                    action, EMPTY.replace(b"\r\n\r\nEvent: Over", b"\r\n\r\n" + self.entries + b"Event: Over")
                )
            elif name == "CoreShowChannels":
                session.reply(action, EMPTY)
            else:
                session.answer(action)

    def _locked(self, send: object, data: bytes) -> None:
        with self._lock:
            send(data)  # type: ignore[operator]

    def say(self, data: bytes, size: int = 1000) -> None:
        """Send bytes in pieces that end anywhere."""
        assert self._session is not None
        with self._lock:
            for start in range(0, len(data), size):
                self._session.sock.sendall(data[start : start + size])

    def hang_up(self) -> None:
        assert self._session is not None
        self._session.sock.shutdown(2)


def entry(uniqueid: str, queue: str, wait_s: int) -> bytes:
    return (
        f"Event: QueueEntry\r\nActionID: x\r\nQueue: {queue}\r\nUniqueid: {uniqueid}\r\nWait: {wait_s}\r\n\r\n".encode()
    )


@contextmanager
def pbx_on_line(monkeypatch: pytest.MonkeyPatch, version: int = 22) -> Iterator[tuple[Line, ReplayServer]]:
    """Start the PBX and set the environment to connect to it."""
    line = Line()
    with replay(line.serve, version=version, prefix="bare-") as server:
        for name, value in (("HOST", "127.0.0.1"), ("AMI_PORT", server.port), ("AMI_USERNAME", "notebook")):
            monkeypatch.setenv(f"FREEPBX_{name}", str(value))
        monkeypatch.setenv("FREEPBX_AMI_PASSWORD", "lab-ami-secret")
        yield line, server


@contextmanager
def listening(engine: Engine, settings: Settings | None = None) -> Iterator[Listener]:
    """Run a listener in a thread; at the end everything is stored."""
    settings = settings or load_settings()
    stop, begun = threading.Event(), threading.Event()
    watch = Listener(engine, settings, required_connection(engine, settings))
    thread = threading.Thread(target=watch.run, args=(stop, lambda _: begun.set()), daemon=True)
    thread.start()
    assert begun.wait(20)
    try:
        yield watch
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
