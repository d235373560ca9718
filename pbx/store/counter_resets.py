"""Detect and store when a PBX's counters restarted from zero: Asterisk restarted, or queue statistics were reset."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlmodel import Session

from pbx.model.snapshot import Snapshot
from pbx.store.models import CounterReset, Table

RESTARTED = "Asterisk restarted"
ALL_RESET = "The counters of all queues were reset"
_TOLERANCE = timedelta(seconds=5)  # uptime has a resolution of one second, and taking a snapshot takes some time
_resets = Table.metadata.tables[str(CounterReset.__tablename__)]
_R = _resets.c


@dataclass(frozen=True, slots=True)
class Reset:
    """A moment at which counters restarted from zero, described for the user. `queue` is "" for all queues."""

    at: datetime
    description: str
    queue: str = ""


def resets_of(
    session: Session, connection_id: int, since: datetime, until: datetime, queue: str | None = None
) -> list[Reset]:
    """Return the resets at `since` <= time < `until`, in order. With `queue`, only those that affect that queue."""
    query = select(_R.happened_at, _R.description, _R.queue).where(
        _R.connection_id == connection_id, _R.happened_at >= since, _R.happened_at < until
    )
    if queue is not None:
        query = query.where(_R.queue.in_([queue, ""]))
    return [Reset(*row) for row in session.connection().execute(query.order_by(_R.happened_at, _R.id))]


def store_resets(session: Session, connection_id: int, before: Snapshot, after: Snapshot) -> None:
    """Store the resets between two snapshots, except those already stored for the same moment."""
    for reset in resets_between(before, after):
        known = select(_R.id).where(
            _R.connection_id == connection_id,
            _R.queue == reset.queue,
            _R.description == reset.description,
            _R.happened_at.between(reset.at - _TOLERANCE, reset.at + _TOLERANCE),
        )
        if session.connection().execute(known.limit(1)).first() is None:
            values = {
                "connection_id": connection_id,
                "happened_at": reset.at,
                "description": reset.description,
                "queue": reset.queue,
            }
            session.connection().execute(insert(_resets).values(values))


def resets_between(before: Snapshot, after: Snapshot) -> list[Reset]:
    """Return the resets between two snapshots: at Asterisk's start if it restarted, otherwise at the later snapshot.

    Counters only grow (Completed and Abandoned of QueueParams), so a lower value means a reset: `queue reset stats` was
    run, or app_queue was loaded again. Reloading queues.conf keeps the counters (seen on Asterisk 16 and 22).
    """
    was, now = _start_of(before), _start_of(after)
    if was and now and now - was > _TOLERANCE and now > before.taken_at - _TOLERANCE:
        return [Reset(now, RESTARTED)]
    fallen = list(_queues_with_lower_counters(before, after))
    if len(fallen) > 1 and len(fallen) == sum(bool(queue.completed or queue.abandoned) for queue in before.queues):
        return [Reset(after.taken_at, ALL_RESET)]
    return [Reset(after.taken_at, f"The counters of {name} were reset", name) for name in fallen]


def _start_of(snapshot: Snapshot) -> datetime | None:
    """Return when Asterisk started, by this machine's clock: the PBX's clock can be set between two snapshots."""
    if snapshot.system is None or snapshot.system.uptime_s is None:
        return None
    return snapshot.taken_at - timedelta(seconds=snapshot.system.uptime_s)


def _queues_with_lower_counters(before: Snapshot, after: Snapshot) -> Iterator[str]:
    seen = {queue.name: queue for queue in after.queues}
    for was in before.queues:
        now = seen.get(was.name)
        if now is not None and (now.completed < was.completed or now.abandoned < was.abandoned):
            yield was.name
