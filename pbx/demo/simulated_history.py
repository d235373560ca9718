"""The simulated history of the demo company, by day and period. The same day always has the same calls. Pure."""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from zoneinfo import ZoneInfo

from pbx.demo.company import ZONE, PlannedCall
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.shifts_and_outages import FLAPPING, DayClock, outages_of_day, shifts_of_day
from pbx.demo.simulated_day import simulate_day
from pbx.model.history import AgentEvent

_SEARCHED_DAYS = 60
LONGEST_CALL = timedelta(hours=1)  # every call is shorter
_started_at = attrgetter("started_at")


@lru_cache(maxsize=64)
def calls_of_day(day: date) -> tuple[PlannedCall, ...]:
    """All calls that start on a local day of the company, sorted by their start. The last may end after midnight."""
    return simulate_day(day)


def calls_between(from_at: datetime, to_at: datetime) -> Iterator[PlannedCall]:
    """The calls that overlap a period, sorted by their start."""
    for day in days_between(from_at, to_at):
        calls = calls_of_day(day)
        first = bisect_left(calls, from_at - LONGEST_CALL, key=_started_at)
        last = bisect_left(calls, to_at, key=_started_at)
        yield from (call for call in calls[first:last] if call.ended_at >= from_at)


def days_between(from_at: datetime, to_at: datetime) -> Iterator[date]:
    """The local days whose calls may overlap a period. A call may end after midnight."""
    zone = ZoneInfo(ZONE)
    day = (from_at - timedelta(hours=2)).astimezone(zone).date()
    while day <= to_at.astimezone(zone).date():
        yield day
        day += timedelta(days=1)


def local_day(at: datetime) -> date:
    """The company's local day at a moment."""
    return at.astimezone(ZoneInfo(ZONE)).date()


def recorded_calls(now: datetime) -> tuple[PlannedCall, ...]:
    """The last ended call of each sample recording, newest first."""
    found: dict[str, PlannedCall] = {}
    today = local_day(now)
    for days in range(_SEARCHED_DAYS):
        day = today - timedelta(days=days)
        for call in reversed(calls_of_day(day)):
            if call.recording and call.ended_at < now:
                found.setdefault(call.recording, call)
        if len(found) == len(SAMPLE_RECORDINGS):
            break
    return tuple(sorted(found.values(), key=lambda call: call.started_at, reverse=True))


@lru_cache(maxsize=64)
def agent_changes_of_day(day: date) -> tuple[AgentEvent, ...]:
    """The agents' logins, pauses and logouts, one event for each of their queues, sorted by time."""
    clock, changes = DayClock(day), []
    for shift in shifts_of_day(day):
        moments = [(shift.from_s, "login", "")]
        for pause in shift.pauses:
            moments += [(pause.from_s, "pause", pause.reason), (pause.to_s, "unpause", "")]
        moments.append((shift.to_s, "logout", ""))
        for second, kind, reason in moments:
            for queue in shift.agent.queues:
                changes.append(AgentEvent(clock.at(second), shift.agent.name, queue, kind, reason))  # type: ignore[arg-type]
    return tuple(sorted(changes, key=lambda change: change.happened_at))


@lru_cache(maxsize=64)
def trunk_changes_of_day(day: date) -> tuple[tuple[datetime, str, str], ...]:
    """The changes of the flapping trunk's registration: the moment, the trunk and its new state."""
    clock, changes = DayClock(day), []
    for since_s, until_s, state in outages_of_day(day):
        changes += [(clock.at(since_s), FLAPPING.name, str(state)), (clock.at(until_s), FLAPPING.name, "Registered")]
    return tuple(changes)
