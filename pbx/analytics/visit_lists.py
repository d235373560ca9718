"""Lists of the visits and callers that add up to the figures of queues, a page at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session

from pbx.analytics.engine import query, result_table, rows_of
from pbx.analytics.formulas.callbacks import CallbackFigures
from pbx.analytics.queues import IS_ABANDONED, SUMS, FigureFilter, Selection, selected_visits, visits_of
from pbx.analytics.rows_to_columns import number_key
from pbx.store.models import Table

_V, _C, _L = (Table.metadata.tables[name].c for name in ("queue_visits", "calls", "call_legs"))
# The call with the visit's uniqueid, or the call of a leg with that uniqueid.
_CALL_OF_VISIT = func.coalesce(
    select(_C.id).where(_C.connection_id == _V.connection_id, _C.linkedid == _V.uniqueid).scalar_subquery(),
    select(func.min(_L.call_id))
    .where(_L.connection_id == _V.connection_id, _L.uniqueid == _V.uniqueid)
    .scalar_subquery(),
)

# The numbers of answered visits and of conversations: see pbx.analytics.datasets.
_ANSWERS = """
SELECT caller_key AS number, at_s AS reached_s FROM {visits} WHERE answered
UNION ALL
SELECT conversation_key, at_s FROM {calls} WHERE conversation_key <> 0
"""
# The abandoned visits, when they ended, and when their callers were reached: the next answered call, in a later second.
# Number 0 is unknown.
_ABANDONED = """
WITH abandoned AS (
    SELECT visit_id, at_s, caller_key, at_s + CAST(trunc(coalesce(wait_s, 0)) AS BIGINT) AS ended_s
    FROM {selected} WHERE {is_abandoned}
), answers AS (
    SELECT * FROM ({answers}) WHERE number <> 0 AND number IN (SELECT caller_key FROM abandoned)
)
SELECT visit_id, at_s, caller_key, ended_s, reached_s
FROM abandoned ASOF LEFT JOIN answers ON caller_key = number AND ended_s < reached_s
"""
# Each sum of CallbackFigures, of the callers of abandoned visits: `last_s` is when a caller's last abandoned visit
# ended, and `reached_s` when the caller was last reached after an abandoned visit. Caller 0 is unknown.
CALLBACK_SUMS: Mapping[str, str] = {
    "abandoned": "coalesce(sum(visits), 0)",
    "without_number": "coalesce(sum(visits) FILTER (caller_key = 0), 0)",
    "callers": "count(*) FILTER (caller_key <> 0)",
    "owed": "count(*) FILTER (caller_key <> 0 AND coalesce(reached_s <= last_s, true))",
    "called_back": "count(*) FILTER (reached_s > last_s)",
    "call_back_s": "coalesce(sum(reached_s - last_s) FILTER (reached_s > last_s), 0)",
}


@dataclass(frozen=True, slots=True)
class ListedVisit:
    """A visit as a row of a list. `call_id`: its call, None when no call is known."""

    visit_id: int
    call_id: int | None
    uniqueid: str
    queue: str
    joined_at: datetime
    outcome: str
    wait_s: float | None
    talk_s: float | None
    ring_s: float | None
    agent: str
    caller: str
    caller_name: str
    did: str
    position: int | None
    target: str
    ended_by: str


@dataclass(frozen=True, slots=True)
class AnsweredVisit:
    """When an agent talked to the caller of a visit, which joined its queue at `joined_at`."""

    queue: str
    joined_at: datetime
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class AbandonedCall:
    """An abandoned visit, and when its caller was reached: the next answered call from or to the same number.

    `reached_at` is None while a callback is owed. `can_be_called`: the caller's number is known.
    """

    visit: ListedVisit
    reached_at: datetime | None
    time_to_call_back_s: float | None
    can_be_called: bool


@dataclass(frozen=True, slots=True)
class RepeatedCaller:
    """A caller number with more than one visit in a period."""

    caller: str
    caller_name: str
    visits: int
    answered: int
    abandoned: int
    first_at: datetime
    last_at: datetime


def count_visits(session: Session, wanted: FigureFilter, chosen: Selection, zone: tzinfo) -> int:
    """How many visits are in a selection; its weekday and hour are in `zone`."""
    ((count,),) = query(session, f"SELECT count(*) FROM {selected_visits(session, wanted, chosen, zone)}")
    return int(count)


def visits_page(
    session: Session, wanted: FigureFilter, chosen: Selection, zone: tzinfo, *, offset: int, limit: int
) -> list[ListedVisit]:
    """One page of the visits in a selection, newest first."""
    visits = selected_visits(session, wanted, chosen, zone)
    sql = f"SELECT visit_id FROM {visits} ORDER BY at_s DESC, visit_id DESC LIMIT $limit OFFSET $offset"
    return _rows(session, [visit_id for (visit_id,) in query(session, sql, {"limit": limit, "offset": offset})])


def answered_visits(session: Session, wanted: FigureFilter) -> list[AnsweredVisit]:
    """When agents talked in the selected visits that have ended, in the order in which the callers joined."""
    sql = f"""
    SELECT queue, at_s, at_s + wait_s, at_s + wait_s + talk_s FROM {selected_visits(session, wanted)}
    WHERE wait_s IS NOT NULL AND talk_s IS NOT NULL ORDER BY at_s, visit_id
    """
    return [
        AnsweredVisit(queue, *(datetime.fromtimestamp(at_s, UTC) for at_s in moments))
        for queue, *moments in query(session, sql)
    ]


def callbacks(session: Session, wanted: FigureFilter) -> CallbackFigures:
    """Callbacks owed to callers who abandoned in the period, and those made; answered calls until now count."""
    callers = f"""
    SELECT caller_key, count(*) AS visits, max(ended_s) AS last_s, max(reached_s) AS reached_s
    FROM {_abandoned(session, wanted)} GROUP BY caller_key
    """
    ((*sums,),) = query(session, f"SELECT {', '.join(CALLBACK_SUMS.values())} FROM ({callers})")
    return CallbackFigures(**{name: int(value) for name, value in zip(CALLBACK_SUMS, sums, strict=True)})


def abandoned_calls(
    session: Session, wanted: FigureFilter, *, offset: int, limit: int, owed_only: bool = False
) -> list[AbandonedCall]:
    """One page of the abandoned visits, newest first; `owed_only`: only those whose caller is owed a callback."""
    owed = "WHERE reached_s IS NULL AND caller_key <> 0" if owed_only else ""
    sql = f"""
    SELECT visit_id, ended_s, reached_s, caller_key <> 0 FROM {_abandoned(session, wanted)} {owed}
    ORDER BY at_s DESC, visit_id DESC LIMIT $limit OFFSET $offset
    """
    found = query(session, sql, {"limit": limit, "offset": offset})
    return [
        AbandonedCall(row, None, None, can)
        if reached_s is None
        else AbandonedCall(row, datetime.fromtimestamp(reached_s, UTC), float(reached_s - ended_s), can)
        for row, (_, ended_s, reached_s, can) in zip(_rows(session, [one[0] for one in found]), found, strict=True)
    ]


def answering_call(session: Session, connection_id: int, abandoned: AbandonedCall) -> int | None:
    """The id of the later call that reached an abandoned caller; None when that call isn't in the cache."""
    if (reached_at := abandoned.reached_at) is None:
        return None
    key, until = number_key(abandoned.visit.caller), reached_at + timedelta(seconds=1)
    visits = select(_V.caller, _CALL_OF_VISIT, _V.id).where(
        *(_V.connection_id == connection_id, _V.joined_at >= reached_at, _V.joined_at < until),
        _V.connected_at.is_not(None) | _V.outcome.in_(("answered", "transferred")),
    )
    calls = select(_C.from_number, _C.id, _C.to_number).where(
        *(_C.connection_id == connection_id, _C.started_at >= reached_at, _C.started_at < until),
        _C.disposition == "ANSWERED",
    )
    rows: list[Any] = [*session.connection().execute(visits)]
    found = [call_id for caller, call_id, _ in rows if number_key(caller) == key and call_id is not None]
    talks: list[Any] = [] if found else [*session.connection().execute(calls)]
    found += [call_id for caller, call_id, called in talks if key in (number_key(caller), number_key(called))]
    return found[0] if found else None


