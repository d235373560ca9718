"""Figures of queues over a period: totals, and by interval, queue, agent, DID, waiting time and hour of the week.

DuckDB adds up the visits (pbx.analytics.engine). A session keeps the sums, so figures of a page that come from the same
sums cost one scan: totals from those by queue, and days and hours of the week from those by hour.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import local_s, query, query_columns, rows_of, text_literal
from pbx.analytics.formulas.intervals import (
    DAYS,
    HOUR_S,
    HOURS,
    Interval,
    IntervalStep,
    Ints,
    in_gap,
    interval_edges,
    interval_of,
    period_before,
    week_cells,
    with_edges,
)
from pbx.analytics.formulas.queues import OUTCOMES, WAIT_ENDS_S, QueueFigures, Targets, WaitBucket
from pbx.analytics.rows_to_columns import DAY_S, cached_in_session
from pbx.store.snapshots import latest_snapshot

VisitDimension = Literal["queue", "agent", "did"]
# The columns of all statements, so that a session reads the visits of days that are not sealed once.
_COLUMNS = (*("visit_id", "queue", "agent", "did", "outcome", "answered", "wait_s", "talk_s", "caller_key", "target"),)
IS_ABANDONED = "(outcome = 'abandoned' AND NOT answered)"
# Each sum of QueueFigures. `within_t`: the wait is at most the answer target T of the visit's queue; `short`: it is
# less than the limit of a short abandon. Both are NULL when the wait is unknown.
SUMS: Mapping[str, str] = {
    "offered": "count(*)",
    "answered": "count(*) FILTER (answered)",
    "abandoned": f"count(*) FILTER {IS_ABANDONED}",
    "answered_within_t": "count(*) FILTER (answered AND within_t)",
    "abandoned_within_t": f"count(*) FILTER ({IS_ABANDONED} AND within_t)",
    "short_abandons": f"count(*) FILTER ({IS_ABANDONED} AND short)",
    "answer_wait_s": "sum(wait_s) FILTER (answered)",
    "answer_waits": "count(wait_s) FILTER (answered)",
    "talk_s": "sum(talk_s) FILTER (answered)",
    "talks": "count(talk_s) FILTER (answered)",
    "max_wait_s": "max(wait_s)",
}
_KNOWN_OUTCOMES = ", ".join(text_literal(name) for name in OUTCOMES if name != "unknown")
# The condition of each outcome; "unknown" includes outcomes that are not in OUTCOMES.
_OUTCOME_IS: Mapping[str, str] = {
    name: f"outcome NOT IN ({_KNOWN_OUTCOMES})" if name == "unknown" else f"outcome = {text_literal(name)}"
    for name in OUTCOMES
}
_OUTCOME_SUMS = {f"outcome_{name}": f"count(*) FILTER ({condition})" for name, condition in _OUTCOME_IS.items()}
# Alike visits are added up first, and then the sums from them by _OF_ALIKE. That is twice as fast as each sum over all
# visits.
_ALIKE = """
outcome, answered, within_t, short, count(*) AS visits,
sum(wait_s) AS wait_s, count(wait_s) AS waits, max(wait_s) AS longest_s, sum(talk_s) AS talk_s, count(talk_s) AS talks
"""
_OF_ALIKE = {
    "count(*)": "sum(visits)",
    "count(wait_s)": "sum(waits)",
    "count(talk_s)": "sum(talks)",
    "max(wait_s)": "max(longest_s)",
}
# A wait of exactly 20 s is in the bucket up to 20 s, just as it is within T.
_WAIT_ENDS = "".join(f" WHEN wait_s <= {end} THEN {i}" for i, end in enumerate(WAIT_ENDS_S))
_WAIT_BUCKET = f"CASE{_WAIT_ENDS} WHEN wait_s IS NOT NULL THEN {len(WAIT_ENDS_S)} END"
QueueInterval = Interval[QueueFigures]  # of the visits that joined in it


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a chart of visits that was clicked; None means any.

    Waits are longer than `wait_over_s` and at most `wait_up_to_s`, as in WaitBucket. `present`: visits that were
    waiting or talking at any moment from the first up to the second.
    """

    outcomes: Sequence[str] | None = None
    answered: bool | None = None
    weekday: int | None = None  # 0 = Monday; with `hour`, in the PBX's time zone
    hour: int | None = None
    wait_over_s: float | None = None
    wait_up_to_s: float | None = None
    present: tuple[datetime, datetime] | None = None
    target: str | None = None  # where the call was transferred


