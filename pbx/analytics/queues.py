"""Figures of queues over a period: totals, and by interval, queue, agent, DID, waiting time and hour of the week.

They read columns (pbx.analytics.engine) once per session and period, so a page can show as many as it needs. The
formulas are in pbx.analytics.formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Literal

import numpy as np
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import load_columns
from pbx.analytics.formulas.intervals import (
    DAYS,
    HOURS,
    Interval,
    IntervalStep,
    in_gap,
    interval_edges,
    interval_of,
    period_before,
    week_cells,
    with_edges,
)
from pbx.analytics.formulas.queues import (
    IN_PROGRESS,
    OUTCOMES,
    UNKNOWN,
    Flags,
    QueueFigures,
    Targets,
    VisitColumns,
    WaitBucket,
    tally,
    wait_buckets,
)
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.store.snapshots import latest_snapshot

VisitDimension = Literal["queue", "agent", "did"]
_COLUMNS = (*("visit_id", "queue", "agent", "did", "outcome", "answered", "wait_s", "talk_s", "caller_key", "target"),)
_OUTCOME_CODES = {name: code for code, name in enumerate(OUTCOMES)}
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
    visits = load_visits(session, wanted)
    return tally(visits, np.zeros(len(visits), np.int64), 1, targets or Targets())[0]


def queue_intervals(
    session: Session, wanted: FigureFilter, zone: tzinfo, step: IntervalStep, targets: Targets | None = None
) -> list[QueueInterval]:
    """Figures by hour or day of `zone`, in order; an interval without visits has zeros.

    They don't show whether an interval was observed: pbx.analytics.coverage does, and charts draw its gaps.
    """
    visits = load_visits(session, wanted)
    edges = interval_edges(wanted.since, wanted.until, zone, step)
    if not edges:
        return []
    figures = tally(visits, interval_of(visits.joined_s, edges), len(edges) - 1, targets or Targets())
    return with_edges(edges, figures)


def figures_by(
    session: Session, wanted: FigureFilter, by: VisitDimension, targets: Targets | None = None
) -> dict[str, QueueFigures]:
    """Figures by queue, by the agent who answered, or by DID, most visits first; "" for visits without one."""
    visits = load_visits(session, wanted)
    codes, names = {
        "queue": (visits.queue, visits.queues),
        "agent": (visits.agent, visits.agents),
        "did": (visits.did, visits.dids),
    }[by]
    found = zip(names, tally(visits, codes, len(names), targets or Targets()), strict=True)
    return dict(sorted((item for item in found if item[1].offered), key=lambda item: (-item[1].offered, item[0])))


def by_queue(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> dict[str, QueueFigures]:
    """Figures by queue, most visits first."""
    return figures_by(session, wanted, "queue", targets)


def by_agent(session: Session, wanted: FigureFilter, targets: Targets | None = None) -> dict[str, QueueFigures]:
    """Figures by the agent who answered, most visits first. pbx.analytics.agents has more figures of agents."""
    return {name: figures for name, figures in figures_by(session, wanted, "agent", targets).items() if name}


def outcome_counts(session: Session, wanted: FigureFilter) -> dict[str, int]:
    """The number of visits by outcome, in the order of OUTCOMES; outcomes without visits are left out."""
    counts = np.bincount(load_visits(session, wanted).outcome, minlength=len(OUTCOMES))
    return {name: int(count) for name, count in zip(OUTCOMES, counts, strict=True) if count}


def wait_distribution(session: Session, wanted: FigureFilter) -> list[WaitBucket]:
    """Visits by waiting time and outcome."""
    return wait_buckets(load_visits(session, wanted))


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
    visits = load_visits(session, wanted)
    edges = interval_edges(wanted.since, wanted.until, zone, "hour")
    cells = week_cells(edges, zone)
    place = cells[interval_of(visits.joined_s, edges)] if edges else np.zeros(0, np.int64)
    figures = tally(visits, place, DAYS * HOURS, targets or Targets())
    hours = np.bincount(cells[~in_gap(edges, gaps)], minlength=DAYS * HOURS)
    found = [HeatCell(*cell) for cell in zip(figures, hours.tolist(), strict=True)]
    return [found[day * HOURS : (day + 1) * HOURS] for day in range(DAYS)]


def visit_names(session: Session, wanted: FigureFilter, of: VisitDimension) -> list[str]:
    """The queues, agents or DIDs of all visits of a period, sorted by name; the filter's other parts are ignored."""
    found = load_columns(session, "queue_visits", wanted.connection_id, wanted.since, wanted.until, [of])
    codes = np.unique(found[of])
    return sorted(found.names[of][code] for code in codes if found.names[of][code])


def load_visits(session: Session, wanted: FigureFilter) -> VisitColumns:
    """The selected visits as columns."""
    return cached_in_session(session, ("visits", wanted), lambda: _load_visits(session, wanted))


def _load_visits(session: Session, wanted: FigureFilter) -> VisitColumns:
    found = load_columns(session, "queue_visits", wanted.connection_id, wanted.since, wanted.until, _COLUMNS)
    found = found.narrowed({"queue": wanted.queue, "agent": wanted.agent, "did": wanted.did})
    if wanted.chosen:
        found = found.where(chosen_visits(_columns(found), wanted, wanted.chosen, wanted.zone))
    return _columns(found)


def _columns(found: Columns) -> VisitColumns:
    of = found.columns
    outcomes = np.array([_OUTCOME_CODES.get(name, UNKNOWN) for name in found.names["outcome"]] or [UNKNOWN], np.int64)
    return VisitColumns(
        *(of["visit_id"], of["at_s"], of["queue"], of["agent"], of["did"], outcomes[of["outcome"]]),
        *(of["answered"], of["wait_s"], of["talk_s"], of["caller_key"], of["target"]),
        *(found.names[name] for name in ("queue", "agent", "did", "target")),
    )


def chosen_visits(visits: VisitColumns, wanted: FigureFilter, chosen: Selection, zone: tzinfo) -> Flags:
    """Which of the visits are in a selection; its weekday and hour are in `zone`."""
    found = np.ones(len(visits), np.bool_)
    if chosen.outcomes is not None:
        found &= np.isin(visits.outcome, [OUTCOMES.index(name) for name in chosen.outcomes])
    if chosen.answered is not None:
        found &= visits.answered == chosen.answered
    if chosen.target is not None:
        found &= np.isin(visits.target, [i for i, name in enumerate(visits.targets) if name == chosen.target])
    if chosen.wait_over_s is not None:
        found &= visits.wait_s > chosen.wait_over_s
    if chosen.wait_up_to_s is not None:
        found &= visits.wait_s <= chosen.wait_up_to_s
    if chosen.present is not None:
        since, until = chosen.present
        lasted_s = np.nan_to_num(visits.wait_s) + np.nan_to_num(visits.talk_s)
        lasted_s[visits.outcome == IN_PROGRESS] = np.inf
        found &= (visits.joined_s < until.timestamp()) & (visits.joined_s + lasted_s >= since.timestamp())
    if (chosen.weekday is not None or chosen.hour is not None) and len(visits):
        edges = interval_edges(wanted.since, wanted.until, zone, "hour")
        cell = week_cells(edges, zone)[interval_of(visits.joined_s, edges)]
        if chosen.weekday is not None:
            found &= cell // 24 == chosen.weekday
        if chosen.hour is not None:
            found &= cell % 24 == chosen.hour
    return found
