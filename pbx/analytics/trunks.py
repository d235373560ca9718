"""Figures of trunks over a period: by interval and trunk, hangup causes, busy hour and lines needed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import load_columns
from pbx.analytics.formulas.concurrency import Levels, levels, sweep
from pbx.analytics.formulas.erlang import lines_needed
from pbx.analytics.formulas.intervals import Interval, IntervalStep, epochs, interval_edges, interval_of, with_edges
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.formulas.trunks import (
    EFFECTIVE_DISPOSITIONS,
    CauseCount,
    SeizureColumns,
    TrunkFigures,
    tally_trunks,
)
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.hangup_causes import EFFECTIVE_CAUSES
from pbx.store.models import Table

SEIZURE_COLUMNS = ("call_id", "trunk", "outbound", "disposition", "cause", "duration_s", "talk_s", "pdd_s")
LONGEST_CALL = timedelta(days=1)  # a call that began longer ago and has no end doesn't count as in progress
UNDECIDED_DISPOSITIONS = ("", "UNKNOWN")  # still ringing, or ended without a record of how
TrunkInterval = Interval[TrunkFigures]  # of the seizures that began in it
_Seizures = tuple[SeizureColumns, Levels]
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
    return _tally(_load(session, connection_id, trunk, since, until), [since, until])[0]


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
        figures = _tally(_load(session, connection_id, trunk, since, until), edges)
        return with_edges(edges, figures)

    return cached_in_session(session, ("intervals", connection_id, trunk, since, until, zone, step), count)


def by_trunk(session: Session, connection_id: int, since: datetime, until: datetime) -> dict[str, TrunkFigures]:
    """Figures of each trunk that was seized in the period, by name."""
    found = _packed(session, connection_id, None, since, until)
    figures = {
        name: _tally(_found(found.where(found.columns["trunk"] == code)), [since, until])[0]
        for code, name in enumerate(found.names["trunk"])
    }
    return {name: figures[name] for name in sorted(figures) if figures[name].seizures or figures[name].busy_s}


def cause_counts(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime
) -> list[CauseCount]:
    """How seizures that began in the period ended, most frequent first: by Q.850 cause, or disposition without one."""
    found = _packed(session, connection_id, trunk, since, until)
    of, names = found.columns, found.names["disposition"]
    began = of["at_s"] >= int(since.timestamp())
    cause, disposition = of["cause"][began], of["disposition"][began]
    pairs, counts = np.unique((cause + 1) * (len(names) + 1) + disposition, return_counts=True)
    items = [
        CauseCount(int(pair // (len(names) + 1)) - 1, names[int(pair % (len(names) + 1))], int(count))
        for pair, count in zip(pairs, counts, strict=True)
    ]
    items = [CauseCount(None, item.disposition, item.count) if item.cause == -1 else item for item in items]
    return sorted(items, key=lambda item: (-item.count, item.cause or 0, item.disposition))


def busy_hour(
    session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime, zone: tzinfo
) -> BusyHour | None:
    """The hour of `zone` with the most busy seconds, the earliest if several are equal; None without traffic."""
    hours = trunk_intervals(session, connection_id, trunk, since, until, zone, "hour")
    busiest = max(hours, key=lambda hour: hour.figures.busy_s, default=None)
    if busiest is None or not busiest.figures.busy_s:
        return None
    return BusyHour(busiest.start_at, busiest.figures, lines_needed(busiest.figures.busy_s / 3600))


def _load(session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime) -> _Seizures:
    key = ("trunk", connection_id, trunk, since, until)
    return cached_in_session(session, key, lambda: _found(_packed(session, connection_id, trunk, since, until)))


def _found(packed: Columns) -> _Seizures:
    seizures = _columns(packed)
    return seizures, levels(seizures.at_s.astype(np.float64), seizures.end_s)


def _packed(session: Session, connection_id: int, trunk: str | None, since: datetime, until: datetime) -> Columns:
    """The seizures of the period, and those of the day before, which may last into it."""
    found = load_columns(session, "trunk_calls", connection_id, since - LONGEST_CALL, until, SEIZURE_COLUMNS)
    return found if trunk is None else found.where(found.columns["trunk"] == found.code("trunk", trunk))


def _columns(found: Columns) -> SeizureColumns:
    of, names = found.columns, found.names["disposition"]

    def ended(*wanted: str) -> Flags:
        found: Flags = np.array([name in wanted for name in names] or [False], np.bool_)[of["disposition"]]
        return found

    lasting = ended("", "ANSWERED") & np.isnan(of["duration_s"])
    ends = of["at_s"] + np.maximum(np.nan_to_num(of["duration_s"]), 0)  # UNKNOWN_DURATION_S counts as no time
    now = datetime.now(UTC).timestamp()
    uncaused, undecided = of["cause"] < 0, ended(*UNDECIDED_DISPOSITIONS)
    return SeizureColumns(
        at_s=of["at_s"],
        trunk=of["trunk"],
        outbound=of["outbound"],
        answered=ended("ANSWERED"),
        effective=ended(*EFFECTIVE_DISPOSITIONS) | (np.isin(of["cause"], EFFECTIVE_CAUSES) & ~undecided),
        open=undecided,
        unsure=ended("FAILED") & uncaused,
        cause=of["cause"],
        end_s=np.where(lasting & (of["at_s"] > now - LONGEST_CALL.total_seconds()), np.maximum(now, of["at_s"]), ends),
        billsec_s=of["talk_s"],
        pdd_s=of["pdd_s"],
        trunks=found.names["trunk"],
    )


def _tally(found: _Seizures, edges: list[datetime]) -> list[TrunkFigures]:
    if len(edges) < 2:
        return []
    bounds, (seizures, calls) = epochs(edges), found
    lengths_s = np.diff(bounds).astype(float).tolist()
    return tally_trunks(seizures, interval_of(seizures.at_s, edges), sweep(calls, bounds), lengths_s)
