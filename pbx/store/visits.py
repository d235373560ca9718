"""Stores queue visits, missed rings and agent events, in bulk: a site's history has millions of events.

An event that was seen live and is also in queue_log is one row. The two sources read the clock at slightly different
moments, so times within `SAME_MOMENT_S` seconds of each other count as the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Table as SqlTable
from sqlalchemy import bindparam, insert, select, update
from sqlmodel import Session

from pbx.model.history import AgentEvent, Ring, Visit
from pbx.store.chunks import chunks
from pbx.store.models import AgentEventRow, RingRow, Table, VisitRow
from pbx.store.queues_of_calls import calls_of_uniqueids, update_call_queues
from pbx.store.safe_values import bounded

VisitSource = Literal["live", "queue_log"]
SAME_MOMENT_S = 2
_TIMES = ("joined_at", "connected_at", "ended_at")
_MISSING: tuple[object, ...] = (None, "")
_WHO = ("caller", "caller_name", "did", "interface", "original_position")  # independent of how the visit ended
_FIELDS = tuple(Visit.__dataclass_fields__)
_KEY = ("uniqueid", "queue", "joined_at", "outcome")
_OBSERVED = 2  # the certainty of an observed end
_CERTAINTY = {"in_progress": 0, "unknown": 1}
_OPPOSITE = {"login": "logout", "logout": "login", "pause": "unpause", "unpause": "pause"}

_visits: SqlTable = Table.metadata.tables[VisitRow.__tablename__]
_rings: SqlTable = Table.metadata.tables[RingRow.__tablename__]
_events: SqlTable = Table.metadata.tables[AgentEventRow.__tablename__]


class _VisitRecord:
    """A visit to store or already stored, and the source of its figures. `id` is None until it is stored."""

    __slots__ = ("changed", "id", "source", "visit")

    def __init__(self, row_id: int | None, source: str, visit: Visit) -> None:
        self.id, self.source, self.visit, self.changed = row_id, source, visit, row_id is None


def store_visits(session: Session, connection_id: int, visits: Sequence[Visit], source: VisitSource) -> int:
    """Add visits, or complete those already stored; returns the number of rows added or changed.

    A visit is already stored if a row has the same caller's channel and queue, and joined within 2 s of it. Figures
    from queue_log take precedence over those seen live. Either source completes a visit that was in progress or whose
    end is unknown. Storing the same visit again changes nothing. If `visits` contains several reports of one visit,
    they must be in chronological order. Also updates the queues of the visits' calls.
    """
    visits = bounded(visits)
    rows = _stored_visits(session, connection_id, sorted({visit.uniqueid for visit in visits}))
    for visit in map(_in_seconds, visits):
        same_caller = rows[visit.uniqueid, visit.queue]
        row = _find_stored(visit, same_caller, source)
        if row is None:
            same_caller.append(_VisitRecord(None, source, visit))
        else:
            _merge(row, visit, source)
    changed = [row for same_caller in rows.values() for row in same_caller if row.changed]
    added = [_values(row) | {"connection_id": connection_id} for row in changed if row.id is None]
    if added:
        session.connection().execute(insert(_visits), added)
    updated = [
        {f"new_{name}": value for name, value in _values(row).items()} | {"row": row.id} for row in changed if row.id
    ]
    if updated:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in (*_FIELDS, "source")}
        session.connection().execute(update(_visits).where(_visits.c.id == bindparam("row")).values(values), updated)
    uniqueids = {row.visit.uniqueid for row in changed}
    update_call_queues(session, connection_id, calls_of_uniqueids(session, connection_id, uniqueids))
    return len(changed)


def store_rings(session: Session, connection_id: int, rings: Sequence[Ring]) -> int:
    """Add missed rings that aren't stored yet; returns how many. A phone that rang twice for a call has two."""
    rings = bounded(rings)
    known: dict[tuple[str, str, str], list[tuple[datetime, float]]] = defaultdict(list)
    columns = _rings.c
    for names in chunks(sorted({ring.uniqueid for ring in rings})):
        query = select(columns.agent, columns.queue, columns.uniqueid, columns.rung_at, columns.ring_s).where(
            columns.connection_id == connection_id,
            columns.uniqueid.in_(names),
            columns.rung_at.between(*_around(ring.rung_at for ring in rings)),
        )
        for row in session.connection().execute(query):
            known[row[0], row[1], row[2]].append((row[3], row[4]))
    added = []
    for ring in sorted(rings, key=lambda ring: ring.rung_at):
        before = known[ring.agent, ring.queue, ring.uniqueid]
        if ring.rung_at.microsecond:
            ring = replace(ring, rung_at=ring.rung_at.replace(microsecond=0))
        if not any(_same_ring(ring, *other) for other in before):
            before.append((ring.rung_at, ring.ring_s))
            added.append(_fields(ring) | {"connection_id": connection_id})
    if added:
        session.connection().execute(insert(_rings), added)
    return len(added)


