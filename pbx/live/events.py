"""Turns a PBX's live events into visits, rings, agent events and legs. Pure: AMI messages in, updates out."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import decimal
from pbx.live.legs import LiveLegs
from pbx.live.visits import LiveVisits
from pbx.model.history import AgentEvent, Leg, Ring, Visit

EVENT_CLASSES = "system,call,agent"
# After these, what the live pages show may have changed, so a new snapshot is taken.
PAGE_EVENTS = frozenset(
    (
        "AgentCalled",
        "AgentComplete",
        "AgentConnect",
        "ContactStatus",
        "Hangup",
        "Newchannel",
        "Newstate",
        "PeerStatus",
        "QueueCallerAbandon",
        "QueueCallerJoin",
        "QueueCallerLeave",
        "QueueMemberAdded",
        "QueueMemberPause",
        "QueueMemberPenalty",
        "QueueMemberRemoved",
        "QueueMemberRinginuse",
        "QueueMemberStatus",
        "Registry",
    )
)
VARIABLES = ("ABANDONED", "MIXMONITOR_FILENAME", "QUEUESTATUS")
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800  # 2000 and 2100; a clock outside this range was never set
DEVICE_EVENTS = frozenset(("ContactStatus", "PeerStatus", "Registry"))


MAX_OPEN = 20_000  # concurrent channels, or callers in queues, that a real PBX can have


@dataclass(frozen=True, slots=True)
class LiveUpdates:
    """What changed since the last updates; of several changes to the same visit or leg, the last one."""

    visits: Sequence[Visit] = ()
    rings: Sequence[Ring] = ()
    agent_events: Sequence[AgentEvent] = ()
    legs: Sequence[Leg] = ()

    def __len__(self) -> int:
        return len(self.visits) + len(self.rings) + len(self.agent_events) + len(self.legs)


class LiveHistory:
    """Follows the calls and queues of one PBX by its events. Not thread-safe.

    An event received twice changes nothing. After a time in which events may have been missed, call `resume`: what
    ended in that time gets the outcome unknown, never an invented end.
    """

    def __init__(self) -> None:
        self.visits = LiveVisits()
        self.legs = LiveLegs(self.visits.queue_of)
        self.visits.did_of = self.legs.did_of
        self._handlers = {
            name: [one.handlers[name] for one in (self.legs, self.visits) if name in one.handlers]
            for name in {*self.legs.handlers, *self.visits.handlers}
        }

    def take(self, message: Message, at: datetime) -> None:
        """Process an event received at a moment; its own `Timestamp` (manager.conf: timestampevents) has priority."""
        if handlers := self._handlers.get(message.event):
            at = _moment(message, at)
            for handle in handlers:
                handle(message, at)

    def resume(self, requested_at: datetime, queues: Iterable[Message], channels: Sequence[Message]) -> None:
        """Continue from the PBX's present state: the items of QueueStatus and CoreShowChannels."""
        shown = [one for one in channels if one.event == "CoreShowChannel"]
        entries = [one for one in queues if one.event == "QueueEntry"]
        self.visits.resume(requested_at, entries, frozenset(one.get("Uniqueid") for one in shown))
        self.legs.resume(requested_at, shown)

    def add_stored(self, visits: Iterable[Visit], legs: Iterable[Leg], channels: Sequence[Message]) -> None:
        """Add visits and legs that an earlier listener stored as in progress; `resume` ends those that are over."""
        self.visits.add_stored(visits)
        self.legs.add_stored(legs, [one for one in channels if one.event == "CoreShowChannel"])

    def take_updates(self, at: datetime) -> LiveUpdates:
        """The updates since the last call, as of a moment that is now."""
        visits, legs = self.visits, self.legs
        visits.settle(at)
        updates = LiveUpdates(list(visits.visits.values()), visits.rings, visits.agent_events, list(legs.legs.values()))
        visits.visits, visits.rings, visits.agent_events, legs.legs = {}, [], [], {}
        return updates

    def repeat_open(self) -> None:
        """Include everything in progress in the next updates, because earlier updates may not have been stored."""
        self.visits.repeat_open()
        self.legs.repeat_open()

    @property
    def implausible(self) -> bool:
        """Whether more is in progress than a real PBX can have, so the events can't be trusted."""
        return max(self.legs.channels, len(self.visits.open)) > MAX_OPEN

    @property
    def busy(self) -> bool:
        """Whether any call or visit is in progress."""
        return bool(self.legs.channels or self.visits.open)


def event_filter(handled: Collection[str]) -> str:
    """The expression for an AMI Filter action that passes these events only, and VarSet only for a few variables.

    manager.c matches it as a POSIX extended expression against the full text of an event. A line may have 1,024 bytes.
    """
    plain = "|".join(sorted(set(handled) - {"VarSet"}))
    return f"^Event: (({plain})[[:cntrl:]]|VarSet[[:cntrl:]].*Variable: ({'|'.join(VARIABLES)})[[:cntrl:]])"


USED_EVENTS = frozenset({*LiveHistory()._handlers, *PAGE_EVENTS})


def _moment(message: Message, at: datetime) -> datetime:
    stamp = decimal(message.get("Timestamp")) if b"\r\nTimestamp: " in message.raw else None
    return datetime.fromtimestamp(stamp, UTC) if stamp and _EARLIEST_S <= stamp < _LATEST_S else at
