"""Counts calls over a period: by hour, day, direction, DID, number, queue, agent or disposition.

When calls are counted by queue, or limited to one, a call counts in each queue that it was in. It counts as answered
there only if an agent of *that* queue answered it, so these counts agree with those of visits. See
pbx.store.queues_of_calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Literal

import numpy as np
from sqlalchemy import select
from sqlmodel import Session

from pbx.analytics.columns import Columns
from pbx.analytics.engine import load_columns
from pbx.analytics.formulas.intervals import DAYS, HOURS, Ints, in_gap, interval_edges, interval_of, week_cells
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.call import CallDirection
from pbx.store.models import Table
from pbx.store.queues_of_calls import split_queues

CallDimension = Literal["hour", "day", "direction", "did", "queue", "agent", "number", "disposition"]
_C = Table.metadata.tables["calls"].c
_COLUMNS = (
    *("call_id", "direction", "disposition", "did", "queue", "answered_in", "agent", "from_key", "to_key"),
    *("talk_s", "wait_s", "duration_s"),
)


@dataclass(frozen=True, slots=True)
class CallCount:
    """The calls of one interval (`start_at`) or one name (`label`, "" for calls without a name).

    `decided`: calls whose disposition is known from the CDR or live events. `answered` counts among these only.
    """

    label: str
    start_at: datetime | None
    calls: int
    decided: int
    answered: int
    by_direction: dict[str, int] = field(default_factory=dict)
    talk_s: float = 0.0
    talks: int = 0  # answered calls whose talk time is known
    wait_s: float = 0.0
    waits: int = 0

    @property
    def answer_rate(self) -> Ratio:
        """Answered / calls whose disposition is known."""
        return Ratio(self.answered, self.decided)

    @property
    def acd(self) -> Ratio:
        """Average call duration (ACD) in seconds: talk time / answered calls whose talk time is known."""
        return Ratio(self.talk_s, self.talks)

    @property
    def mean_wait(self) -> Ratio:
        """Mean wait in seconds: total wait / calls whose wait is known."""
        return Ratio(self.wait_s, self.waits)


@dataclass(frozen=True, slots=True)
class CallQuestion:
    """Which calls are counted: those that began from `since` up to `until`. None means any."""

    connection_id: int
    since: datetime
    until: datetime
    direction: CallDirection | None = None
    queue: str | None = None
    did: str | None = None
    agent: str | None = None


def call_totals(session: Session, wanted: CallQuestion) -> CallCount:
    """The counts of all calls together."""
    found = load_calls(session, wanted)
    return _counts(found, np.zeros(len(found), np.int64), [""])[0]


def call_counts(
    session: Session, wanted: CallQuestion, zone: tzinfo, by: CallDimension, limit: int | None = None
) -> list[CallCount]:
    """Calls by hour or day of `zone`, in order and with zeros where there are none, or by name, most calls first.

    By number, they are counted by the other party: the caller of an inbound call, the called party of an outbound one;
    internal calls are left out. By queue, a call counts in each queue it was in. `limit`: the most names to return.
    """
    found = load_calls(session, wanted)
    if by == "queue" and wanted.queue is None:
        found = _in_each_queue(found)
    if by in ("hour", "day"):
        edges = interval_edges(wanted.since, wanted.until, zone, "hour" if by == "hour" else "day")
        return _counts(found, interval_of(found["at_s"], edges), edges[:-1])
    if by == "number":
        return _by_number(session, found, limit or 100)
    counts = [item for item in _counts(found, found.columns[by], found.names[by]) if item.calls]
    return sorted(counts, key=lambda item: (-item.calls, item.label))[:limit]


def call_heat_map(
    session: Session, wanted: CallQuestion, zone: tzinfo, gaps: Sequence[tuple[datetime, datetime]] = ()
) -> list[list[int | None]]:
    """How many calls began, by weekday (0 = Monday) and hour of the day in `zone`: 7 lists of 24 counts.

    None where no call is known and the period doesn't have that hour, or has it only in the `gaps` (in order).
    """
    found = load_calls(session, wanted)
    edges = interval_edges(wanted.since, wanted.until, zone, "hour")
    if not edges:
        return [[None] * HOURS for _ in range(DAYS)]
    cells = week_cells(edges, zone)
    calls = np.bincount(cells[interval_of(found["at_s"], edges)], minlength=DAYS * HOURS)
    hours = np.bincount(cells[~in_gap(edges, gaps)], minlength=DAYS * HOURS)
    counts = [n if n or observed else None for n, observed in zip(calls.tolist(), hours.tolist(), strict=True)]
    return [counts[day * HOURS : (day + 1) * HOURS] for day in range(DAYS)]


def _by_number(session: Session, found: Columns, limit: int) -> list[CallCount]:
    """Counts by number, whatever its notation (see `number_key`). The label is the notation of its first call."""
    of = found.columns
    outbound = of["direction"] == found.code("direction", "outbound")
    other = np.where(outbound, of["to_key"], of["from_key"])
    other[(of["direction"] == found.code("direction", "internal")) | (other == 0)] = 0
    known = found.where(other != 0)
    keys, first, group, counts = np.unique(
        other[other != 0], return_index=True, return_inverse=True, return_counts=True
    )
    chosen = np.argsort(-counts, kind="stable")[:limit]
    place = np.full(len(keys), -1, np.int64)
    place[chosen] = np.arange(len(chosen))
    within = place[group] >= 0
    ids = [int(call) for call in known["call_id"][first[chosen]]]
    query = select(_C.id, _C.direction, _C.from_number, _C.to_number).where(_C.id.in_(ids))
    written = {
        row.id: row.to_number if row.direction == "outbound" else row.from_number
        for row in session.connection().execute(query)
    }
    return _counts(known.where(within), place[group][within], [written[call] for call in ids])


def load_calls(session: Session, wanted: CallQuestion) -> Columns:
    """The selected calls as columns."""

    def load() -> Columns:
        found = load_columns(session, "calls", wanted.connection_id, wanted.since, wanted.until, _COLUMNS)
        names = {"direction": wanted.direction, "queue": wanted.queue, "did": wanted.did, "agent": wanted.agent}
        return (found if wanted.queue is None else _in_each_queue(found)).narrowed(names)

    return cached_in_session(session, ("narrowed calls", wanted), load)


def _in_each_queue(found: Columns) -> Columns:
    """One row for each queue that a call was in, and one for a call without a queue, with its outcome there."""
    queues, answered_in, outcomes = (found.names[name] for name in ("queue", "answered_in", "disposition"))
    parts = [split_queues(name) for name in queues]
    names = {name: place for place, name in enumerate(dict.fromkeys(name for part in parts for name in part))}
    each = np.array([names[name] for part in parts for name in part], np.int64)
    sizes = np.array([len(part) for part in parts], np.int64)
    size = sizes[found.columns["queue"]]
    rows = np.repeat(np.arange(len(found)), size)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)
    queue = each[(np.cumsum(sizes) - sizes)[found.columns["queue"]][rows] + place]

    outcomes = tuple(dict.fromkeys((*outcomes, "ANSWERED", "NO ANSWER")))
    answered, unanswered = outcomes.index("ANSWERED"), outcomes.index("NO ANSWER")
    pairs = [  # of indexes into answered_in and queue
        where * len(names) + names[name]
        for where, part in enumerate(map(split_queues, answered_in))
        for name in part
        if name in names
    ]
    there = np.isin(found.columns["answered_in"][rows] * len(names) + queue, np.array(pairs, np.int64))
    outcome = found.columns["disposition"][rows]
    elsewhere = (outcome == answered) & ~there
    outcome = np.where(there, answered, np.where(elsewhere, unanswered, outcome))
    if "" in names:
        outcome = np.where(queue == names[""], found.columns["disposition"][rows], outcome)
    changed = {"queue": queue, "disposition": outcome}
    columns = {name: changed[name] if name in changed else values[rows] for name, values in found.columns.items()}
    return Columns(columns, {**found.names, "queue": tuple(names), "disposition": outcomes})


def _counts(found: Columns, group: Ints, labels: Sequence[str | datetime]) -> list[CallCount]:
    """The counts of each group of calls. Its label is a name, or the moment when the interval starts."""
    of, groups = found.columns, len(labels)
    decided = of["disposition"] != found.code("disposition", "")
    answered = of["disposition"] == found.code("disposition", "ANSWERED")
    talked, waited = answered & ~np.isnan(of["talk_s"]), ~np.isnan(of["wait_s"])
    directions = found.names["direction"]
    ways = np.bincount(group * len(directions) + of["direction"], minlength=groups * len(directions))
    ways = ways.reshape(groups, len(directions)) if directions else np.zeros((groups, 0), np.int64)
    columns = zip(
        labels,
        np.bincount(group, minlength=groups).tolist(),
        np.bincount(group[decided], minlength=groups).tolist(),
        np.bincount(group[answered], minlength=groups).tolist(),
        [{directions[i]: int(row[i]) for i in np.flatnonzero(row)} for row in ways],
        np.bincount(group[talked], weights=of["talk_s"][talked], minlength=groups).tolist(),
        np.bincount(group[talked], minlength=groups).tolist(),
        np.bincount(group[waited], weights=of["wait_s"][waited], minlength=groups).tolist(),
        np.bincount(group[waited], minlength=groups).tolist(),
        strict=True,
    )
    return [
        CallCount("", label, *rest) if isinstance(label, datetime) else CallCount(label, None, *rest)
        for label, *rest in columns
    ]
