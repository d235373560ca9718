"""The queues of a call, and those in which an agent answered it. They come from its visits, not from legs' numbers.

A visit is one caller once in one queue. A call is everything that shares a linkedid. A call is counted once in every
queue it visited, however often it came back. It counts as answered in a queue if an agent answered at least one of its
visits there. So for one period and one queue:

    calls (Explore, Interactions, exports) = visits (Queues, Wallboard) - further visits of the same calls
    answered calls                         = answered visits - further answered visits of the same calls

The exceptions are calls at either edge of the period, because a call counts when it began, and a visit when the caller
joined the queue: calls that began before the period's start and joined after it, and calls that began before its end
and joined after it.

The Agents page also counts visits. Explore counts a call under one agent only: the one who answered it first, in any
queue.

A call without a known visit (no queue_log was read, and nothing listened to the PBX) is counted in the queue named by
its recording's file name or by the Queue() application in its CDR, and as answered if its CDR says so. Once one of its
visits is known, only visits count.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, case, func, select, union, update
from sqlmodel import Session

from pbx.store.chunks import chunks
from pbx.store.models import LegRow, Table, VisitRow

SEPARATOR = ", "  # Queue() splits its arguments at commas, so no queue name contains one
MAX_CHARACTERS = 500  # characters stored of a call's queues; the column is indexed
_calls = Table.metadata.tables["calls"]
_L, _V = (Table.metadata.tables[str(one.__tablename__)].c for one in (LegRow, VisitRow))


class _QueuesOfCall(NamedTuple):
    queue: str
    answered_in: str


def split_queues(text: str) -> tuple[str, ...]:
    """Return the queues of a call, in the order in which it joined them; ("",) if it was in none."""
    return tuple(text.split(SEPARATOR))


def join_queues(names: Iterable[str]) -> str:
    """Return queue names as one text, as calls store them: each once, and only as many as fit into `MAX_CHARACTERS`."""
    text = SEPARATOR.join(dict.fromkeys(names))
    return (
        text
        if len(text) <= MAX_CHARACTERS
        else text[: MAX_CHARACTERS + 1].rpartition(SEPARATOR)[0] or text[:MAX_CHARACTERS]
    )


def calls_of_uniqueids(session: Session, connection_id: int, uniqueids: Collection[str]) -> set[int]:
    """Return the ids of the calls that the channels with these uniqueids belong to."""
    found: set[int] = set()
    for some in chunks(sorted(uniqueids)):
        own = select(_calls.c.id).where(_calls.c.connection_id == connection_id, _calls.c.linkedid.in_(some))
        legs = select(_L.call_id).where(_L.connection_id == connection_id, _L.uniqueid.in_(some))
        found.update(session.connection().scalars(union(own, legs)))
    return found


def update_call_queues(session: Session, connection_id: int, call_ids: Collection[int]) -> None:
    """Update the stored queues of these calls from their queue visits. Calls that are up to date aren't written."""
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
    """Return {call id: its queues}, from the visits of the call's own channel and of the channels of its legs."""
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
