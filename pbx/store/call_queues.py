"""The queues a call was in, and those in which an agent answered its caller: what the visits say, never a leg's number.

A visit is one caller once in one queue; a call is all that shares a linkedid. A call is counted in every queue that it
visited, once in each however often it came back, and it counts as answered in a queue where an agent answered one of
its visits there. So of one period and queue

    calls (Explore, Interactions, exports) = visits (Queues, Wallboard) - further visits of the same calls
    answered calls                         = answered visits - further answered visits of the same calls

but for calls that began before the period's first moment or last one and joined after it: a call belongs to when it
began, a visit to when it joined.

Agents counts visits too. The one agent of a call, by whom Explore counts it, is who answered it first, in any queue.

A call of which no visit is known (no queue_log was read, nobody listened) is in the queue that its recording's name or
the Queue() of its CDR names, and as its CDR has it answered or not. As soon as a visit of it is known, that counts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy import bindparam, case, func, select, union, update
from sqlmodel import Session

from pbx.store.chunks import chunks
from pbx.store.models import LegRow, Table, VisitRow

_T = TypeVar("_T")
SEPARATOR = ", "  # Queue() takes its arguments apart at a comma, so no queue's name has one
LONGEST = 500  # characters of a call's queues; an index holds them
_calls = Table.metadata.tables["calls"]
_L, _V = (Table.metadata.tables[str(one.__tablename__)].c for one in (LegRow, VisitRow))


class _QueuesOfCall(NamedTuple):
    queue: str
    answered_in: str


def split_queues(text: str) -> tuple[str, ...]:
    """The queues of a call, in the order in which it joined them; ("",) of a call without."""
    return tuple(text.split(SEPARATOR))


def join_queues(names: Iterable[str]) -> str:
    """As they are stored: as many as there is room for."""
    text = SEPARATOR.join(dict.fromkeys(names))
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition(SEPARATOR)[0] or text[:LONGEST]


def calls_of_uniqueids(session: Session, connection_id: int, uniqueids: Collection[str]) -> set[int]:
    """The calls that have these channels."""
    found: set[int] = set()
    for some in chunks(sorted(uniqueids)):
        own = select(_calls.c.id).where(_calls.c.connection_id == connection_id, _calls.c.linkedid.in_(some))
        legs = select(_L.call_id).where(_L.connection_id == connection_id, _L.uniqueid.in_(some))
        found.update(session.connection().scalars(union(own, legs)))
    return found


def update_call_queues(session: Session, connection_id: int, call_ids: Collection[int]) -> None:
    """Set the queues of these calls from their queue visits, where they differ from what is stored."""
    for some in chunks(sorted(call_ids)):
        visited = _visited(session, connection_id, some)
        columns = [_calls.c[name] for name in ("id", "queue", "answered_in", "disposition")]
        changed = []
        for row in session.connection().execute(select(*columns).where(_calls.c.id.in_(some))):
            unseen = _QueuesOfCall(row.queue, row.queue if row.disposition == "ANSWERED" else "")
            queues = visited.get(row.id, unseen)
            if queues != (row.queue, row.answered_in):
                changed.append({"call_id": row.id} | queues._asdict())
        if changed:
            session.connection().execute(update(_calls).where(_calls.c.id == bindparam("call_id")), changed)


def _visited(session: Session, connection_id: int, call_ids: Sequence[int]) -> Mapping[int, _QueuesOfCall]:
    """Return the queues of calls from the visits of their own channel and of every leg's."""
    own = select(_calls.c.id.label("call_id"), _calls.c.linkedid.label("uniqueid")).where(_calls.c.id.in_(call_ids))
    channels = union(own, select(_L.call_id, _L.uniqueid).where(_L.call_id.in_(call_ids))).subquery().c
    answered = _V.connected_at.is_not(None) | _V.outcome.in_(("answered", "transferred"))
    query = (
        select(channels.call_id, _V.queue, func.max(case((answered, 1), else_=0)))
        .join(_V.id.table, (_V.connection_id == connection_id) & (_V.uniqueid == channels.uniqueid))
        .group_by(channels.call_id, _V.queue)
        .order_by(channels.call_id, func.min(_V.joined_at), _V.queue)
    )
    found: dict[int, list[tuple[str, int]]] = {}
    for call_id, queue, taken in session.connection().execute(query):
        found.setdefault(call_id, []).append((queue, taken))
    return {
        call_id: _QueuesOfCall(
            join_queues(one for one, _ in queues), join_queues(one for one, taken in queues if taken)
        )
        for call_id, queues in found.items()
    }
