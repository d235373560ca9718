"""Figures of trunks over a period: by interval and trunk, hangup causes, busy hour and lines needed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import bucket_s, query, query_columns, rows_of
from pbx.analytics.formulas.concurrency import Levels, levels, sweep
from pbx.analytics.formulas.erlang import lines_needed
from pbx.analytics.formulas.intervals import (
    HOUR_S,
    Interval,
    IntervalStep,
    epochs,
    interval_edges,
    interval_of,
    with_edges,
)
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.formulas.trunks import EFFECTIVE_DISPOSITIONS, CauseCount, TrunkFigures
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.hangup_causes import EFFECTIVE_CAUSES
from pbx.store.models import Table

LONGEST_CALL = timedelta(days=1)  # a call that began longer ago and has no end doesn't count as in progress
UNDECIDED_DISPOSITIONS = ("", "UNKNOWN")  # still ringing, or ended without a record of how
TrunkInterval = Interval[TrunkFigures]  # of the seizures that began in it
_OPEN = f"disposition IN {UNDECIDED_DISPOSITIONS}"
# The first fields of TrunkFigures, in their order, as aggregates of the dataset trunk_calls.
TRUNK_SUMS = {
    "seizures": "count(*)",
    "open": f"count(*) FILTER ({_OPEN})",
    "answered": "count(*) FILTER (disposition = 'ANSWERED')",
    "effective": f"count(*) FILTER (disposition IN {EFFECTIVE_DISPOSITIONS}"
    f" OR (cause IN {EFFECTIVE_CAUSES} AND NOT {_OPEN}))",
    "unsure": "count(*) FILTER (disposition = 'FAILED' AND cause IS NULL)",
    "outbound": "count(*) FILTER (outbound)",
    "billsec_s": "sum(talk_s) FILTER (disposition = 'ANSWERED')",
    "billed": "count(talk_s) FILTER (disposition = 'ANSWERED')",
    "pdd_s": "sum(pdd_s) FILTER (outbound)",
    "pdds": "count(pdd_s) FILTER (outbound)",
}
_SUMMED = ("trunk", "outbound", "disposition", "cause", "talk_s", "pdd_s")
_SAMPLES, _SUBJECTS = (Table.metadata.tables[name].c for name in ("trunk_samples", "subjects"))


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
    found = _figures(session, connection_id, trunk, (since, until), [since, until], HOUR_S)
    return found[0] if found else TrunkFigures()


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
        edges = interval_edges(since, until, zone, step)
        size_s = bucket_s(zone, since, until)
        return with_edges(edges, _figures(session, connection_id, trunk, (since, until), edges, size_s))

    return cached_in_session(session, ("intervals", connection_id, trunk, since, until, zone, step), count)


def by_trunk(session: Session, connection_id: int, since: datetime, until: datetime) -> dict[str, TrunkFigures]:
    """Figures of each trunk that was seized in the period, by name."""
    names = _spans(session, connection_id, since, until).names["trunk"]
    figures = {name: trunk_totals(session, connection_id, name, since, until) for name in sorted(names)}
    return {name: found for name, found in figures.items() if found.seizures or found.busy_s}


def cause_counts(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime
) -> list[CauseCount]:
    """How seizures that began in the period ended, most frequent first: by Q.850 cause, or disposition without one."""
    rows = rows_of(session, "trunk_calls", connection_id, ("cause", "disposition", "trunk"), since, until)
    sql = f"SELECT cause, disposition, count(*) FROM {rows} WHERE $trunk IS NULL OR trunk = $trunk GROUP BY ALL"
    items = [CauseCount(*row) for row in query(session, sql, {"trunk": trunk})]
    return sorted(items, key=lambda item: (-item.count, item.cause or 0, item.disposition))


def busy_hour(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime, zone: tzinfo
) -> BusyHour | None:
    """The hour of `zone` with the most busy seconds, the earliest if several are equal; None without traffic."""
    edges = interval_edges(since, until, zone, "hour")
    loads = sweep(_levels(session, connection_id, trunk, since, until), epochs(edges))
    busiest = max(range(len(loads)), key=lambda hour: loads[hour].busy_s, default=None)
    if busiest is None or not loads[busiest].busy_s:
        return None
    hour = edges[busiest : busiest + 2]
    (figures,) = _figures(session, connection_id, trunk, (since, until), hour, bucket_s(zone, since, until))
    return BusyHour(hour[0], figures, lines_needed(figures.busy_s / 3600))


def _figures(
    session: Session,
    connection_id: int,
    trunk: str | None,
    period: tuple[datetime, datetime],
    edges: list[datetime],
    size_s: int,
) -> list[TrunkFigures]:
    """The figures of each interval between edges. Edges within the period are multiples of `size_s`."""
    if len(edges) < 2 or edges[0] >= edges[-1]:
        return []
    bounds, lengths = epochs(edges), len(edges) - 1
    sums = _sums(session, connection_id, *period, size_s).narrowed({"trunk": trunk})
    place = interval_of(np.maximum(sums["bucket"] * size_s, int(period[0].timestamp())), edges)
    inside = (place >= 0) & (place < lengths)
    totals = [np.bincount(place[inside], weights=sums[name][inside], minlength=lengths) for name in TRUNK_SUMS]
    counted = [
        (total if name.endswith("_s") else total.astype(np.int64)).tolist()
        for name, total in zip(TRUNK_SUMS, totals, strict=True)
    ]
    loads = sweep(_levels(session, connection_id, trunk, *period), bounds)
    columns = (
        *counted,
        [load.peak for load in loads],
        [load.busy_s for load in loads],
        np.diff(bounds).astype(np.float64).tolist(),
    )
    return [TrunkFigures(*row) for row in zip(*columns, strict=True)]


def _sums(session: Session, connection_id: int, since: datetime, until: datetime, size_s: int) -> Columns:
    """The sums of the seizures that began in the period, by trunk and interval (`bucket`, of `size_s` seconds)."""
    rows = rows_of(session, "trunk_calls", connection_id, _SUMMED, since, until)
    sums = ", ".join(f"coalesce({value}, 0) AS {name}" for name, value in TRUNK_SUMS.items())
    sql = f"SELECT trunk, at_s // {size_s} AS bucket, {sums} FROM {rows} GROUP BY ALL"
    return cached_in_session(session, ("trunk sums", sql), lambda: query_columns(session, sql))


def _levels(session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime) -> Levels:
    """The concurrency that seizures cause: of a trunk, or of all."""

    def count() -> Levels:
        spans = _spans(session, connection_id, since, until).narrowed({"trunk": trunk})
        return levels(spans["at_s"].astype(np.float64), spans["end_s"])

    return cached_in_session(session, ("levels", connection_id, trunk, since, until), count)


def _spans(session: Session, connection_id: int, since: datetime, until: datetime) -> Columns:
    """When seizures began and ended: those of the period, and those of the day before, which may last into it.

    A call without an end lasts until now, unless it began so long ago that its end must have been missed.
    """

    def load() -> Columns:
        columns = ("trunk", "disposition", "duration_s")
        rows = rows_of(session, "trunk_calls", connection_id, columns, since - LONGEST_CALL, until)
        now_s = datetime.now(UTC).timestamp()
        return query_columns(
            session, _SPANS.format(rows=rows), {"now": now_s, "oldest": now_s - LONGEST_CALL.total_seconds()}
        )

    return cached_in_session(session, ("trunk spans", connection_id, since, until), load)


# A duration below 0 means that the end was not recorded (UNKNOWN_DURATION_S): it counts as no time.
_SPANS = """
SELECT trunk, at_s,
    CASE WHEN duration_s IS NULL AND disposition IN ('', 'ANSWERED') AND at_s > $oldest THEN greatest($now, at_s)
    ELSE at_s + greatest(coalesce(duration_s, 0), 0) END::DOUBLE AS end_s
FROM {rows}
"""
