"""Lists of the visits and callers that add up to the figures of queues, a page at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlmodel import Session

from pbx.analytics.engine import query_columns, rows_of
from pbx.analytics.formulas.callbacks import CallbackFigures, callback_figures, next_answer
from pbx.analytics.formulas.intervals import Floats, Ints
from pbx.analytics.formulas.queues import ABANDONED, TRANSFERRED, Flags, VisitColumns
from pbx.analytics.queues import FigureFilter, Selection, chosen_visits, load_visits
from pbx.analytics.rows_to_columns import cached_in_session, number_key
from pbx.store.models import Table

_V, _C, _L = (Table.metadata.tables[name].c for name in ("queue_visits", "calls", "call_legs"))
# The call with the visit's uniqueid, or the call of a leg with that uniqueid.
_CALL_OF_VISIT = func.coalesce(
    select(_C.id).where(_C.connection_id == _V.connection_id, _C.linkedid == _V.uniqueid).scalar_subquery(),
    select(func.min(_L.call_id))
    .where(_L.connection_id == _V.connection_id, _L.uniqueid == _V.uniqueid)
    .scalar_subquery(),
)

# The numbers of answered visits and of conversations: answered outbound calls, and inbound calls that an agent answered
# without a queue. For an inbound call the CDR's ANSWERED isn't enough: a queue or a menu answers it before any agent.
_ANSWERED = """
SELECT caller_key AS number, at_s FROM {visits} WHERE answered
UNION ALL
SELECT CASE WHEN direction = 'outbound' THEN to_key ELSE from_key END, at_s FROM {calls}
WHERE disposition = 'ANSWERED' AND (direction = 'outbound' OR (direction = 'inbound' AND agent > '' AND queue = ''))
"""


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
    return int(chosen_visits(load_visits(session, wanted), wanted, chosen, zone).sum())


def visits_page(
    session: Session, wanted: FigureFilter, chosen: Selection, zone: tzinfo, *, offset: int, limit: int
) -> list[ListedVisit]:
    """One page of the visits in a selection, newest first."""
    visits = load_visits(session, wanted)
    places = np.flatnonzero(chosen_visits(visits, wanted, chosen, zone))
    newest = places[np.lexsort((-visits.row_id[places], -visits.joined_s[places]))]
    return _rows(session, visits.row_id[newest[offset : offset + limit]])


def callbacks(session: Session, wanted: FigureFilter) -> CallbackFigures:
    """Callbacks owed to callers who abandoned in the period, and those made; answered calls until now count."""
    visits, places, ended_s, reached_s = _abandoned(session, wanted)
    return callback_figures(visits.caller[places], ended_s, reached_s)


def abandoned_calls(
    session: Session, wanted: FigureFilter, *, offset: int, limit: int, owed_only: bool = False
) -> list[AbandonedCall]:
    """One page of the abandoned visits, newest first; `owed_only`: only those whose caller is owed a callback."""
    visits, places, ended_s, reached_s = _abandoned(session, wanted)
    kept = np.isnan(reached_s) & (visits.caller[places] != 0) if owed_only else np.ones(len(places), np.bool_)
    order = np.flatnonzero(kept)
    order = order[np.lexsort((-visits.row_id[places][order], -visits.joined_s[places][order]))][offset : offset + limit]
    found = zip(
        _rows(session, visits.row_id[places][order]),
        reached_s[order].tolist(),
        ended_s[order].tolist(),
        (visits.caller[places][order] != 0).tolist(),
        strict=True,
    )
    return [
        AbandonedCall(row, None, None, can)
        if np.isnan(reached)
        else AbandonedCall(row, datetime.fromtimestamp(reached, UTC), reached - ended, can)
        for row, reached, ended, can in found
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
    visits = load_visits(session, wanted)
    known = np.flatnonzero(visits.caller)
    keys, first, group, counts = np.unique(
        visits.caller[known], return_index=True, return_inverse=True, return_counts=True
    )
    if not len(keys):
        return []
    often = np.flatnonzero(counts > 1)
    often = often[np.argsort(-counts[often], kind="stable")][:limit]
    joined = visits.joined_s[known]
    earliest, latest = np.full(len(keys), np.iinfo(np.int64).max), np.zeros(len(keys), np.int64)
    np.minimum.at(earliest, group, joined)
    np.maximum.at(latest, group, joined)
    answered = np.bincount(group[visits.answered[known]], minlength=len(keys))
    gone = np.bincount(group[_is_abandoned(visits)[known]], minlength=len(keys))
    rows = _rows(session, visits.row_id[known][first[often]])
    return [
        RepeatedCaller(
            *(row.caller, row.caller_name, int(counts[i]), int(answered[i]), int(gone[i])),
            *(datetime.fromtimestamp(int(at[i]), UTC) for at in (earliest, latest)),
        )
        for row, i in zip(rows, often, strict=True)
    ]


def transfer_targets(session: Session, wanted: FigureFilter, limit: int = 50) -> list[tuple[str, int]]:
    """Where answered visits were transferred, and how many, most frequent first."""
    visits = load_visits(session, wanted)
    passed = np.bincount(visits.target[visits.outcome == TRANSFERRED], minlength=len(visits.targets))
    found = [(visits.targets[i], int(passed[i])) for i in np.flatnonzero(passed)]
    return sorted(found, key=lambda item: (-item[1], item[0]))[:limit]


def _is_abandoned(visits: VisitColumns) -> Flags:
    gone: Flags = (visits.outcome == ABANDONED) & ~visits.answered
    return gone


def _abandoned(session: Session, wanted: FigureFilter) -> tuple[VisitColumns, Ints, Ints, Floats]:
    """All selected visits, the indexes of the abandoned ones, when these ended, and when each caller was reached."""
    return cached_in_session(session, ("abandoned", wanted), lambda: _find_abandoned(session, wanted))


def _find_abandoned(session: Session, wanted: FigureFilter) -> tuple[VisitColumns, Ints, Ints, Floats]:
    visits = load_visits(session, wanted)
    places = np.flatnonzero(_is_abandoned(visits))
    ended_s = visits.joined_s[places] + np.nan_to_num(visits.wait_s[places]).astype(np.int64)
    answered, at_s = _answered_calls(session, wanted.connection_id, wanted.since, max(wanted.until, datetime.now(UTC)))
    return visits, places, ended_s, next_answer(visits.caller[places], ended_s, answered, at_s)


def _answered_calls(session: Session, connection_id: int, since: datetime, until: datetime) -> tuple[Ints, Ints]:
    """The numbers of answered calls in a time range, and when: answered visits, and conversations without a queue."""
    visits = rows_of(session, "queue_visits", connection_id, ("answered", "caller_key"), since, until)
    columns = ("direction", "disposition", "agent", "queue", "from_key", "to_key")
    calls = rows_of(session, "calls", connection_id, columns, since, until)
    found = query_columns(session, _ANSWERED.format(visits=visits, calls=calls))
    return found["number"], found["at_s"]


def _rows(session: Session, ids: Ints) -> list[ListedVisit]:
    """Visits by id, in the given order, each with its call."""
    wanted = [int(visit) for visit in ids]
    query = select(
        *(_V.id, _CALL_OF_VISIT, _V.uniqueid, _V.queue, _V.joined_at),
        *(_V.outcome, _V.wait_s, _V.talk_s, _V.ring_s, _V.agent, _V.caller, _V.caller_name, _V.did, _V.position),
        *(_V.target, _V.ended_by),
    ).where(_V.id.in_(wanted))
    rows: Any = session.connection().execute(query)
    found = {row[0]: ListedVisit(*row) for row in rows}
    return [found[visit] for visit in wanted]
