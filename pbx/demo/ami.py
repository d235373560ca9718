"""The demo PBX's AMI: sessions that log in, ask and hear events, as manager.c has them."""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import NoReturn, Protocol

from pbx.demo.answers import AMI_VERSIONS, answer_action
from pbx.demo.faults import Faults
from pbx.demo.messages import PbxMoment, ReceivedAction, event_text, refuse, reply, text
from pbx.demo.wire import Wire
from pbx.demo.world import AmiEvent, World

TICK_S = 0.1
REFUSAL_S = 1.0  # after which a login is refused
LONGEST_LINE = 1024
MOST_EVENTS = 20_000  # that may wait for a session that doesn't read: then it is cut off
CLASSES = frozenset(("system", "call", "agent", "dialplan", "reporting", "cdr", "user", "log"))
_FILLING = (("Filling", "x" * 1000),)  # of what the faults "endless" and "flood" send
_FREE = frozenset(("login", "challenge", "logoff"))
_LISTS = ("show", "status", "summary", "list", "peers", "registry")
_POSIX = {"[[:cntrl:]]": r"[\x00-\x1f\x7f]", "[[:alnum:]]": "[0-9A-Za-z]", "[[:digit:]]": r"\d", "[[:space:]]": r"\s"}


class AmiHost(Protocol):
    """What a session is part of: a DemoPbx."""

    username: str
    password: str
    faults: Faults
    world: World

    def clock(self) -> datetime: ...
    def pbx_now(self) -> datetime: ...


class AmiServer:
    """All sessions of one PBX. Lives in the loop's thread."""

    def __init__(self, pbx: AmiHost) -> None:
        self._pbx = pbx
        self._sessions: set[Session] = set()

    async def serve(self, wire: Wire) -> None:
        """Talk with one client until it leaves. Raises ConnectionError when the line breaks."""
        session = Session(self._pbx, wire)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def tell_events(self) -> None:
        """Tell every session what happens, as it happens, until cancelled."""
        told_at, world = self._pbx.clock(), self._pbx.world
        while True:
            await asyncio.sleep(TICK_S)
            now = self._pbx.clock()
            if self._pbx.world is world and told_at < now:
                events = world.events_between(told_at, now)
                for session in self._sessions:
                    session.offer(events)
            told_at, world = now, self._pbx.world


