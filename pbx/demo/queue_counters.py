"""The counters of the demo's queues since Asterisk started and their waiting callers, as in app_queue.c. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from pbx.demo.company import QUEUES, PlannedCall
from pbx.demo.simulated_history import LONGEST_CALL, calls_between

_DAY = timedelta(days=1)
_SERVICE_LEVELS_S = {queue.number: queue.service_level_s for queue in QUEUES}


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of Asterisk."""

    booted_at: datetime

    def calls_between(self, from_at: datetime, to_at: datetime) -> Iterator[PlannedCall]:
        """The calls that overlap a period, except those that the start of Asterisk ended."""
        return (call for call in calls_between(from_at, to_at) if call.started_at >= self.booted_at)


@dataclass(frozen=True, slots=True)
class QueueCounters:
    """The counters of one queue, as in QueueParams. `hold_s` and `talk_s` are moving averages."""

    completed: int = 0
    abandoned: int = 0  # including timeouts
    hold_s: int = 0
    talk_s: int = 0
    answered_within_level: int = 0  # answered within the service level
    abandoned_within_level: int = 0

    @property
    def service_level_perf(self) -> float:
        """ServicelevelPerf, percent."""
        return 100 * self.answered_within_level / self.completed if self.completed else 0.0

    @property
    def service_level_perf2(self) -> float:
        """ServicelevelPerf2, percent."""
        ended = self.completed + self.abandoned
        return 100 * (self.answered_within_level + self.abandoned_within_level) / ended if ended else 0.0


def seconds_between(since: datetime, until: datetime) -> int:
    """The seconds between two moments. Like Asterisk, it truncates both to seconds first."""
    return int(until.timestamp()) - int(since.timestamp())


def is_waiting(call: PlannedCall, at: datetime) -> bool:
    """Whether the caller is waiting in a queue."""
    until = call.answered_at or call.left_at
    return call.joined_at is not None and until is not None and call.joined_at <= at < until


def queue_position(boot: Boot, call: PlannedCall, at: datetime) -> tuple[int, int]:
    """A caller's position in the queue at a moment, and how many other callers are waiting there."""
    others = [
        other.joined_at
        for other in boot.calls_between(at, at + timedelta(milliseconds=1))
        if other.queue == call.queue and other.uniqueid != call.uniqueid and is_waiting(other, at)
    ]
    before = sum(1 for joined_at in others if joined_at and call.joined_at and joined_at < call.joined_at)
    return before + 1, len(others)


def counters_at(boot: Boot, queue: str, at: datetime) -> QueueCounters:
    """The counters of a queue at a moment."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if day <= boot.booted_at:
        return _count(QueueCounters(), boot, queue, boot.booted_at, at)
    return _count(_counters_at_midnight(boot, queue, day), boot, queue, day, at)


@lru_cache(maxsize=2048)
def _counters_at_midnight(boot: Boot, queue: str, day: datetime) -> QueueCounters:
    before = day - _DAY
    if before <= boot.booted_at:
        return _count(QueueCounters(), boot, queue, boot.booted_at, day)
    return _count(_counters_at_midnight(boot, queue, before), boot, queue, before, day)


def _count(counted: QueueCounters, boot: Boot, queue: str, since: datetime, until: datetime) -> QueueCounters:
    moments: list[tuple[datetime, int, PlannedCall]] = []
    for call in boot.calls_between(since - LONGEST_CALL, until):
        if call.queue == queue and call.left_at is not None:
            moments += [(call.answered_at, 0, call)] if call.answered_at is not None else []
            moments.append((call.left_at, 1, call))
    level_s = _SERVICE_LEVELS_S[queue]
    for at, ended, call in sorted(moments, key=lambda moment: moment[:2]):
        if since < at <= until:
            counted = _ended(counted, call, level_s) if ended else _connected(counted, call)
    return counted


def _connected(counted: QueueCounters, call: PlannedCall) -> QueueCounters:
    """Count an answer. The first wait is the average, later ones count a quarter (recalc_holdtime of app_queue.c)."""
    if call.joined_at is None or call.answered_at is None:
        return counted
    hold_s = seconds_between(call.joined_at, call.answered_at)
    first = counted.completed + counted.abandoned == 0
    return replace(counted, hold_s=hold_s if first else (counted.hold_s * 3 + hold_s) // 4)


def _ended(counted: QueueCounters, call: PlannedCall, level_s: int) -> QueueCounters:
    """Count the end of a visit to the queue."""
    if call.joined_at is None or call.left_at is None:
        return counted
    if call.answered_at is None:
        within_level = seconds_between(call.joined_at, call.left_at) <= level_s
        return replace(
            counted,
            abandoned=counted.abandoned + 1,
            abandoned_within_level=counted.abandoned_within_level + within_level,
        )
    within_level = seconds_between(call.joined_at, call.answered_at) <= level_s
    talk_s = seconds_between(call.answered_at, call.left_at)
    return replace(
        counted,
        completed=counted.completed + 1,
        answered_within_level=counted.answered_within_level + within_level,
        talk_s=talk_s if counted.completed == 0 else (counted.talk_s * 3 + talk_s) // 4,
    )
