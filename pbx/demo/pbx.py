"""The demo PBX: AMI and ARI on loopback, in a thread of its own. `with DemoPbx() as pbx: pbx.connection()`."""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Self

from pydantic import SecretStr

from pbx.demo.ami import AmiServer
from pbx.demo.ari import serve_ari
from pbx.demo.company import ZONE
from pbx.demo.faults import Faults
from pbx.demo.recording_dir import Shelf, stock_shelf
from pbx.demo.wire import READ_LIMIT_BYTES, Wire
from pbx.demo.world import World, usual_boot
from pbx.errors import DataError
from pbx.settings import Connection

HOST = "127.0.0.1"
_START_S = 10.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def utc_now() -> datetime:
    """Now, by this computer's clock."""
    return datetime.now(UTC)


class DemoPbx:
    """A living PBX of the demo company. Its methods may be called from any thread.

    `version` is the Asterisk it says it is; port 0 lets the system choose; without a password it makes one up. `clock`
    is what the story goes by. Raises DataError, when entered, if a port is taken.
    """

    def __init__(
        self,
        *,
        version: Literal["16", "22"] = "16",
        seed: int = 1,
        ami_port: int = 0,
        ari_port: int = 0,
        username: str = "demo",
        password: str = "",
        clock: Callable[[], datetime] = utc_now,
        shelf: Shelf | None = None,
    ) -> None:
        self.version: Literal["16", "22"] = version
        self.seed = seed
        self.ami_port, self.ari_port = ami_port, ari_port
        self.username = username
        self.password = password or secrets.token_urlsafe(18)
        self.clock = clock
        self.faults = Faults()
        self.shelf = stock_shelf(clock(), seed) if shelf is None else shelf
        self.ahead = timedelta()  # how far the PBX's own clock is off
        self.world = World(seed, usual_boot(clock()), version)
        self._ami = AmiServer(self)
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def connection(self) -> Connection:
        """How the app reaches it."""
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
        """What its own clock shows: the story's time, unless the clock jumped."""
        return self.clock() + self.ahead

    # What happens to a whole PBX

    def change_password(self, password: str = "") -> str:
        """Another password from now on, made up if none is given; who is logged in stays so. Returns it."""
        self.password = password or secrets.token_urlsafe(18)
        return self.password

    def restart(self) -> None:
        """Start Asterisk anew: calls are gone, counters at 0, connections lost."""
        self.world = World(self.seed, self.clock(), self.version)
        self.drop_connections()

    def jump_clock(self, by: timedelta) -> None:
        """Set the PBX's clock forward or back; the story goes on as before."""
        self.ahead += by

    def drop_connections(self) -> None:
        """Reset every connection there is; who connects again is served."""
        self._call(self._drop)

    def _drop(self) -> None:
        for wire in list(self._wires):
            wire.reset()

    # The servers

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
                "Another program may use them: leave the ports out, and free ones are chosen.",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and every connection to it. It can't be started again."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._call(self._stopped.set)
        self._thread.join(_START_S)

    def _call(self, do: Callable[[], None]) -> None:
        """Have the loop do it, if it runs."""
        with contextlib.suppress(RuntimeError):  # it ended just now
            if self._loop is not None:
                self._loop.call_soon_threadsafe(do)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        ami = await asyncio.start_server(self._handler("ami"), HOST, self.ami_port, limit=READ_LIMIT_BYTES)
        try:
            ari = await asyncio.start_server(self._handler("ari"), HOST, self.ari_port, limit=READ_LIMIT_BYTES)
        except OSError:
            ami.close()
            raise
        self.ami_port, self.ari_port = (server.sockets[0].getsockname()[1] for server in (ami, ari))
        ticking = asyncio.create_task(self._ami.tell_events())
        ready.set()
        await self._stopped.wait()
        ticking.cancel()
        for server in (ami, ari):
            server.close()
        self._drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(ticking, *self._tasks, return_exceptions=True)

    def _handler(self, name: Literal["ami", "ari"]) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            wire = Wire(reader, writer, self.faults)
            if self.faults.take("refuse", name):
                wire.reset()
                return
            task = asyncio.current_task()
            self._wires.add(wire)
            if task is not None:
                self._tasks.add(task)
            try:
                with contextlib.suppress(ConnectionError, TimeoutError, ValueError, asyncio.CancelledError):
                    await (self._ami.serve(wire) if name == "ami" else serve_ari(reader, writer, self))
                    await wire.close()
            finally:
                self._wires.discard(wire)
                self._tasks.discard(task)
                wire.reset()

        return handle
