"""The counters of the demo's queues since Asterisk started, and who waits in them, as in app_queue.c. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from pbx.demo.company import QUEUES, PlannedCall
from pbx.demo.simulated_history import calls_between

_DAY, _LONGEST = timedelta(days=1), timedelta(hours=1)
_SERVICE_LEVELS_S = {queue.number: queue.service_level_s for queue in QUEUES}


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of Asterisk: when, and the seed of its simulated history."""

    seed: int
    booted_at: datetime

    def calls_between(self, from_at: datetime, to_at: datetime) -> Iterator[PlannedCall]:
        """The calls that overlap a period, without those that the restart ended."""
        return (call for call in calls_between(from_at, to_at, self.seed) if call.started_at >= self.booted_at)


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one queue, as in QueueParams. Averages are moving averages, in seconds."""

    completed: int = 0
    abandoned: int = 0  # timeouts included
    hold_s: int = 0
    talk_s: int = 0
    in_level: int = 0  # answered within the service level
    abandoned_in_level: int = 0

    @property
    def level_perf(self) -> float:
        """ServicelevelPerf, percent."""
        return 100 * self.in_level / self.completed if self.completed else 0.0

    @property
    def level_perf2(self) -> float:
        """ServicelevelPerf2, percent."""
        ended = self.completed + self.abandoned
        return 100 * (self.in_level + self.abandoned_in_level) / ended if ended else 0.0


def seconds_between(since: datetime, until: datetime) -> int:
    """Seconds between two moments as Asterisk counts them: both are truncated to seconds first."""
    return int(until.timestamp()) - int(since.timestamp())


def is_waiting(call: PlannedCall, at: datetime) -> bool:
    """Whether the caller of a call waits in a queue."""
    until = call.answered_at or call.left_at
    return call.joined_at is not None and until is not None and call.joined_at <= at < until


def queue_position(boot: Boot, call: PlannedCall, at: datetime) -> tuple[int, int]:
    """A caller's position in the queue at a moment, and how many others wait there."""
    others = [
        other.joined_at
        for other in boot.calls_between(at, at + timedelta(milliseconds=1))
        if other.queue == call.queue and other.uniqueid != call.uniqueid and is_waiting(other, at)
    ]
    before = sum(1 for joined_at in others if joined_at and call.joined_at and joined_at < call.joined_at)
    return before + 1, len(others)


def counters_at(boot: Boot, queue: str, at: datetime) -> Counters:
    """The counters of a queue at a moment."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if day <= boot.booted_at:
        return _count(Counters(), boot, queue, boot.booted_at, at)
    return _count(_counters_at_midnight(boot, queue, day), boot, queue, day, at)


@lru_cache(maxsize=2048)
def _counters_at_midnight(boot: Boot, queue: str, day: datetime) -> Counters:
    before = day - _DAY
    if before <= boot.booted_at:
        return _count(Counters(), boot, queue, boot.booted_at, day)
    return _count(_counters_at_midnight(boot, queue, before), boot, queue, before, day)


def _count(counted: Counters, boot: Boot, queue: str, since: datetime, until: datetime) -> Counters:
    moments: list[tuple[datetime, int, PlannedCall]] = []
    for call in boot.calls_between(since - _LONGEST, until):
        if call.queue == queue and call.left_at is not None:
            moments += [(call.answered_at, 0, call)] if call.answered_at is not None else []
            moments.append((call.left_at, 1, call))
    level_s = _SERVICE_LEVELS_S[queue]
    for at, ended, call in sorted(moments, key=lambda moment: moment[:2]):
        if since < at <= until:
            counted = _ended(counted, call, level_s) if ended else _connected(counted, call)
    return counted


def _connected(counted: Counters, call: PlannedCall) -> Counters:
    """recalc_holdtime of app_queue.c: the first wait is the average, then each one counts a quarter."""
    if call.joined_at is None or call.answered_at is None:
        return counted
    hold_s = seconds_between(call.joined_at, call.answered_at)
    first = counted.completed + counted.abandoned == 0
    return replace(counted, hold_s=hold_s if first else (counted.hold_s * 3 + hold_s) // 4)


def _ended(counted: Counters, call: PlannedCall, level_s: int) -> Counters:
    if call.joined_at is None or call.left_at is None:
        return counted
    if call.answered_at is None:
        early = seconds_between(call.joined_at, call.left_at) <= level_s
        return replace(counted, abandoned=counted.abandoned + 1, abandoned_in_level=counted.abandoned_in_level + early)
    early = seconds_between(call.joined_at, call.answered_at) <= level_s
    talk_s = seconds_between(call.answered_at, call.left_at)
    return replace(
        counted,
        completed=counted.completed + 1,
        in_level=counted.in_level + early,
        talk_s=talk_s if counted.completed == 0 else (counted.talk_s * 3 + talk_s) // 4,
    )
