"""Splits a period into hours or days of the PBX's time zone, across clock changes and in zones of half hours.

Edges are moments in UTC. When clocks go back, the repeated hour is two intervals with the same local name; when they
go forward, the skipped hour has no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

IntervalStep = Literal["hour", "day"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
HOUR_S = 3600
DAYS, HOURS = 7, 24
_DAY = timedelta(hours=HOURS)
_Figures = TypeVar("_Figures")


@dataclass(frozen=True)
class Interval(Generic[_Figures]):
    """Figures of what began from `start_at` up to `end_at` (UTC), an hour or day of the PBX's zone."""

    start_at: datetime
    end_at: datetime
    figures: _Figures


def interval_edges(since: datetime, until: datetime, zone: tzinfo, step: IntervalStep) -> list[datetime]:
    """The edges (UTC) of the hours or days of `zone` in a period; interval i is from edge i up to edge i + 1.

    The first edge is `since` and the last is `until`, so the first and last interval may be cut short. A period without
    length has no edges.
    """
    if since >= until:
        return []
    edges, at = [since.astimezone(UTC)], since
    while (at := next_edge(at, zone, step)) < until:
        edges.append(at)
        if step == "hour" and at + _DAY < until and _is_regular(at, zone):
            edges += [at + timedelta(hours=hour) for hour in range(1, HOURS)]
            at = edges[-1]
    return [*edges, until.astimezone(UTC)]


def with_edges(edges: Sequence[datetime], figures: Sequence[_Figures]) -> list[Interval[_Figures]]:
    """The intervals between edges, each with its figures."""
    return [Interval(*item) for item in zip(edges, edges[1:], figures, strict=False)]


def next_edge(at: datetime, zone: tzinfo, step: IntervalStep) -> datetime:
    """The moment (UTC) at which the hour or day of `zone` that contains `at` ends."""
    local = at.astimezone(zone)
    if step == "day":
        return datetime.combine(local.date() + timedelta(days=1), time.min, zone).astimezone(UTC)
    into_s = local.minute * 60 + local.second + local.microsecond / 1e6
    return at.astimezone(UTC) + timedelta(seconds=HOUR_S - into_s)  # in UTC, where no hour is skipped or repeated


def _is_regular(at: datetime, zone: tzinfo) -> bool:
    """Whether a moment is a full hour of a zone whose clocks don't change in the day that follows."""
    local = at.astimezone(zone)
    full = local.minute == local.second == local.microsecond == 0
    return full and (at + _DAY).astimezone(zone).utcoffset() == local.utcoffset()


def epochs(edges: list[datetime]) -> Ints:
    """Moments in integer seconds since 1970, as in the database."""
    return np.array([int(edge.timestamp()) for edge in edges], dtype=np.int64)


def interval_of(at_s: Ints, edges: list[datetime]) -> Ints:
    """The index of the interval that contains each moment: -1 before the first, len(edges) - 1 from the end on."""
    found: Ints = np.searchsorted(epochs(edges), at_s, side="right").astype(np.int64) - 1
    return found


def in_gap(edges: list[datetime], gaps: Sequence[tuple[datetime, datetime]]) -> NDArray[np.bool_]:
    """Whether each interval is entirely in a gap. Gaps are in order and don't overlap."""
    starts, ends = (epochs([gap[i] for gap in gaps]) for i in (0, 1))
    bounds = epochs(edges)
    if not len(starts) or len(bounds) < 2:
        return np.zeros(max(len(bounds) - 1, 0), np.bool_)
    before = np.searchsorted(starts, bounds[:-1], side="right") - 1
    found: NDArray[np.bool_] = (before >= 0) & (bounds[1:] <= ends[before])
    return found


def week_cells(edges: list[datetime], zone: tzinfo) -> Ints:
    """The hour of the week of each hourly interval: weekday (0 = Monday) * 24 + hour of the day."""
    local = [edge.astimezone(zone) for edge in edges[:-1]]
    return np.array([at.weekday() * HOURS + at.hour for at in local], dtype=np.int64)


def period_before(since: datetime, until: datetime, zone: tzinfo, now: datetime) -> tuple[datetime, datetime]:
    """The period to compare with: equally long, and immediately before.

    A period of complete local days is moved by that number of local days, even where clock changes alter their length.
    If the period isn't over, only the part that has passed is compared: today until ten with yesterday until ten.
    """
    first, last = since.astimezone(zone), until.astimezone(zone)
    reached = min(until, now)
    if first.time() == last.time() == time.min:
        days = timedelta(days=(last.date() - first.date()).days)
        return _moved(since, days, zone), min(_moved(reached, days, zone), since)
    length = until - since
    return since - length, reached - length


def _moved(at: datetime, by: timedelta, zone: tzinfo) -> datetime:
    return (at.astimezone(zone).replace(tzinfo=None) - by).replace(tzinfo=zone).astimezone(UTC)
