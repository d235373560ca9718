"""A PBX on loopback for tests of the listener: it answers with captured bytes and sends a test's events."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from pbx.live.listener import Listener
from pbx.settings import Settings, load_settings
from pbx.store.job_queue import required_connection
from tests.unit.asterisk.ami.replay_server import ReplayServer, Session, replay

OK = b"Response: Success\r\nActionID: x\r\n\r\n"
DENIED = b"Response: Error\r\nActionID: x\r\nMessage: Permission denied\r\n\r\n"
EMPTY = (
    b"Response: Success\r\nActionID: x\r\nEventList: start\r\n\r\n"
    b"Event: Over\r\nActionID: x\r\nEventList: Complete\r\nListItems: 0\r\n\r\n"
)


class FakePbx:
    """A PBX for one connection at a time. `entries`: the QueueEntry events in its reply to QueueStatus."""

    def __init__(self) -> None:
        self.entries = b""
        self.may_filter = True
        self.requests: list[str] = []
        self.connections = 0
        self._session: Session | None = None
        self._lock = threading.Lock()

    def serve(self, session: Session) -> None:
        send_unlocked = session.send
        session.send = lambda data: self._locked(send_unlocked, data)  # type: ignore[method-assign]
        session.log_in()
        self._session = session
        self.connections += 1
        for action in session.actions():
            name = action["Action"]
            self.requests.append(name)
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

    def send_events(self, data: bytes, size: int = 1000) -> None:
        """Send bytes in pieces of `size`, which may end within a message."""
        assert self._session is not None
        with self._lock:
            for start in range(0, len(data), size):
                self._session.sock.sendall(data[start : start + size])

    def hang_up(self) -> None:
        assert self._session is not None
        self._session.sock.shutdown(2)


def queue_entry(uniqueid: str, queue: str, wait_s: int) -> bytes:
    return (
        f"Event: QueueEntry\r\nActionID: x\r\nQueue: {queue}\r\nUniqueid: {uniqueid}\r\nWait: {wait_s}\r\n\r\n".encode()
    )


@contextmanager
def start_fake_pbx(monkeypatch: pytest.MonkeyPatch, version: int = 22) -> Iterator[tuple[FakePbx, ReplayServer]]:
    """Start the PBX and set the environment variables that connect to it."""
    pbx = FakePbx()
    with replay(pbx.serve, version=version, prefix="bare-") as server:
        for name, value in (("HOST", "127.0.0.1"), ("AMI_PORT", server.port), ("AMI_USERNAME", "notebook")):
            monkeypatch.setenv(f"FREEPBX_{name}", str(value))
        monkeypatch.setenv("FREEPBX_AMI_PASSWORD", "lab-ami-secret")
        yield pbx, server


@contextmanager
def listening(engine: Engine, settings: Settings | None = None) -> Iterator[Listener]:
    """Run a listener in a thread. On exit, stop it, which stores all received events."""
    settings = settings or load_settings()
    stop, started = threading.Event(), threading.Event()
    listener = Listener(engine, settings, required_connection(engine, settings))
    thread = threading.Thread(target=listener.run, args=(stop, lambda _: started.set()), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield listener
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
