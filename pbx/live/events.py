"""What a PBX tells live, as facts. Pure: messages and when they came in; visits, rings, changes and legs out."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import decimal
from pbx.live.legs import LiveLegs
from pbx.live.visits import LiveVisits
from pbx.model.history import AgentEvent, Leg, Ring, Visit

CLASSES = "system,call,agent"
# What the live pages show may have changed: who shows it looks again.
SHOWN = frozenset(
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
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800  # 2000 and 2100: a clock that says otherwise was never set
DEVICES = frozenset(("ContactStatus", "PeerStatus", "Registry"))


MOST_OPEN = 20_000  # channels, or callers in queues, at once


@dataclass(frozen=True, slots=True)
class Facts:
    """What was told since the last time; of what was told more than once the last."""

    visits: Sequence[Visit] = ()
    rings: Sequence[Ring] = ()
    changes: Sequence[AgentEvent] = ()
    legs: Sequence[Leg] = ()

    def __len__(self) -> int:
        return len(self.visits) + len(self.rings) + len(self.changes) + len(self.legs)


class LiveHistory:
    """Follows one PBX. Not safe from several threads.

    An event heard twice tells nothing new. After a time in which nothing was heard call `resume`; what ended meanwhile
    is told as unknown, never with an invented end.
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
        """One event that came at a moment; its own `Timestamp` (manager.conf: timestampevents) is believed more."""
        if handlers := self._handlers.get(message.event):
            at = _moment(message, at)
            for handle in handlers:
                handle(message, at)

    def resume(self, asked_at: datetime, queues: Iterable[Message], channels: Sequence[Message]) -> None:
        """Go on from a look at everything: the items of QueueStatus and of CoreShowChannels, asked for at a moment."""
        shown = [one for one in channels if one.event == "CoreShowChannel"]
        entries = [one for one in queues if one.event == "QueueEntry"]
        self.visits.resume(asked_at, entries, frozenset(one.get("Uniqueid") for one in shown))
        self.legs.resume(asked_at, shown)

    def add_known(self, visits: Iterable[Visit], legs: Iterable[Leg], channels: Sequence[Message]) -> None:
        """What was stored as going on by whoever listened before; `resume` then tells what of it is over."""
        self.visits.add_known(visits)
        self.legs.add_known(legs, [one for one in channels if one.event == "CoreShowChannel"])

    def facts(self, at: datetime) -> Facts:
        """What was told since the last time, at a moment now."""
        visits, legs = self.visits, self.legs
        visits.settle(at)
        told = Facts(list(visits.visits.values()), visits.rings, visits.changes, list(legs.legs.values()))
        visits.visits, visits.rings, visits.changes, legs.legs = {}, [], [], {}
        return told

    def retell(self) -> None:
        """Tell of all that goes on once more: what was told may not have been stored."""
        self.visits.retell()
        self.legs.retell()

    @property
    def overfull(self) -> bool:
        """Whether more goes on than on any PBX there is: what is told is not to be believed."""
        return max(self.legs.channels, len(self.visits.open)) > MOST_OPEN

    @property
    def busy(self) -> bool:
        """Whether anything goes on."""
        return bool(self.legs.channels or self.visits.open)


def event_filter(handled: Collection[str]) -> str:
    """The expression of an AMI Filter action that lets these events pass, VarSet for a few variables only.

    manager.c matches it against an event's whole text, as POSIX extended; a line may have 1,024 bytes.
    """
    plain = "|".join(sorted(set(handled) - {"VarSet"}))
    return f"^Event: (({plain})[[:cntrl:]]|VarSet[[:cntrl:]].*Variable: ({'|'.join(VARIABLES)})[[:cntrl:]])"


HANDLED = frozenset({*LiveHistory()._handlers, *SHOWN})


def _moment(message: Message, at: datetime) -> datetime:
    stamp = decimal(message.get("Timestamp")) if b"\r\nTimestamp: " in message.raw else None
    return datetime.fromtimestamp(stamp, UTC) if stamp and _EARLIEST_S <= stamp < _LATEST_S else at
