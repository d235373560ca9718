"""Figures of trunks over a period: by interval and trunk, hangup causes, busy hour and lines needed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import bucket_s, query, query_columns, rows_of
from pbx.analytics.formulas.concurrency import Levels, Load, changes_of_groups, levels_of, sweep
from pbx.analytics.formulas.erlang import lines_needed
from pbx.analytics.formulas.intervals import (
    HOUR_S,
    Interval,
    IntervalStep,
    Ints,
    epochs,
    interval_edges,
    interval_of,
    with_edges,
)
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.formulas.trunks import EFFECTIVE_DISPOSITIONS, CauseCount, TrunkFigures
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.hangup_causes import EFFECTIVE_CAUSES

LONGEST_CALL = timedelta(days=1)  # a call that began longer ago and has no end doesn't count as in progress
UNDECIDED_DISPOSITIONS = ("", "UNKNOWN")  # still ringing, or ended without a record of how
TrunkInterval = Interval[TrunkFigures]  # of the seizures that began in it
_OPEN, _ANSWERED, _DELIVERED, _UNSURE, _FAILED = range(5)
# How a seizure ended, as one number: comparing texts in each sum takes most of the time.
_ENDED = f"""CASE WHEN disposition = 'ANSWERED' THEN {_ANSWERED}
    WHEN disposition IN {UNDECIDED_DISPOSITIONS} THEN {_OPEN}
    WHEN disposition IN {EFFECTIVE_DISPOSITIONS} OR cause IN {EFFECTIVE_CAUSES} THEN {_DELIVERED}
    WHEN disposition = 'FAILED' AND cause IS NULL THEN {_UNSURE}
    ELSE {_FAILED} END"""
# The first fields of TrunkFigures, in their order, as aggregates of the dataset trunk_calls with `ended`.
TRUNK_SUMS = {
    "seizures": "count(*)",
    "open": f"count(*) FILTER (ended = {_OPEN})",
    "answered": f"count(*) FILTER (ended = {_ANSWERED})",
    "effective": f"count(*) FILTER (ended = {_ANSWERED} OR ended = {_DELIVERED})",
    "unsure": f"count(*) FILTER (ended = {_UNSURE})",
    "outbound": "count(*) FILTER (outbound)",
    "billsec_s": f"sum(talk_s) FILTER (ended = {_ANSWERED})",
    "billed": f"count(talk_s) FILTER (ended = {_ANSWERED})",
    "pdd_s": "sum(pdd_s) FILTER (outbound)",
    "pdds": "count(pdd_s) FILTER (outbound)",
}
_COLUMNS = ("trunk", "outbound", "disposition", "cause", "duration_s", "talk_s", "pdd_s")


@dataclass(frozen=True, slots=True)
class BusyHour:
    """The clock hour with the most traffic, and how many lines that traffic needs for 1% blocking (Erlang B)."""

    start_at: datetime
    figures: TrunkFigures
    lines_needed: int

    @property
    def traffic(self) -> Ratio:
        """Traffic in erlangs: call time in the hour / 3600 s. Ringing counts, because it occupies a line."""
        return Ratio(self.figures.busy_s, 3600)


def trunk_totals(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime
) -> TrunkFigures:
    """The figures of a trunk, or of all trunks together (None), for the period."""
    if since >= until:
        return TrunkFigures()
    edges = [since, until]
    loads = sweep(_levels(session, connection_id, trunk, since, until), epochs(edges))
    return _figures(_sums(session, connection_id, since, until, HOUR_S), trunk, edges, loads)[0]


def trunk_intervals(
    session: Session,
    connection_id: int,
    trunk: str | None,
    since: datetime,
    until: datetime,
    zone: tzinfo,
    step: IntervalStep,
) -> list[TrunkInterval]:
    """Figures by hour or day of `zone`, in order; an interval without seizures has zeros.

    A seizure counts in the interval in which it began, and its busy seconds in all intervals in which it lasted.
    """

    def count() -> list[TrunkInterval]:
        edges, loads = _loads(session, connection_id, trunk, since, until, zone, step)
        sums = _sums(session, connection_id, since, until, bucket_s(zone, since, until))
        return with_edges(edges, _figures(sums, trunk, edges, loads))

    return cached_in_session(session, ("intervals", connection_id, trunk, since, until, zone, step), count)


def by_trunk(session: Session, connection_id: int, since: datetime, until: datetime) -> dict[str, TrunkFigures]:
    """Figures of each trunk that was seized in the period, by name."""
    names = _trunks(session, connection_id, since, until)
    figures = {name: trunk_totals(session, connection_id, name, since, until) for name in names}
    return {name: found for name, found in figures.items() if found.seizures or found.busy_s}


def cause_counts(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime
) -> list[CauseCount]:
    """How seizures that began in the period ended, most frequent first: by Q.850 cause, or disposition without one."""
    counts: Counter[tuple[int | None, str]] = Counter()
    for name, began, cause, disposition, count in _endings(session, connection_id, since, until):
        if began and trunk in (None, name):
            counts[cause, disposition] += count
    items = [CauseCount(cause, disposition, count) for (cause, disposition), count in counts.items()]
    return sorted(items, key=lambda item: (-item.count, item.cause or 0, item.disposition))


def busy_hour(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime, zone: tzinfo
) -> BusyHour | None:
    """The hour of `zone` with the most busy seconds, the earliest if several are equal; None without traffic."""
    edges, loads = _loads(session, connection_id, trunk, since, until, zone, "hour")
    busiest = max(range(len(loads)), key=lambda hour: loads[hour].busy_s, default=None)
    if busiest is None or not loads[busiest].busy_s:
        return None
    hour = edges[busiest : busiest + 2]
    sums = _sums(session, connection_id, since, until, bucket_s(zone, since, until))
    (figures,) = _figures(sums, trunk, hour, [loads[busiest]])
    return BusyHour(hour[0], figures, lines_needed(figures.busy_s / 3600))


def _figures(sums: Columns, trunk: str | None, edges: list[datetime], loads: Sequence[Load]) -> list[TrunkFigures]:
    """The figures of each interval between edges, from the sums of shorter times and the load of each interval."""
    if not loads:
        return []
    bounds, length = epochs(edges), len(loads)
    sums = sums.narrowed({"trunk": trunk})
    place = interval_of(sums["at_s"], edges)
    inside = (place >= 0) & (place < length)
    totals = [np.bincount(place[inside], weights=sums[name][inside], minlength=length) for name in TRUNK_SUMS]
    counted = [
        (total if name.endswith("_s") else total.astype(np.int64)).tolist()
        for name, total in zip(TRUNK_SUMS, totals, strict=True)
    ]
    of_loads = [load.peak for load in loads], [load.busy_s for load in loads]
    lengths_s = np.diff(bounds).astype(np.float64).tolist()
    return [TrunkFigures(*row) for row in zip(*counted, *of_loads, lengths_s, strict=True)]


def _seizures(session: Session, connection_id: int, since: datetime, until: datetime) -> str:
    """SQL of the seizures of the period, and those of the day before, which may last into it."""
    return rows_of(session, "trunk_calls", connection_id, _COLUMNS, since - LONGEST_CALL, until)


def _endings(session: Session, connection_id: int, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
    """How many seizures ended in each way: (trunk, whether they began in the period, cause, disposition, count)."""
    began = f"at_s >= {int(since.timestamp())} AS began"
    rows = _seizures(session, connection_id, since, until)
    sql = f"SELECT trunk, {began}, cause, disposition, count(*) FROM {rows} GROUP BY ALL"
    return cached_in_session(session, ("trunk endings", sql), lambda: query(session, sql))


def _trunks(session: Session, connection_id: int, since: datetime, until: datetime) -> list[str]:
    """The names of the trunks that have seizures in the period or on the day before."""
    return sorted({trunk for trunk, *_ in _endings(session, connection_id, since, until)})


def _sums(session: Session, connection_id: int, since: datetime, until: datetime, size_s: int) -> Columns:
    """The sums of the seizures that began in the period, by trunk and `size_s` seconds.

    `at_s`: when these seconds start, or the period if that is later.
    """
    rows, since_s = _seizures(session, connection_id, since, until), int(since.timestamp())
    sums = ", ".join(f"coalesce({value}, 0) AS {name}" for name, value in TRUNK_SUMS.items())
    start = f"greatest(bucket * {size_s}, {since_s})"
    began = f"SELECT trunk, at_s // {size_s} AS bucket, outbound, talk_s, pdd_s, {_ENDED} AS ended FROM {rows}"
    began += f" WHERE at_s >= {since_s}"
    sql = f"SELECT trunk, {start} AS at_s, {sums} FROM ({began}) GROUP BY trunk, bucket"
    return cached_in_session(session, ("trunk sums", sql), lambda: query_columns(session, sql))


def _loads(
    session: Session,
    connection_id: int,
    trunk: str | None,
    since: datetime,
    until: datetime,
    zone: tzinfo,
    step: IntervalStep,
) -> tuple[list[datetime], list[Load]]:
    """The edges of the hours or days of a period, and the load of each."""

    def count() -> tuple[list[datetime], list[Load]]:
        edges = interval_edges(since, until, zone, step)
        return edges, sweep(_levels(session, connection_id, trunk, since, until), epochs(edges))

    return cached_in_session(session, ("loads", connection_id, trunk, since, until, zone, step), count)


def _levels(session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime) -> Levels:
    """The concurrency that seizures cause: of a trunk, or of all."""
    changes = _changes(session, connection_id, since, until)
    if trunk is not None:
        return levels_of(changes.get(trunk, np.zeros(0, np.int64)))
    key = ("levels", connection_id, since, until)
    return cached_in_session(
        session, key, lambda: levels_of(np.sort(np.concatenate([*changes.values(), np.zeros(0, np.int64)])))
    )


def _changes(session: Session, connection_id: int, since: datetime, until: datetime) -> dict[str, Ints]:
    """The changes of concurrency that seizures cause, by trunk.

    A call without an end lasts until now, unless it began so long ago that its end must have been missed.
    """

    def load() -> dict[str, Ints]:
        names, now_s = _trunks(session, connection_id, since, until), datetime.now(UTC).timestamp()
        sql = _SPANS.format(seizures=_seizures(session, connection_id, since, until))
        values = {"trunks": names, "now": now_s, "oldest": now_s - LONGEST_CALL.total_seconds()}
        spans = query_columns(session, sql, values)
        parts = changes_of_groups(spans["start_s"], spans["end_s"], spans["trunk"], len(names))
        return dict(zip(names, parts, strict=True)) if names else {}

    return cached_in_session(session, ("trunk changes", connection_id, since, until), load)


# A duration below 0 means that the end was not recorded (UNKNOWN_DURATION_S): it counts as no time.
_SPANS = """
SELECT (list_position($trunks::VARCHAR[], trunk) - 1)::BIGINT AS trunk, at_s::DOUBLE AS start_s,
    CASE WHEN duration_s IS NULL AND disposition IN ('', 'ANSWERED') AND at_s > $oldest THEN greatest($now, at_s)
    ELSE at_s + greatest(coalesce(duration_s, 0), 0) END::DOUBLE AS end_s
FROM {seizures}
"""
