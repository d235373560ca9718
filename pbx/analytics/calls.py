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
from pbx.analytics.engine import bucket_s, query, query_columns, rows_of, text_literal
from pbx.analytics.formulas.intervals import (
    DAYS,
    HOUR_S,
    HOURS,
    Ints,
    in_gap,
    interval_edges,
    interval_of,
    week_cells,
)
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.rows_to_columns import cached_in_session
from pbx.model.call import CallDirection
from pbx.store.models import Table
from pbx.store.queues_of_calls import SEPARATOR

CallDimension = Literal["hour", "day", "direction", "did", "queue", "agent", "number", "disposition"]
_C = Table.metadata.tables["calls"].c
# The sums of CallCount, as aggregates of the dataset calls.
CALL_SUMS = {
    "calls": "count(*)",
    "decided": "count(*) FILTER (disposition <> '')",
    "answered": "count(*) FILTER (disposition = 'ANSWERED')",
    "talk_s": "sum(talk_s) FILTER (disposition = 'ANSWERED')",
    "talks": "count(talk_s) FILTER (disposition = 'ANSWERED')",
    "wait_s": "sum(wait_s)",
    "waits": "count(wait_s)",
}
_SUMS = ", ".join(f"coalesce({value}, 0) AS {name}" for name, value in CALL_SUMS.items())
_COLUMNS = ("direction", "disposition", "talk_s", "wait_s")  # that the sums need
_NAMES = ("did", "agent")
# The other party: the caller of an inbound call, the called party of an outbound one; 0 for internal calls.
OTHER_PARTY = "CASE direction WHEN 'outbound' THEN to_key WHEN 'internal' THEN 0 ELSE from_key END"
# A call in several queues becomes a row for each of them, with its outcome there.
_IN_EACH_QUEUE = """(
    SELECT * REPLACE (CASE WHEN queue = '' THEN disposition WHEN queue = answered_in THEN 'ANSWERED'
        WHEN disposition = 'ANSWERED' THEN 'NO ANSWER' ELSE disposition END AS disposition)
    FROM {calls} WHERE NOT contains(queue, '{separator}')
    UNION ALL
    SELECT * EXCLUDE (name) REPLACE (
        name AS queue,
        CASE WHEN list_contains(string_split(answered_in, '{separator}'), name) THEN 'ANSWERED'
        WHEN disposition = 'ANSWERED' THEN 'NO ANSWER' ELSE disposition END AS disposition
    )
    FROM (SELECT *, unnest(string_split(queue, '{separator}')) AS name FROM {calls})
    WHERE contains(queue, '{separator}')
)"""


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
    sums = _sums_by_bucket(session, wanted, HOUR_S)
    return _counts(sums, np.zeros(len(sums), np.int64), [""])[0]


def call_counts(
    session: Session, wanted: CallQuestion, zone: tzinfo, by: CallDimension, limit: int | None = None
) -> list[CallCount]:
    """Calls by hour or day of `zone`, in order and with zeros where there are none, or by name, most calls first.

    By number, they are counted by the other party: the caller of an inbound call, the called party of an outbound one;
    internal calls are left out. By queue, a call counts in each queue it was in. `limit`: the most names to return.
    """
    if by == "number":
        return _by_number(session, wanted, limit or 100)
    if by in ("hour", "day"):
        hourly = by == "hour"
        edges = _hours(session, wanted, zone) if hourly else interval_edges(wanted.since, wanted.until, zone, "day")
        size_s = bucket_s(zone, wanted.since, wanted.until)
        sums = _sums_by_bucket(session, wanted, size_s)
        return _counts(sums, _intervals(sums, size_s, wanted, edges), edges[:-1])
    if by == "direction":
        sums = _sums_by_bucket(session, wanted, HOUR_S)
    elif by in _NAMES:
        sums = _sums_by_name(session, wanted)
    else:
        calls = selected_calls_sql(session, wanted, (*_COLUMNS, by), in_each_queue=by == "queue")
        sums = query_columns(session, f"SELECT {by}, direction, {_SUMS} FROM {calls} GROUP BY ALL")
    counts = _counts(sums, sums[by], sums.names[by])
    return sorted(counts, key=lambda item: (-item.calls, item.label))[:limit]


def call_heat_map(
    session: Session, wanted: CallQuestion, zone: tzinfo, gaps: Sequence[tuple[datetime, datetime]] = ()
) -> list[list[int | None]]:
    """How many calls began, by weekday (0 = Monday) and hour of the day in `zone`: 7 lists of 24 counts.

    None where no call is known and the period doesn't have that hour, or has it only in the `gaps` (in order).
    """
    edges = _hours(session, wanted, zone)
    if not edges:
        return [[None] * HOURS for _ in range(DAYS)]
    cells, size_s = week_cells(edges, zone), bucket_s(zone, wanted.since, wanted.until)
    sums = _sums_by_bucket(session, wanted, size_s)
    place = cells[_intervals(sums, size_s, wanted, edges)]
    calls = np.bincount(place, weights=sums["calls"], minlength=DAYS * HOURS).astype(np.int64)
    hours = np.bincount(cells[~in_gap(edges, gaps)], minlength=DAYS * HOURS)
    counts = [n if n or observed else None for n, observed in zip(calls.tolist(), hours.tolist(), strict=True)]
    return [counts[day * HOURS : (day + 1) * HOURS] for day in range(DAYS)]