@dataclass(frozen=True, slots=True)
class FigureFilter:
    """Which visits of a PBX are counted: those that joined from `since` up to `until`. None means any.

    `chosen` limits them to the part of a chart that was clicked; `zone` is the time zone of its weekday and hour.
    """

    connection_id: int
    since: datetime
    until: datetime
    queue: str | None = None
    agent: str | None = None
    did: str | None = None
    chosen: Selection | None = None
    zone: tzinfo = UTC

    def before(self, zone: tzinfo, now: datetime) -> "FigureFilter":
        """The same filter for the period before, by `period_before` of pbx.analytics.formulas.intervals."""
        since, until = period_before(self.since, self.until, zone, now)
        return replace(self, since=since, until=until)


@dataclass(frozen=True, slots=True)
class HeatCell:
    """An hour of the week: the figures of all its visits, and how many such hours of the period were observed."""

    figures: QueueFigures
    hours: int


def queue_targets(session: Session, connection_id: int, answer_s: float = 20.0, short_s: float = 5.0) -> Targets:
    """The answer target T of each queue from the PBX's newest snapshot; `answer_s` for a queue without one."""
    snapshot = latest_snapshot(session, connection_id)
    queues = snapshot.queues if snapshot else ()
    own = {queue.name: float(queue.service_level_s) for queue in queues if queue.service_level_s}
    return Targets(answer_s, short_s, own)