def repeated_callers(session: Session, wanted: FigureFilter, limit: int = 50) -> list[RepeatedCaller]:
    """Numbers with two or more visits in the period, most visits first."""
    visits = selected_visits(session, wanted)
    sql = f"""
    WITH often AS (
        SELECT caller_key FROM {visits} WHERE caller_key <> 0 GROUP BY caller_key
        HAVING count(*) > 1 ORDER BY count(*) DESC, caller_key LIMIT $limit
    )
    SELECT first(visit_id ORDER BY at_s, visit_id),
        {SUMS["offered"]} AS visits, {SUMS["answered"]}, {SUMS["abandoned"]}, min(at_s), max(at_s)
    FROM {visits} WHERE caller_key IN (SELECT caller_key FROM often)
    GROUP BY caller_key ORDER BY visits DESC, caller_key
    """
    found = query(session, sql, {"limit": limit})
    return [
        RepeatedCaller(row.caller, row.caller_name, *counts, *(datetime.fromtimestamp(at_s, UTC) for at_s in moments))
        for row, (_, *counts, first_s, last_s) in zip(_rows(session, [one[0] for one in found]), found, strict=True)
        for moments in ((first_s, last_s),)
    ]


def transfer_targets(session: Session, wanted: FigureFilter, limit: int = 50) -> list[tuple[str, int]]:
    """Where answered visits were transferred, and how many, most frequent first."""
    sql = f"""
    SELECT target, count(*) AS visits FROM {selected_visits(session, wanted)} WHERE outcome = 'transferred'
    GROUP BY target ORDER BY visits DESC, target LIMIT $limit
    """
    return [(target, count) for target, count in query(session, sql, {"limit": limit})]


def _abandoned(session: Session, wanted: FigureFilter) -> str:
    """The name of a table of the selected visits that were abandoned."""
    return result_table(session, ("abandoned", wanted), lambda: _abandoned_sql(session, wanted))


def _abandoned_sql(session: Session, wanted: FigureFilter) -> str:
    until = max(wanted.until, datetime.now(UTC))
    answers = _ANSWERS.format(
        visits=visits_of(session, wanted.connection_id, wanted.since, until),
        calls=rows_of(session, "calls", wanted.connection_id, ["conversation_key"], wanted.since, until),
    )
    return _ABANDONED.format(selected=selected_visits(session, wanted), is_abandoned=IS_ABANDONED, answers=answers)


def _rows(session: Session, ids: Sequence[int]) -> list[ListedVisit]:
    """Visits by id, in the given order, each with its call."""
    statement = select(
        *(_V.id, _CALL_OF_VISIT, _V.uniqueid, _V.queue, _V.joined_at),
        *(_V.outcome, _V.wait_s, _V.talk_s, _V.ring_s, _V.agent, _V.caller, _V.caller_name, _V.did, _V.position),
        *(_V.target, _V.ended_by),
    ).where(_V.id.in_(ids))
    rows: Any = session.connection().execute(statement)
    found = {row[0]: ListedVisit(*row) for row in rows}
    return [found[visit] for visit in ids]