def store_agent_events(session: Session, connection_id: int, agent_events: Sequence[AgentEvent]) -> int:
    """Add agent events that aren't stored yet; returns how many."""
    if not agent_events:
        return 0
    agent_events, columns = bounded(agent_events), _events.c
    known: dict[tuple[str, str, str], list[datetime]] = defaultdict(list)
    query = select(columns.agent, columns.queue, columns.kind, columns.happened_at).where(
        columns.connection_id == connection_id,
        columns.happened_at.between(*_around(event.happened_at for event in agent_events)),
    )
    for row in session.connection().execute(query):
        known[row[0], row[1], row[2]].append(row[3])
    added = []
    for event in agent_events:
        before = known[event.agent, event.queue, event.kind]
        at = event.happened_at.replace(microsecond=0)
        undone = known[event.agent, event.queue, _OPPOSITE[event.kind]]
        if not any(_same_change(at, other, undone) for other in before):
            before.append(at)
            added.append(_fields(event) | {"happened_at": at, "connection_id": connection_id})
    if added:
        session.connection().execute(insert(_events), added)
    return len(added)


def open_visits(session: Session, connection_id: int, source: VisitSource) -> list[Visit]:
    """Return the visits that were in progress at the last event from this source."""
    query = select(*(_visits.c[name] for name in _FIELDS)).where(
        _visits.c.connection_id == connection_id, _visits.c.outcome == "in_progress", _visits.c.source == source
    )
    return [Visit(*row) for row in session.connection().execute(query)]


def _stored_visits(
    session: Session, connection_id: int, uniqueids: Sequence[str]
) -> dict[tuple[str, str], list[_VisitRecord]]:
    rows: dict[tuple[str, str], list[_VisitRecord]] = defaultdict(list)
    columns = [_visits.c.id, _visits.c.source, *(_visits.c[name] for name in _FIELDS)]
    for some in chunks(uniqueids):
        query = select(*columns).where(_visits.c.connection_id == connection_id, _visits.c.uniqueid.in_(some))
        for row_id, source, *fields in session.connection().execute(query):
            visit = Visit(*fields)
            rows[visit.uniqueid, visit.queue].append(_VisitRecord(row_id, source, visit))
    return rows


def _find_stored(visit: Visit, rows: list[_VisitRecord], source: VisitSource) -> _VisitRecord | None:
    """Return the row of the same visit, or None.

    A caller who left the queue and rejoined it has two visits; the end of the first one distinguishes them.
    """
    best: _VisitRecord | None = None
    best_s: float = SAME_MOMENT_S + 1
    for row in rows:
        apart_s = abs((row.visit.joined_at - visit.joined_at).total_seconds())
        over = row.source == source and row.visit.ended_at is not None and row.visit.ended_at <= visit.joined_at
        if apart_s < best_s and not (over and apart_s):
            best, best_s = row, apart_s
    return best


def _merge(row: _VisitRecord, visit: Visit, source: VisitSource) -> None:
    """Merge two versions of a visit: the better source takes precedence, and the other one fills in missing values."""
    old, old_source = row.visit, row.source
    sure, old_sure = _CERTAINTY.get(visit.outcome, _OBSERVED), _CERTAINTY.get(old.outcome, _OBSERVED)
    if sure == old_sure and source == old_source:
        wins = sure < _OBSERVED  # the first report of an end is kept: it included the start
    else:
        wins = sure > old_sure or (sure == old_sure and source == "queue_log")
    better, worse = (visit, old) if wins else (old, visit)
    agree = better.outcome == worse.outcome or min(sure, old_sure) < _OBSERVED
    fill = {
        name: value
        for name in _FIELDS
        if name not in _KEY and (agree or name in _WHO) and getattr(better, name) in _MISSING
        if (value := getattr(worse, name)) not in _MISSING
    }
    # A start calculated back from the end doesn't replace an observed one.
    joined_at = visit.joined_at if source == "queue_log" and old_source == "live" else old.joined_at
    merged = replace(better, joined_at=joined_at, **fill)
    new_source = source if wins else old_source
    if merged != old or new_source != old_source:
        row.visit, row.source, row.changed = merged, new_source, True


def _fields(fact: Ring | AgentEvent) -> dict[str, Any]:
    return {name: getattr(fact, name) for name in fact.__dataclass_fields__}  # asdict would deep-copy each value


def _values(row: _VisitRecord) -> dict[str, Any]:
    return {name: getattr(row.visit, name) for name in _FIELDS} | {"source": row.source}


def _in_seconds(visit: Visit) -> Visit:
    """Return the visit with its times in full seconds, as stored, so that storing it again changes nothing."""
    times = {name: at.replace(microsecond=0) for name in _TIMES if (at := getattr(visit, name)) and at.microsecond}
    return replace(visit, **times) if times else visit


def _same_ring(ring: Ring, other_at: datetime, other_s: float) -> bool:
    """Return whether a ring is already stored: a second ring would end at least its own length later."""
    apart_s = abs((ring.rung_at - other_at).total_seconds())
    return apart_s == 0 or (apart_s <= SAME_MOMENT_S and apart_s + 1 <= min(ring.ring_s, other_s))


def _same_change(at: datetime, other: datetime, undone: Iterable[datetime]) -> bool:
    first, last = min(at, other), max(at, other)
    return (last - first).total_seconds() <= SAME_MOMENT_S and not any(first < moment < last for moment in undone)


def _around(times: Iterable[datetime]) -> tuple[datetime, datetime]:
    found = sorted(times)
    return found[0] - timedelta(seconds=SAME_MOMENT_S), found[-1] + timedelta(seconds=SAME_MOMENT_S)
