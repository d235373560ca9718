"""The channels of the demo PBX and the steps of a call: each event with the channels that exist after it. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

EventHeaders = tuple[tuple[str, str], ...]
DOWN, RING, RINGING, UP = 0, 4, 5, 6
CHANNEL_STATES = {DOWN: "Down", RING: "Ring", RINGING: "Ringing", UP: "Up"}
DEVICE_IDLE, DEVICE_IN_USE, DEVICE_UNAVAILABLE, DEVICE_RINGING = 1, 2, 5, 6  # the Status of a QueueMember
DEVICE_STATES = {
    DEVICE_IDLE: "Not in use",
    DEVICE_IN_USE: "In use",
    DEVICE_UNAVAILABLE: "Unavailable",
    DEVICE_RINGING: "Ringing",
}
_CAUSES = {
    0: "Unknown",
    1: "Unallocated (unassigned) number",
    16: "Normal Clearing",
    17: "User busy",
    34: "Circuit/channel congestion",
}
UNKNOWN = "<unknown>"
_FIELDS = (
    *("Channel", "ChannelState", "ChannelStateDesc", "CallerIDNum", "CallerIDName", "ConnectedLineNum"),
    *("ConnectedLineName", "Language", "AccountCode", "Context", "Exten", "Priority", "Uniqueid", "Linkedid"),
)


class Channel(NamedTuple):
    """A channel at a moment."""

    name: str
    uniqueid: str
    linkedid: str
    state: int
    number: str
    caller_name: str
    context: str
    exten: str
    created_at: datetime
    endpoint: str
    connected: str = ""
    connected_name: str = ""
    priority: int = 1
    application: str = ""
    data: str = ""
    bridge: str = ""

    def headers(self, prefix: str = "") -> EventHeaders:
        """The channel's fields in an event. Each name starts with `prefix`, such as "Dest"."""
        values = (
            self.name,
            str(self.state),
            CHANNEL_STATES[self.state],
            self.number or UNKNOWN,
            self.caller_name or UNKNOWN,
            self.connected or UNKNOWN,
            self.connected_name or UNKNOWN,
            "en",
            "",
            self.context,
            self.exten,
            str(self.priority),
            self.uniqueid,
            self.linkedid,
        )
        return tuple(zip(_field_names(prefix), values, strict=True))


@lru_cache
def _field_names(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in _FIELDS)


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """An endpoint's new state. Every queue of which it is a member reports it."""

    endpoint: str
    status: int  # one of DEVICE_STATES


class CallStep(NamedTuple):
    """One AMI event of a call, and the channels that the call has after it.

    The event's headers are the fields of the channels in `subjects`, each with its prefix, and then `own_headers`. A
    step with a `device` has no headers: each queue reports that change with its own.
    """

    at: datetime
    name: str
    group: str  # AMI's class of the event
    subjects: tuple[tuple[str, Channel], ...]
    own_headers: EventHeaders
    channels: tuple[Channel, ...]
    device: DeviceChange | None = None

    @property
    def headers(self) -> EventHeaders:
        """The event's headers, which come after Event and Privilege."""
        return (*chain.from_iterable(channel.headers(prefix) for prefix, channel in self.subjects), *self.own_headers)


@dataclass(slots=True)
class StepWriter:
    """Writes a call's steps at the moment `at`. It calls the channels `caller`, `agent` and `callee`."""

    at: datetime
    channels: dict[str, Channel] = field(default_factory=dict)
    steps: list[CallStep] = field(default_factory=list)

    def add(
        self,
        event: str,
        *own_headers: tuple[str, str],
        subjects: tuple[tuple[str, Channel], ...] = (),
        group: str = "call",
        device: DeviceChange | None = None,
    ) -> None:
        """Add an event with these headers."""
        channels = tuple(self.channels.values())
        self.steps.append(CallStep(self.at, event, group, subjects, own_headers, channels, device))

    def report(self, event: str, name: str, *headers: tuple[str, str], group: str = "call", dest: str = "") -> None:
        """Add an event with a channel's fields, the `Dest` fields of another channel, and its own headers."""
        others = (("Dest", self.channels[dest]),) if dest else ()
        self.add(event, *headers, subjects=(("", self.channels[name]), *others), group=group)

    def change(self, name: str, **fields: Any) -> None:
        """Change a channel without an event."""
        self.channels[name] = self.channels[name]._replace(**fields)

    def open(self, name: str, channel: Channel) -> None:
        """Create a channel."""
        self.channels[name] = channel
        self.report("Newchannel", name)

    def set_state(self, name: str, state: int) -> None:
        """Change the state of a channel."""
        self.change(name, state=state)
        self.report("Newstate", name)

    def set_device(self, endpoint: str, status: int) -> None:
        """Change the state of an endpoint."""
        self.add("QueueMemberStatus", group="agent", device=DeviceChange(endpoint, status))

    def request_hangup(self, name: str, cause: int = 16) -> None:
        """The far end hung up or refused the call."""
        self.report("HangupRequest", name, ("Cause", str(cause)))

    def hang_up(self, name: str, cause: int = 16, *, runs_dialplan: bool = False) -> None:
        """End a channel. Asterisk first requests a channel that runs the dialplan to hang up."""
        if runs_dialplan:
            self.report("SoftHangupRequest", name, ("Cause", "16"))
        channel = self.channels.pop(name)
        headers = ("Cause", str(cause)), ("Cause-txt", _CAUSES[cause])
        self.add("Hangup", *headers, subjects=(("", channel),))

    def set_variable(self, name: str, variable: str, value: str) -> None:
        """Set a variable of a channel."""
        self.report("VarSet", name, ("Variable", variable), ("Value", value), group="dialplan")

    def bridge(self, bridge: str, *names: str) -> None:
        """Put channels into a bridge, or with "" take them out of theirs."""
        for name in names:
            self.change(name, bridge=bridge)
