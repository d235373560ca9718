"""A queue visit in progress, and how AMI messages describe it. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import duration_s, unescape, without_placeholder
from pbx.model.history import Visit

_K = TypeVar("_K")
_V = TypeVar("_V")
_REMEMBERED = 2_000


@dataclass(slots=True)
class OpenVisit:
    """A visit in progress, or one whose outcome isn't known yet. `uniqueid`: of the channel in the queue now."""

    uniqueid: str
    visit: Visit
    hanging_up: bool = False
    abandoned: bool = False  # QueueCallerAbandon was received
    left_at: datetime | None = None

    @property
    def connected(self) -> bool:
        """Whether an agent took the call."""
        return self.visit.connected_at is not None

    @property
    def key(self) -> tuple[str, str]:
        """The channel's uniqueid and the queue."""
        return self.uniqueid, self.visit.queue


def not_before(at: datetime, earlier: datetime, lasted_s: float | None) -> datetime:
    """The end of something; calculated from its length where the clock was set back since it began."""
    return at if at >= earlier else earlier + timedelta(seconds=lasted_s or 0.0)


def visit_of(message: Message, joined_at: datetime, original_position: int | None = None) -> Visit:
    """A new visit, from an event or an item of QueueStatus."""
    return Visit(
        uniqueid=message.get("Uniqueid"),
        queue=message.get("Queue"),
        joined_at=joined_at,
        caller=without_placeholder(message.get("CallerIDNum")),
        caller_name=unescape(without_placeholder(message.get("CallerIDName"))),
        original_position=original_position,
    )


def with_agent(visit: Visit, message: Message) -> Visit:
    """The visit with the agent who took the call, the wait and the ring time."""
    return replace(
        visit,
        wait_s=duration_s(message.get("HoldTime")),
        ring_s=duration_s(message.get("RingTime")) if message.get("RingTime") else visit.ring_s,
        agent=message.get("MemberName"),
        interface=message.get("Interface"),
    )


def remember(memory: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    """Keep a value, so that an event received twice is recognised; drop the oldest when there are too many."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)