def selected_calls_sql(
    session: Session, wanted: CallQuestion, columns: Sequence[str], *, in_each_queue: bool = False
) -> str:
    """SQL of a table of the selected calls. With a queue selected, or `in_each_queue`, a call has its outcome there."""
    by_queue = in_each_queue or wanted.queue is not None
    needed = {*columns, "direction", "did", "agent", *(("queue", "answered_in", "disposition") if by_queue else ())}
    calls = rows_of(session, "calls", wanted.connection_id, needed, wanted.since, wanted.until)
    if by_queue:
        calls = _IN_EACH_QUEUE.format(calls=calls, separator=SEPARATOR)
    names = {"direction": wanted.direction, "queue": wanted.queue, "did": wanted.did, "agent": wanted.agent}
    conditions = [f"{column} = {text_literal(name)}" for column, name in names.items() if name is not None]
    return f"(SELECT * FROM {calls} WHERE {' AND '.join(conditions)})" if conditions else calls


def _by_number(session: Session, wanted: CallQuestion, limit: int) -> list[CallCount]:
    """Counts by number, whatever its notation (see `number_key`). The label is the notation of its first call."""
    calls = selected_calls_sql(session, wanted, (*_COLUMNS, "call_id", "from_key", "to_key"))
    calls = f"(SELECT *, {OTHER_PARTY} AS number FROM {calls})"
    numbers = [number for (number,) in query(session, _OFTEN.format(calls=calls, limit=limit))]
    if not numbers:
        return []
    listed = ", ".join(map(str, numbers))
    sums = query_columns(session, _BY_NUMBER.format(calls=calls, sums=_SUMS, numbers=listed))
    places = {number: place for place, number in enumerate(numbers)}
    group = np.array([places[number] for number in sums["number"].tolist()], np.int64)
    order = np.lexsort((sums["first_id"], sums["first_s"], group))
    ids = sums["first_id"][order][np.unique(group[order], return_index=True)[1]].tolist()
    rows = select(_C.id, _C.direction, _C.from_number, _C.to_number).where(_C.id.in_(ids))
    written = {
        row.id: row.to_number if row.direction == "outbound" else row.from_number
        for row in session.connection().execute(rows)
    }
    return _counts(sums, group, [written[call] for call in ids])


_OFTEN = """
SELECT number FROM {calls} WHERE number <> 0 GROUP BY number ORDER BY count(*) DESC, number LIMIT {limit}
"""
_BY_NUMBER = """
SELECT number, direction, {sums}, min(at_s) AS first_s, arg_min(call_id, (at_s, call_id)) AS first_id
FROM {calls} WHERE number IN ({numbers}) GROUP BY number, direction
"""


def _sums_by_bucket(session: Session, wanted: CallQuestion, size_s: int) -> Columns:
    """The sums of the selected calls by direction and interval (`bucket`, of `size_s` seconds)."""
    calls = selected_calls_sql(session, wanted, _COLUMNS)
    sql = f"SELECT at_s // {size_s} AS bucket, direction, {_SUMS} FROM {calls} GROUP BY ALL"
    return cached_in_session(session, ("call sums", sql), lambda: query_columns(session, sql))


def _sums_by_name(session: Session, wanted: CallQuestion) -> Columns:
    """The sums of the selected calls by direction, DID and agent: one scan answers for all of them."""
    calls = selected_calls_sql(session, wanted, (*_COLUMNS, *_NAMES))
    sql = f"SELECT {', '.join(_NAMES)}, direction, {_SUMS} FROM {calls} GROUP BY ALL"
    return cached_in_session(session, ("call sums", sql), lambda: query_columns(session, sql))


def _hours(session: Session, wanted: CallQuestion, zone: tzinfo) -> list[datetime]:
    """The edges of the hours of the period."""
    key = ("hours", wanted.since, wanted.until, zone)
    return cached_in_session(session, key, lambda: interval_edges(wanted.since, wanted.until, zone, "hour"))


def _intervals(sums: Columns, size_s: int, wanted: CallQuestion, edges: list[datetime]) -> Ints:
    """The interval of each bucket. The first bucket may begin before the period, but its calls don't."""
    return interval_of(np.maximum(sums["bucket"] * size_s, int(wanted.since.timestamp())), edges)


def _counts(sums: Columns, group: Ints, labels: Sequence[str | datetime]) -> list[CallCount]:
    """Add up sums by group. The label of a group is a name, or the moment when the interval starts."""
    groups, directions = len(labels), sums.names["direction"]

    def total(name: str, key: Ints, size: int) -> Ints:
        found = np.bincount(key, weights=sums[name], minlength=size)
        return found if name.endswith("_s") else found.astype(np.int64)

    ways = total("calls", group * len(directions) + sums["direction"], groups * len(directions))
    by_direction = [
        {directions[i]: int(row[i]) for i in np.flatnonzero(row)}
        for row in (ways.reshape(groups, len(directions)) if directions else np.zeros((groups, 0), np.int64))
    ]
    totals = {name: total(name, group, groups).tolist() for name in CALL_SUMS}
    columns = (totals["calls"], totals["decided"], totals["answered"], by_direction)
    rest = (totals["talk_s"], totals["talks"], totals["wait_s"], totals["waits"])
    return [
        CallCount("", label, *row) if isinstance(label, datetime) else CallCount(label, None, *row)
        for label, *row in zip(labels, *columns, *rest, strict=True)
    ]
