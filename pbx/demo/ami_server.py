"""The demo PBX's AMI server: its sessions log in, send actions and receive events, as in manager.c."""

import asyncio
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from pbx.demo.ami_answers import answer_action
from pbx.demo.ami_messages import PbxMoment, ReceivedAction, Release, event_text, refuse, reply
from pbx.demo.client_connection import ClientConnection
from pbx.demo.simulated_asterisk import AmiEvent, SimulatedAsterisk

TICK_S = 0.1
TOO_LONG = "\0"
REFUSAL_S = 1.0  # before the answer to a refused login
MAX_LINE_BYTES = 1024
MAX_WAITING_EVENTS = 20_000  # a session that doesn't read, and has more waiting, is reset
EVENT_CLASSES = frozenset(("system", "call", "agent", "dialplan", "reporting", "cdr", "user", "log"))
_ALLOWED_BEFORE_LOGIN = frozenset(("login", "challenge", "logoff"))
_POSIX_CLASSES = {
    "[[:cntrl:]]": r"[\x00-\x1f\x7f]",
    "[[:alnum:]]": "[0-9A-Za-z]",
    "[[:digit:]]": r"\d",
    "[[:space:]]": r"\s",
}


class AmiHost(Protocol):
    """What a session needs of its PBX, which is a DemoPbx."""

    release: Release
    username: str
    password: str
    asterisk: SimulatedAsterisk

    def clock(self) -> datetime: ...
    def pbx_now(self) -> datetime: ...


class AmiServer:
    """All sessions of one PBX. Runs in the thread of the event loop."""

    def __init__(self, pbx: AmiHost) -> None:
        self._pbx = pbx
        self._sessions: set[AmiSession] = set()

    async def serve(self, session: "AmiSession") -> None:
        """Serve one client until it leaves. Raises ConnectionError when the connection breaks."""
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def send_events(self) -> None:
        """Send the events to all sessions as they happen, until cancelled."""
        sent_until, asterisk = self._pbx.clock(), self._pbx.asterisk
        while True:
            await asyncio.sleep(TICK_S)
            now = self._pbx.clock()
            if self._pbx.asterisk is asterisk and sent_until < now:
                events = asterisk.events_between(sent_until, now)
                for session in self._sessions:
                    session.queue_events(events)
            sent_until, asterisk = now, self._pbx.asterisk


