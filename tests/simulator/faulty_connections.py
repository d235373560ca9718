"""The demo PBX's connections, which cause the armed faults. `tests.simulator.faults` describes each kind."""

import asyncio
from contextvars import ContextVar
from typing import NoReturn

from pbx.demo.ami_messages import ReceivedAction, event_text, message_text, reply
from pbx.demo.ami_server import AmiHost, AmiSession
from pbx.demo.ari_server import AriConnection, AriHost
from pbx.demo.asterisk_http import HttpReply, Request, html_reply, json_reply
from pbx.demo.client_connection import ClientConnection
from pbx.demo.recording_dir import StoredFile
from tests.simulator.asterisk_22 import ASTERISK_22, refuse_empty_filter
from tests.simulator.faults import Faults

_SPOT: ContextVar[str] = ContextVar("spot")  # the spot at which the connection's task is
_PADDING = (("Filling", "x" * 1000),)
_LISTS = ("show", "status", "summary", "list", "peers", "registry")  # parts of the names of actions that return lists
_RECORDINGS = "/ari/recordings/stored"


class FaultyClientConnection(ClientConnection):
    """A connection that causes stalls, cuts and trickles."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults) -> None:
        super().__init__(reader, writer)
        self._faults = faults

    async def _send(self, data: bytes) -> None:
        spot = _SPOT.get()
        if stall := self._faults.take("stall", spot):
            await self.write(data[: stall.after_bytes])
            data = data[stall.after_bytes :]
            await asyncio.sleep(stall.seconds)
        if cut := self._faults.take("cut", spot):
            await self.write(data[: cut.after_bytes])
            self.reset()
            raise ConnectionResetError("A fault cut the connection.")
        if trickle := self._faults.take("trickle", spot):
            for position in range(len(data)):
                await self.write(data[position : position + 1])
                await asyncio.sleep(trickle.seconds)
            return
        await self.write(data)

    async def send_endlessly(self, data: bytes) -> NoReturn:
        """Send the same data until the client leaves. Raises ConnectionError then."""
        while True:
            await self.send(data)


class FaultyAmiSession(AmiSession):
    """An AMI session with faults."""

    def __init__(self, pbx: AmiHost, connection: FaultyClientConnection, faults: Faults) -> None:
        super().__init__(pbx, connection)
        self._faulty_connection, self._faults = connection, faults

    async def run(self) -> None:
        _SPOT.set("ami/greeting")
        await super().run()

    async def _send_events(self) -> None:
        _SPOT.set("ami/events")  # in this task only
        await super()._send_events()

    async def _handle(self, action: ReceivedAction) -> bool:
        spot = f"ami/{action.action}"
        _SPOT.set(spot)
        if self._faults.take("mute", spot):
            return True
        if self._faults.take("flood", spot):
            await self._faulty_connection.send_endlessly(event_text("Flood", "system", _PADDING).encode() * 50)
        if _returns_list(action.action):
            if slow := self._faults.take("slow_list", spot):
                await asyncio.sleep(slow.seconds)
            if self._faults.take("endless", spot):
                await self._connection.send(reply(action, "Success", ("EventList", "start")).encode())
                item = message_text((("Event", "Endless"), ("ActionID", action.get("actionid")), *_PADDING))
                await self._faulty_connection.send_endlessly(item.encode() * 50)
        return await super()._handle(action)

    def _add_filter(self, action: ReceivedAction) -> str:
        refused = refuse_empty_filter(action) if self._pbx.release is ASTERISK_22 else None
        return refused or super()._add_filter(action)

    def _answer(self, action: ReceivedAction, name: str) -> str:
        answer = super()._answer(action, name)
        if _returns_list(name) and self._faults.take("headless", f"ami/{action.action}"):
            return answer.partition("\r\n\r\n")[2]
        return answer


def _returns_list(action: str) -> bool:
    return any(part in action.lower() for part in _LISTS)


class FaultyAriConnection(AriConnection):
    """An ARI connection with faults."""

    def __init__(self, pbx: AriHost, connection: FaultyClientConnection, faults: Faults) -> None:
        super().__init__(pbx, connection)
        self._faulty_connection, self._faults = connection, faults
        self._wrong_length = False

    async def serve(self) -> None:
        _SPOT.set("ari/")
        await super().serve()

    async def _serve_one(self, request: Request) -> bool:
        spot = f"ari/{request.path.removeprefix('/ari/').lstrip('/')}"
        _SPOT.set(spot)
        if self._faults.take("mute", spot):
            return True
        if request.path == _RECORDINGS and (slow := self._faults.take("slow_list", spot)):
            await asyncio.sleep(slow.seconds)
        if self._faults.take("endless", spot):
            await self._connection.send(
                HttpReply(200).head(self._server, self._pbx.pbx_now(), 10**10, close=False) + b"["
            )
            await self._faulty_connection.send_endlessly(b'{"name":"a","format":"wav"},' * 2000)
        stays_open = await super()._serve_one(request)
        return stays_open and not self._wrong_length

    def _answer(self, request: Request) -> HttpReply | StoredFile:
        failure = self._faults.take("server_error", _SPOT.get())
        answer = _server_error(failure.status, self._server) if failure else super()._answer(request)
        if self._faults.take("nested", _SPOT.get()):
            return HttpReply(200, b"[" * 200_000, ("Content-type: application/json",))
        return answer

    def _announced_bytes(self, reply: HttpReply) -> int:
        wrong = self._faults.take("wrong_length", _SPOT.get())
        self._wrong_length = self._wrong_length or wrong is not None
        return max(len(reply.body) + (wrong.extra_bytes if wrong else 0), 0)


def _server_error(status: int, server: str) -> HttpReply:
    """Asterisk's own answer with this status, if it has one."""
    if status == 500:
        return json_reply({"error": "Allocation failed"}, 500)
    if status == 503:
        return json_reply({"message": "Asterisk not booted"}, 503, close=True)
    return html_reply(status, "A fault of the simulated PBX.", server)