class Session:
    """One client's session."""

    def __init__(self, pbx: AmiHost, wire: Wire) -> None:
        self._pbx, self._wire = pbx, wire
        self._known = False  # logged in
        self._challenge = ""
        self._mask: frozenset[str] = frozenset()
        self._filters: list[re.Pattern[str]] = []
        self._waiting: list[AmiEvent] = []
        self._news = asyncio.Event()

    async def run(self) -> None:
        version = AMI_VERSIONS[self._pbx.world.version]
        await self._wire.send(f"Asterisk Call Manager/{version}\r\n".encode(), "ami/greeting")
        telling = asyncio.create_task(self._tell())
        try:
            while (ask := await self._read()) is not None:
                if not await self._take(ask):
                    return
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await telling

    def offer(self, events: Iterable[AmiEvent]) -> None:
        """Tell these, if the session wants to hear of them."""
        if not self._known or not self._mask:
            return
        self._waiting += [event for event in events if event.group in self._mask]
        if len(self._waiting) > MOST_EVENTS:
            self._wire.reset()
        if self._waiting:
            self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            events, self._waiting = self._waiting, []
            texts = (event_text(event.name, event.group, event.headers) for event in events)
            wanted = [one for one in texts if not self._filters or any(find.search(one) for find in self._filters)]
            if wanted:
                await self._wire.send(_bytes("".join(wanted)), "ami/events")

    async def _read(self) -> ReceivedAction | None:
        """The next action; None once the client has gone."""
        headers: dict[str, str] = {}
        too_long = False
        while line := await self._wire.read_line():
            too_long = too_long or len(line.rstrip(b"\r\n")) > LONGEST_LINE
            name, separator, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
            if separator:
                headers.setdefault(name.strip().lower(), value.strip())
            elif not name:
                return ReceivedAction("\0" if too_long else headers.get("action", ""), headers)
        return None

    async def _take(self, ask: ReceivedAction) -> bool:
        """Answer an action; False when that was the last."""
        where, name = f"ami/{ask.action}", ask.action.lower()
        if self._pbx.faults.take("mute", where):
            return True
        if self._pbx.faults.take("flood", where):
            await self._send_for_ever(event_text("Flood", "system", _FILLING), where)
        listed = any(part in name for part in _LISTS)
        if listed and (slow := self._pbx.faults.take("slow_list", where)):
            await asyncio.sleep(slow.seconds)
        if listed and self._pbx.faults.take("endless", where):
            begin = reply(ask, "Success", ("EventList", "start"))
            await self._wire.send(begin.encode(), where)
            item = (("Event", "Endless"), ("ActionID", ask.get("actionid")), *_FILLING)
            await self._send_for_ever(text(item), where)
        if name == "login" and not self._known:
            return await self._log_in(ask, where)
        if name == "logoff":
            told = reply(ask, "Goodbye", ("Message", "Thanks for all the fish."))
            await self._wire.send(told.encode(), where)
            return False
        answer = self._answer(ask, name)
        if listed and self._pbx.faults.take("headless", where):
            answer = answer.partition("\r\n\r\n")[2]
        await self._wire.send(_bytes(answer), where)
        return True

    async def _send_for_ever(self, message: str, where: str) -> NoReturn:
        """For a fault: the same again and again. Raises ConnectionError when the client has left."""
        data = message.encode() * 50
        while True:
            await self._wire.send(data, where)

    def _answer(self, ask: ReceivedAction, name: str) -> str:
        if name == "\0":
            return refuse(ask, "Failed to parse message: line too long")
        if not name:
            return refuse(ask, "Missing action in request")
        if not self._known and name not in _FREE:
            return refuse(ask, "Permission denied")
        own = {"challenge": self._challenge_for, "events": self._set_events, "filter": self._add_filter}
        if name in own:
            return own[name](ask)
        if name == "login":
            return reply(ask, "Success", ("Message", "Already authenticated"))
        return answer_action(ask, PbxMoment(self._pbx.world, self._pbx.clock(), self._pbx.pbx_now()))

    def _challenge_for(self, ask: ReceivedAction) -> str:
        if ask.get("authtype").upper() != "MD5":
            return refuse(ask, "Must specify AuthType")
        self._challenge = self._challenge or str(secrets.randbelow(900_000_000) + 100_000_000)
        return reply(ask, "Success", ("Challenge", self._challenge))

    async def _log_in(self, ask: ReceivedAction, where: str) -> bool:
        """Whoever is refused, for whatever reason, hears the same after a second, and the line is closed."""
        if not self._is_right(ask):
            await asyncio.sleep(REFUSAL_S)
            await self._wire.send(refuse(ask, "Authentication failed").encode(), where)
            return False
        self._known = True
        mask = ask.get("events")
        self._mask = _mask(mask) if mask else CLASSES
        told = reply(ask, "Success", ("Message", "Authentication accepted"))
        if "system" in self._mask:
            uptime_s = str(max(int((self._pbx.clock() - self._pbx.world.booted_at).total_seconds()), 0))
            since = (("Uptime", uptime_s), ("LastReload", uptime_s), ("Status", "Fully Booted"))
            told += event_text("FullyBooted", "system", since)
        await self._wire.send(told.encode(), where)
        return True

    def _is_right(self, ask: ReceivedAction) -> bool:
        password = self._pbx.password
        if ask.get("authtype").upper() == "MD5":
            expected = hashlib.md5(f"{self._challenge}{password}".encode(), usedforsecurity=False).hexdigest()
            right = bool(self._challenge) and _same(ask.get("key"), expected)
        else:
            right = _same(ask.get("secret"), password)
        return _same(ask.get("username"), self._pbx.username) and right

    def _set_events(self, ask: ReceivedAction) -> str:
        mask = ask.get("eventmask")
        if not mask:
            return refuse(ask, "Invalid event mask")
        self._mask = _mask(mask)
        return reply(ask, "Success", ("Events", "On" if self._mask else "Off"))

    def _add_filter(self, ask: ReceivedAction) -> str:
        """An expression that events must match, as POSIX extended; one with ! in front is not served."""
        if ask.get("operation").lower() != "add":
            return refuse(ask, "Unknown operation")
        pattern = ask.get("filter")
        if not pattern and self._pbx.world.version != "16":
            return refuse(ask, "Filter was formatted incorrectly.  Check the syntax of the filter given.")
        for posix, ours in _POSIX.items():
            pattern = pattern.replace(posix, ours)
        try:
            self._filters.append(re.compile(pattern, re.DOTALL))
        except re.error:
            return refuse(ask, "Filter did not compile.  Check the syntax of the filter given.")
        return reply(ask, "Success", ("Message", "Success"))


def _bytes(text: str) -> bytes:
    """As sent: what is not UTF-8, in a caller's name say, stands in a text as Python's "surrogateescape" has it."""
    return text.encode(errors="surrogateescape")


def _mask(words: str) -> frozenset[str]:
    """The classes that an event mask names."""
    low = words.strip().lower()
    if low in ("on", "all", "yes", "true", "1", "-1"):
        return CLASSES
    return frozenset(word.strip() for word in low.split(",")) & CLASSES


def _same(told: str, right: str) -> bool:
    return hmac.compare_digest(told.encode(), right.encode())