class AmiSession:
    """The session of one client."""

    def __init__(self, pbx: AmiHost, connection: ClientConnection) -> None:
        self._pbx, self._connection = pbx, connection
        self._logged_in = False
        self._challenge = ""
        self._mask: frozenset[str] = frozenset()
        self._filters: list[re.Pattern[str]] = []
        self._waiting: list[AmiEvent] = []
        self._has_waiting = asyncio.Event()

    async def run(self) -> None:
        """Greet the client, answer its actions and send it events until it leaves."""
        await self._connection.send(f"Asterisk Call Manager/{self._pbx.release.ami_version}\r\n".encode())
        sending = asyncio.create_task(self._send_events())
        try:
            while (action := await self._read()) is not None:
                if not await self._handle(action):
                    return
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sending

    def queue_events(self, events: Iterable[AmiEvent]) -> None:
        """Queue the events of the classes that the session subscribed to."""
        if not self._logged_in or not self._mask:
            return
        self._waiting += [event for event in events if event.group in self._mask]
        if len(self._waiting) > MAX_WAITING_EVENTS:
            self._connection.reset()
        if self._waiting:
            self._has_waiting.set()

    async def _send_events(self) -> None:
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            events, self._waiting = self._waiting, []
            texts = (event_text(event.name, event.group, event.headers) for event in events)
            wanted = [one for one in texts if not self._filters or any(find.search(one) for find in self._filters)]
            if wanted:
                await self._connection.send(_bytes("".join(wanted)))

    async def _read(self) -> ReceivedAction | None:
        """The next action, or None after the client has left. One with a line that is too long is named TOO_LONG."""
        headers: dict[str, str] = {}
        too_long = False
        while line := await self._connection.read_line():
            too_long = too_long or len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES
            name, separator, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
            if separator:
                headers.setdefault(name.strip().lower(), value.strip())
            elif not name:
                return ReceivedAction(TOO_LONG if too_long else headers.get("action", ""), headers)
        return None

    async def _handle(self, action: ReceivedAction) -> bool:
        """Answer an action. Returns False after the last one."""
        name = action.action.lower()
        if name == "login" and not self._logged_in:
            return await self._log_in(action)
        if name == "logoff":
            await self._connection.send(reply(action, "Goodbye", ("Message", "Thanks for all the fish.")).encode())
            return False
        await self._connection.send(_bytes(self._answer(action, name)))
        return True

    def _answer(self, action: ReceivedAction, name: str) -> str:
        if name == TOO_LONG:
            return refuse(action, "Failed to parse message: line too long")
        if not name:
            return refuse(action, "Missing action in request")
        if not self._logged_in and name not in _ALLOWED_BEFORE_LOGIN:
            return refuse(action, "Permission denied")
        own = {"challenge": self._challenge_for, "events": self._set_events, "filter": self._add_filter}
        if name in own:
            return own[name](action)
        if name == "login":
            return reply(action, "Success", ("Message", "Already authenticated"))
        pbx = self._pbx
        return answer_action(action, PbxMoment(pbx.release, pbx.asterisk, pbx.clock(), pbx.pbx_now()))

    def _challenge_for(self, action: ReceivedAction) -> str:
        if action.get("authtype").upper() != "MD5":
            return refuse(action, "Must specify AuthType")
        self._challenge = self._challenge or str(secrets.randbelow(900_000_000) + 100_000_000)
        return reply(action, "Success", ("Challenge", self._challenge))

    async def _log_in(self, action: ReceivedAction) -> bool:
        """Log the client in, or refuse it: after REFUSAL_S, with one answer for all reasons, and disconnect it."""
        if not self._has_password(action):
            await asyncio.sleep(REFUSAL_S)
            await self._connection.send(refuse(action, "Authentication failed").encode())
            return False
        self._logged_in = True
        mask = action.get("events")
        self._mask = _parse_mask(mask) if mask else EVENT_CLASSES
        answer = reply(action, "Success", ("Message", "Authentication accepted"))
        if "system" in self._mask:
            uptime_s = str(max(int((self._pbx.clock() - self._pbx.asterisk.booted_at).total_seconds()), 0))
            since = (("Uptime", uptime_s), ("LastReload", uptime_s), ("Status", "Fully Booted"))
            answer += event_text("FullyBooted", "system", since)
        await self._connection.send(answer.encode())
        return True

    def _has_password(self, action: ReceivedAction) -> bool:
        password = self._pbx.password
        if action.get("authtype").upper() == "MD5":
            expected = hashlib.md5(f"{self._challenge}{password}".encode(), usedforsecurity=False).hexdigest()
            right = bool(self._challenge) and _equal(action.get("key"), expected)
        else:
            right = _equal(action.get("secret"), password)
        return _equal(action.get("username"), self._pbx.username) and right

    def _set_events(self, action: ReceivedAction) -> str:
        mask = action.get("eventmask")
        if not mask:
            return refuse(action, "Invalid event mask")
        self._mask = _parse_mask(mask)
        return reply(action, "Success", ("Events", "On" if self._mask else "Off"))

    def _add_filter(self, action: ReceivedAction) -> str:
        """Add a POSIX extended regular expression that events must match. A leading ! isn't supported."""
        if action.get("operation").lower() != "add":
            return refuse(action, "Unknown operation")
        pattern = action.get("filter")
        for posix, python in _POSIX_CLASSES.items():
            pattern = pattern.replace(posix, python)
        try:
            self._filters.append(re.compile(pattern, re.DOTALL))
        except re.error:
            return refuse(action, "Filter did not compile.  Check the syntax of the filter given.")
        return reply(action, "Success", ("Message", "Success"))


def _bytes(text: str) -> bytes:
    """The bytes of a text. Bytes that aren't UTF-8 are in it by Python's "surrogateescape"."""
    return text.encode(errors="surrogateescape")


def _parse_mask(words: str) -> frozenset[str]:
    """The classes that an event mask names."""
    low = words.strip().lower()
    if low in ("on", "all", "yes", "true", "1", "-1"):
        return EVENT_CLASSES
    return frozenset(word.strip() for word in low.split(",")) & EVENT_CLASSES


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
