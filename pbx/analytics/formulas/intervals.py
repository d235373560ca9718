"""A period cut into hours or days of the PBX's zone, summer time and zones of half hours included.

Intervals are instants: the hour that comes twice is two intervals with the same name, the hour that never is has none.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IntervalStep = Literal["hour", "day"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
HOUR_S = 3600
DAYS, HOURS = 7, 24


def interval_edges(since: datetime, until: datetime, zone: tzinfo, step: IntervalStep) -> list[datetime]:
    """The moments (UTC) at which an hour or day of `zone` begins, from the one `since` lies in up to `until`.

    The first is `since` itself and the last `until`: interval i reaches from edge i up to edge i + 1, and is cut where
    the period is. Empty when the period is.
    """
    if since >= until:
        return []
    edges, at = [since.astimezone(UTC)], since
    while (at := next_edge(at, zone, step)) < until:
        edges.append(at)
    return [*edges, until.astimezone(UTC)]


def next_edge(at: datetime, zone: tzinfo, step: IntervalStep) -> datetime:
    """The moment (UTC) at which the hour or day of `zone` that `at` lies in ends."""
    local = at.astimezone(zone)
    if step == "day":
        return datetime.combine(local.date() + timedelta(days=1), time.min, zone).astimezone(UTC)
    into_s = local.minute * 60 + local.second + local.microsecond / 1e6
    return at.astimezone(UTC) + timedelta(seconds=HOUR_S - into_s)  # in UTC, where no hour is skipped or repeated


def epochs(edges: list[datetime]) -> Ints:
    """Moments as whole seconds since 1970, as the database holds them."""
    return np.array([int(edge.timestamp()) for edge in edges], dtype=np.int64)


def interval_of(at_s: Ints, edges: list[datetime]) -> Ints:
    """In which interval each moment lies: -1 before the first, len(edges) - 1 from the end on."""
    found: Ints = np.searchsorted(epochs(edges), at_s, side="right").astype(np.int64) - 1
    return found


def unseen(edges: list[datetime], gaps: Sequence[tuple[datetime, datetime]]) -> NDArray[np.bool_]:
    """Of each interval between two edges, whether it lies in a gap. Gaps come in order and don't overlap."""
    starts, ends = (epochs([gap[i] for gap in gaps]) for i in (0, 1))
    bounds = epochs(edges)
    if not len(starts) or len(bounds) < 2:
        return np.zeros(max(len(bounds) - 1, 0), np.bool_)
    before = np.searchsorted(starts, bounds[:-1], side="right") - 1
    found: NDArray[np.bool_] = (before >= 0) & (bounds[1:] <= ends[before])
    return found


def week_cells(edges: list[datetime], zone: tzinfo) -> Ints:
    """For hourly edges, the cell of the week each interval belongs to: weekday (0 = Monday) * 24 + hour of the day."""
    local = [edge.astimezone(zone) for edge in edges[:-1]]
    return np.array([at.weekday() * HOURS + at.hour for at in local], dtype=np.int64)


def period_before(since: datetime, until: datetime, zone: tzinfo, now: datetime) -> tuple[datetime, datetime]:
    """The period to compare with: as long, and right before.

    Whole local days are moved by as many local days, whatever summer time does to their length. Of a period that isn't
    over, only what has passed is compared: today until ten with yesterday until ten.
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
