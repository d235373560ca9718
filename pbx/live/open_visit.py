"""A visit to a queue that goes on, and what a message tells of it. Pure."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.values import known, span_s, unescape
from pbx.model.history import Visit

_K = TypeVar("_K")
_V = TypeVar("_V")
_REMEMBERED = 2_000


@dataclass(slots=True)
class OpenVisit:
    """A visit that goes on, or has ended in a way that is not known yet. `uniqueid`: of the channel in it by now."""

    uniqueid: str
    visit: Visit
    hanging_up: bool = False
    given_up: bool = False  # QueueCallerAbandon came
    left_at: datetime | None = None

    @property
    def connected(self) -> bool:
        return self.visit.connected_at is not None

    @property
    def key(self) -> tuple[str, str]:
        return self.uniqueid, self.visit.queue


def not_before(at: datetime, earlier: datetime, lasted_s: float | None) -> datetime:
    """When something ended; where the clock was set back meanwhile, by how long it lasted."""
    return at if at >= earlier else earlier + timedelta(seconds=lasted_s or 0.0)


def visit_of(message: Message, joined_at: datetime, original_position: int | None = None) -> Visit:
    """The visit that somebody has begun, by an event or an item of QueueStatus."""
    return Visit(
        uniqueid=message.get("Uniqueid"),
        queue=message.get("Queue"),
        joined_at=joined_at,
        caller=known(message.get("CallerIDNum")),
        caller_name=unescape(known(message.get("CallerIDName"))),
        original_position=original_position,
    )


def with_agent(visit: Visit, message: Message) -> Visit:
    """With who took the call, after what wait."""
    return replace(
        visit,
        wait_s=span_s(message.get("HoldTime")),
        ring_s=span_s(message.get("RingTime")) if message.get("RingTime") else visit.ring_s,
        agent=message.get("MemberName"),
        interface=message.get("Interface"),
    )


def remember(where: OrderedDict[_K, _V], key: _K, value: _V) -> None:
    """Keep something that has ended, so that an event that comes twice is one; the oldest is forgotten."""
    where[key] = value
    where.move_to_end(key)
    if len(where) > _REMEMBERED:
        where.popitem(last=False)
