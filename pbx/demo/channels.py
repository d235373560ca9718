"""Channels of the demo PBX and the steps in which a call goes: events with what they leave behind. Pure values."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

EventHeaders = tuple[tuple[str, str], ...]
DOWN, RING, RINGING, UP = 0, 4, 5, 6
_STATES = {DOWN: "Down", RING: "Ring", RINGING: "Ringing", UP: "Up"}
_TEXT = {0: "Unknown", 1: "Unallocated (unassigned) number", 16: "Normal Clearing", 17: "User busy"}
_TEXT |= {34: "Circuit/channel congestion"}
_SIP = {1: "404", 17: "486", 34: "503"}  # TechCause of Asterisk 22, where the far end refused
UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel at some moment."""

    name: str
    uniqueid: str
    linkedid: str
    state: int
    number: str
    caller_name: str
    context: str
    exten: str
    begun_at: datetime
    peer: str  # the endpoint whose channel it is
    connected: str = ""
    connected_name: str = ""
    priority: int = 1
    application: str = ""
    data: str = ""
    bridge: str = ""

    def headers(self, prefix: str = "") -> EventHeaders:
        """As Asterisk writes a channel into an event, with `Dest` or the like before each field."""
        name = prefix or ""
        return (
            (f"{name}Channel", self.name),
            (f"{name}ChannelState", str(self.state)),
            (f"{name}ChannelStateDesc", _STATES[self.state]),
            (f"{name}CallerIDNum", self.number or UNKNOWN),
            (f"{name}CallerIDName", self.caller_name or UNKNOWN),
            (f"{name}ConnectedLineNum", self.connected or UNKNOWN),
            (f"{name}ConnectedLineName", self.connected_name or UNKNOWN),
            (f"{name}Language", "en"),
            (f"{name}AccountCode", ""),
            (f"{name}Context", self.context),
            (f"{name}Exten", self.exten),
            (f"{name}Priority", str(self.priority)),
            (f"{name}Uniqueid", self.uniqueid),
            (f"{name}Linkedid", self.linkedid),
        )


@dataclass(frozen=True, slots=True)
class Device:
    """The state of an endpoint changed: every queue it is a member of tells."""

    peer: str
    status: int  # as QueueMember has it: 1 idle, 2 in use, 6 ringing


@dataclass(frozen=True, slots=True)
class CallStep:
    """One event of a call. `lines`: the channels there are after it. `device` stands for what queues tell of it."""

    at: datetime
    event: str
    group: str  # the class that it belongs to
    headers: EventHeaders
    lines: tuple[Channel, ...]
    device: Device | None = None


@dataclass(slots=True)
class Play:
    """Writes a call's steps. Channels are known by a short name, `caller`, `agent0` and so on."""

    version: str
    at: datetime
    lines: dict[str, Channel] = field(default_factory=dict)
    steps: list[CallStep] = field(default_factory=list)

    def tell(self, event: str, *headers: tuple[str, str], group: str = "call") -> None:
        self.steps.append(CallStep(self.at, event, group, headers, tuple(self.lines.values())))

    def tell_of(self, event: str, who: str, *headers: tuple[str, str], group: str = "call", other: str = "") -> None:
        """An event with a channel's fields, and those of another with `Dest` before them, then its own."""
        dest = self.lines[other].headers("Dest") if other else ()
        self.tell(event, *self.lines[who].headers(), *dest, *headers, group=group)

    def change(self, who: str, **fields: Any) -> None:
        self.lines[who] = replace(self.lines[who], **fields)

    def open(self, who: str, line: Channel) -> None:
        self.lines[who] = line
        self.tell_of("Newchannel", who)

    def move(self, who: str, state: int, **fields: Any) -> None:
        """Another state, and what else changes with it."""
        self.change(who, state=state, **fields)
        self.tell_of("Newstate", who)

    def device(self, peer: str, status: int) -> None:
        self.steps.append(
            CallStep(self.at, "QueueMemberStatus", "agent", (), tuple(self.lines.values()), Device(peer, status))
        )

    def ask_hangup(self, who: str, cause: int = 16) -> None:
        """The far end hung up, or refused. Asterisk 22 knows no cause where it only hung up."""
        told = () if self.version != "16" and cause not in _SIP else (("Cause", str(cause)),)
        self.tell_of("HangupRequest", who, *told, *self._tech(cause))

    def hang_up(self, who: str, cause: int = 16, *, itself: bool = False) -> None:
        """The end of a channel. `itself`: it ran the dialplan, so that Asterisk first asks it to end."""
        if itself:
            self.tell_of("SoftHangupRequest", who, ("Cause", "16"))
        line = self.lines.pop(who)
        self.tell("Hangup", *line.headers(), ("Cause", str(cause)), ("Cause-txt", _TEXT[cause]), *self._tech(cause))

    def _tech(self, cause: int) -> EventHeaders:
        return (("TechCause", _SIP[cause]),) if self.version != "16" and cause in _SIP else ()

    def set_variable(self, who: str, name: str, value: str) -> None:
        self.tell_of("VarSet", who, ("Variable", name), ("Value", value), group="dialplan")

    def bridge(self, name: str, *who: str) -> None:
        for one in who:
            self.change(one, bridge=name)