def queue_totals(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> QueueFigures:
    """The figures of all selected visits together."""
    found = _sums_by(session, wanted, "queue", targets)
    return _added_up(found, np.zeros(len(found), np.int64), 1)[0]


def queue_intervals(
    session: Session, wanted: FigureFilter, zone: tzinfo, step: IntervalStep, targets: Targets | None = None
) -> list[QueueInterval]:
    """Figures by hour or day of `zone`, in order; an interval without visits has zeros.

    They don't show whether an interval was observed: pbx.analytics.coverage does, and charts draw its gaps.
    """
    edges = interval_edges(wanted.since, wanted.until, zone, step)
    if not edges:
        return []
    by_hour = _sums_by_hour(session, wanted, zone, targets)
    return with_edges(edges, _added_up(by_hour, interval_of(by_hour["first_s"], edges), len(edges) - 1))


def figures_by(
    session: Session, wanted: FigureFilter, by: VisitDimension, targets: Targets | None = None
) -> dict[str, QueueFigures]:
    """Figures by queue, by the agent who answered, or by DID, most visits first; "" for visits without one."""
    found = _sums_by(session, wanted, by, targets)
    names = found.names[by]
    figures = zip(names, _added_up(found, found[by], len(names)), strict=True)
    return dict(sorted(figures, key=lambda item: (-item[1].offered, item[0])))


def by_queue(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> dict[str, QueueFigures]:
    """Figures by queue, most visits first."""
    return figures_by(session, wanted, "queue", targets)


def by_agent(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> dict[str, QueueFigures]:
    """Figures by the agent who answered, most visits first. pbx.analytics.agents has more figures of agents."""
    return {name: figures for name, figures in figures_by(session, wanted, "agent", targets).items() if name}


def outcome_counts(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> dict[str, int]:
    """The number of visits by outcome, in the order of OUTCOMES; outcomes without visits are left out.

    With the `targets` of `queue_totals`, the same sums serve both.
    """
    return dict(queue_totals(session, wanted, targets).outcomes)


def wait_distribution(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> list[WaitBucket]:
    """Visits by waiting time and outcome, without those whose wait is unknown.

    With the `targets` of `queue_totals`, the same sums serve both.
    """
    found = _sums_by(session, wanted, "queue", targets)
    found = found.where(found["bucket"] >= 0)  # -1: unknown
    figures = _added_up(found, found["bucket"], len(WAIT_ENDS_S) + 1)
    bounds = zip((0, *WAIT_ENDS_S), (*WAIT_ENDS_S, None), figures, strict=True)
    return [WaitBucket(over_s, up_to_s, one.answered, one.abandoned, one.other) for over_s, up_to_s, one in bounds]


def heat_map(
    session: Session,
    wanted: FigureFilter,
    zone: tzinfo,
    targets: Targets | None = None,
    gaps: Sequence[tuple[datetime, datetime]] = (),
) -> list[list[HeatCell]]:
    """Figures by weekday (0 = Monday) and hour of the day in `zone`: 7 lists of 24 cells.

    The hour that repeats when clocks go back counts twice in its cell. An hour within one of the `gaps` (in order),
    which was not observed, doesn't count.
    """
    edges = interval_edges(wanted.since, wanted.until, zone, "hour")
    cells = week_cells(edges, zone)
    figures = [QueueFigures()] * (DAYS * HOURS)
    if edges:
        by_hour = _sums_by_hour(session, wanted, zone, targets)
        figures = _added_up(by_hour, cells[interval_of(by_hour["first_s"], edges)], DAYS * HOURS)
    hours = np.bincount(cells[~in_gap(edges, gaps)], minlength=DAYS * HOURS)
    found = [HeatCell(*cell) for cell in zip(figures, hours.tolist(), strict=True)]
    return [found[day * HOURS : (day + 1) * HOURS] for day in range(DAYS)]


def visit_names(session: Session, wanted: FigureFilter, of: VisitDimension) -> list[str]:
    """The queues, agents or DIDs of all visits of a period, sorted by name; the filter's other parts are ignored."""
    visits = visits_of(session, wanted.connection_id, wanted.since, wanted.until)
    return sorted(name for (name,) in query(session, f"SELECT DISTINCT {of} FROM {visits} WHERE {of} > ''"))


def visits_of(session: Session, connection_id: int, since: datetime, until: datetime) -> str:
    """SQL of a table of all visits of a PBX that joined from `since` up to `until`."""
    return rows_of(session, "queue_visits", connection_id, _COLUMNS, since, until)


def selected_visits(session: Session, wanted: FigureFilter, chosen: Selection | None = None, zone: tzinfo = UTC) -> str:
    """SQL of a table of the selected visits; with `chosen`, those that are also in that selection."""
    conditions = [
        f"{column} = {text_literal(name)}"
        for column, name in (("queue", wanted.queue), ("agent", wanted.agent), ("did", wanted.did))
        if name is not None
    ]
    for selection, its_zone in ((wanted.chosen, wanted.zone), (chosen, zone)):
        if selection:
            conditions += _conditions(selection, local_s("at_s", its_zone, wanted.since, wanted.until))
    visits = visits_of(session, wanted.connection_id, wanted.since, wanted.until)
    return f"(SELECT * FROM {visits} WHERE {' AND '.join(conditions)})" if conditions else visits


def _conditions(chosen: Selection, local: str) -> Iterable[str]:
    """The conditions that visits of a selection meet. `local`: SQL of the local second at which a visit joined."""
    if chosen.outcomes is not None:
        yield f"({' OR '.join(_OUTCOME_IS[name] for name in chosen.outcomes) or 'false'})"
    if chosen.answered is not None:
        yield "answered" if chosen.answered else "NOT answered"
    if chosen.target is not None:
        yield f"target = {text_literal(chosen.target)}"
    if chosen.wait_over_s is not None:
        yield f"wait_s > {chosen.wait_over_s!r}"
    if chosen.wait_up_to_s is not None:
        yield f"wait_s <= {chosen.wait_up_to_s!r}"
    if chosen.present is not None:
        since, until = (at.timestamp() for at in chosen.present)
        ended_s = "at_s + coalesce(wait_s, 0) + coalesce(talk_s, 0)"
        yield f"at_s < {until!r} AND (outcome = 'in_progress' OR {ended_s} >= {since!r})"
    if chosen.weekday is not None:
        yield f"({local} // {DAY_S} + 3) % 7 = {chosen.weekday}"  # 1970 began on a Thursday
    if chosen.hour is not None:
        yield f"{local} // {HOUR_S} % 24 = {chosen.hour}"


def _sums_by(session: Session, wanted: FigureFilter, by: VisitDimension, targets: Targets | None) -> Columns:
    """The sums of visits by agent or DID, or by queue and `bucket`, the index of the waiting-time bucket."""
    if by == "queue":
        return _sums(session, wanted, f"queue, {_WAIT_BUCKET} AS bucket", "queue, bucket", targets or Targets())
    return _sums(session, wanted, by, by, targets or Targets())


def _sums_by_hour(session: Session, wanted: FigureFilter, zone: tzinfo, targets: Targets | None) -> Columns:
    """The sums of visits by the hour of `zone` in which they joined, with the moment `first_s` of its first visit.

    An hour is known by the moment `began_s` at which it began in UTC. So an hour that repeats when clocks go back is
    two.
    """
    local = local_s("at_s", zone, wanted.since, wanted.until)
    began = f"at_s - mod({local}, {HOUR_S}) AS began_s, min(at_s) AS first_s"
    return _sums(session, wanted, began, "began_s, min(first_s) AS first_s", targets or Targets())


def _sums(session: Session, wanted: FigureFilter, group: str, key: str, targets: Targets) -> Columns:
    """The sums of groups of visits. `group`: SQL of the group of a visit; `key`: of a group's own columns."""
    own = "".join(f" WHEN {text_literal(name)} THEN {target_s!r}" for name, target_s in targets.by_queue.items())
    target_s = f"CASE queue{own} ELSE {targets.answer_s!r} END" if own else repr(targets.answer_s)
    flags = f"wait_s <= {target_s} AS within_t, wait_s < {targets.short_s!r} AS short"
    alike = f"SELECT {group}, {_ALIKE} FROM (SELECT *, {flags} FROM {selected_visits(session, wanted)}) GROUP BY ALL"
    sums = ", ".join(f"{_of_alike(value)} AS {name}" for name, value in {**SUMS, **_OUTCOME_SUMS}.items())
    sql = f"SELECT {key}, {sums} FROM ({alike}) GROUP BY ALL"
    return cached_in_session(session, ("sums", sql), lambda: query_columns(session, sql))


def _of_alike(aggregate: str) -> str:
    """The SQL of one of SUMS over counts of alike visits."""
    for of_visits, of_alike in _OF_ALIKE.items():
        if of_visits in aggregate:
            found = aggregate.replace(of_visits, of_alike)
            return f"CAST(coalesce({found}, 0) AS BIGINT)" if of_visits.startswith("count") else found
    return aggregate


def _added_up(found: Columns, group: Ints, groups: int) -> list[QueueFigures]:
    """Figures of groups of sums. `group` is the group of each row, 0 to `groups` - 1."""

    def added(name: str) -> list[Any]:
        if name == "max_wait_s":
            longest = np.full(groups, np.nan)
            np.fmax.at(longest, group, found[name])
            return [None if np.isnan(value) else value for value in longest.tolist()]
        total = np.zeros(groups, found[name].dtype)
        np.add.at(total, group, np.nan_to_num(found[name]))  # a sum without rows is NaN
        added_up: list[Any] = total.tolist()
        return added_up

    names = [name.removeprefix("outcome_") for name in _OUTCOME_SUMS]
    counts = zip(*(added(name) for name in _OUTCOME_SUMS), strict=True)
    outcomes = [{name: count for name, count in zip(names, row, strict=True) if count} for row in counts]
    columns = zip(*(added(name) for name in SUMS), strict=True)
    return [
        QueueFigures(**dict(zip(SUMS, row, strict=True)), outcomes=by_outcome)
        for row, by_outcome in zip(columns, outcomes, strict=True)
    ]
