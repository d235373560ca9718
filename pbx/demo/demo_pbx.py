"""The demo PBX: it serves AMI and ARI on the loopback interface, in a thread of its own."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import SecretStr

from pbx.demo.ami_messages import Release
from pbx.demo.ami_server import AmiServer, AmiSession
from pbx.demo.ari_server import AriConnection
from pbx.demo.asterisk_16 import ASTERISK_16
from pbx.demo.client_connection import READ_LIMIT_BYTES, ClientConnection
from pbx.demo.company import ZONE
from pbx.demo.recording_dir import RecordingDir
from pbx.demo.simulated_asterisk import last_regular_boot
from pbx.errors import DataError
from pbx.settings import Connection

HOST = "127.0.0.1"
_START_S = 10.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def utc_now() -> datetime:
    """The time by this computer's clock."""
    return datetime.now(UTC)


class DemoPbx:
    """A running PBX of the demo company, on ports and with a password of its own. It is a context manager.

    `clock` is the time of the simulation. Unless `recordings` are given, they are those of the calls that have ended.
    Raises DataError on entering if it can't listen.
    """

    def __init__(
        self,
        *,
        release: Release = ASTERISK_16,
        clock: Callable[[], datetime] = utc_now,
        recordings: RecordingDir | None = None,
    ) -> None:
        self.release = release
        self.ami_port, self.ari_port = 0, 0  # 0: the system chooses a port on entering
        self.username = "demo"
        self.password = secrets.token_urlsafe(18)
        self.clock = clock
        self.recordings = RecordingDir() if recordings is None else recordings
        if recordings is None:
            self.recordings.add_ended_calls(clock())
        self.asterisk = release.asterisk_class(last_regular_boot(clock()))
        self._ami = AmiServer(self)
        self._connections: set[ClientConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def connection(self) -> Connection:
        """The connection with which the app reaches the PBX."""
        return Connection(
            host=HOST,
            ami_port=self.ami_port,
            ami_username=self.username,
            ami_password=SecretStr(self.password),
            ari_port=self.ari_port,
            ari_username=self.username,
            ari_password=SecretStr(self.password),
            timezone=ZONE,
        )

    def pbx_now(self) -> datetime:
        """The time that the PBX's own clock shows."""
        return self.clock()

    def __enter__(self) -> Self:
        ready: threading.Event = threading.Event()
        fault: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(ready))
            except OSError as error:
                fault.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=run, name="demo-pbx", daemon=True)
        self._thread.start()
        if not ready.wait(_START_S) or fault:
            raise DataError(
                f"The demo PBX could not start on ports {self.ami_port} and {self.ari_port} ({fault or 'too slow'}).",
                "Another program may use them. Stop it, or start the demo again: it then chooses free ports.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the servers and reset every connection. The PBX can't be entered again."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._call_in_loop(self._stopped.set)
        self._thread.join(_START_S)

    def _call_in_loop(self, function: Callable[[], None]) -> None:
        """Call a function in the servers' event loop, if it is running."""
        with contextlib.suppress(RuntimeError):  # it has just ended
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def _reset_connections(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        ami = await asyncio.start_server(self._handler("ami"), HOST, self.ami_port, limit=READ_LIMIT_BYTES)
        try:
            ari = await asyncio.start_server(self._handler("ari"), HOST, self.ari_port, limit=READ_LIMIT_BYTES)
        except OSError:
            ami.close()
            raise
        self.ami_port, self.ari_port = (server.sockets[0].getsockname()[1] for server in (ami, ari))
        sending = asyncio.create_task(self._ami.send_events())
        ready.set()
        await self._stopped.wait()
        sending.cancel()
        for server in (ami, ari):
            server.close()
        self._reset_connections()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(sending, *self._tasks, return_exceptions=True)

    def _handler(self, server: Literal["ami", "ari"]) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = self._new_connection(reader, writer)
            if not self._accepts(server):
                connection.reset()
                return
            task = asyncio.current_task()
            self._connections.add(connection)
            if task is not None:
                self._tasks.add(task)
            try:
                with contextlib.suppress(ConnectionError, TimeoutError, ValueError, asyncio.CancelledError):
                    if server == "ami":
                        await self._ami.serve(self._new_session(connection))
                    else:
                        await self._new_ari_connection(connection).serve()
                    await connection.close()
            finally:
                self._connections.discard(connection)
                self._tasks.discard(task)
                connection.reset()

        return handle

    # What tests.simulator overrides

    def _accepts(self, server: Literal["ami", "ari"]) -> bool:
        """Whether a new connection is served; otherwise it is reset."""
        return True

    def _new_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> ClientConnection:
        return ClientConnection(reader, writer)

    def _new_session(self, connection: ClientConnection) -> AmiSession:
        return AmiSession(self, connection)

    def _new_ari_connection(self, connection: ClientConnection) -> AriConnection:
        return AriConnection(self, connection)
