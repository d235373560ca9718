"""Of which time the history of queues is known: listened to live, or read from queue_log."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlmodel import Session

from pbx.store.marks import load_marks
from pbx.store.models import Table
from pbx.store.watching import watch_spans

Stretch = tuple[datetime, datetime]
TOLERATED = timedelta(minutes=2)  # a shorter break between two stretches is no gap worth drawing
_V = Table.metadata.tables["queue_visits"].c


@dataclass(frozen=True, slots=True)
class Coverage:
    """`begins_at`: the first visit ever known, None without any; `gaps`: what nobody saw of the period asked about."""

    begins_at: datetime | None
    gaps: tuple[Stretch, ...]


def queue_coverage(session: Session, connection_id: int, since: datetime, until: datetime) -> Coverage:
    """What is known of the visits from `since` up to `until`.

    An import covers all from the first visit to the last: what a log that is missing in between would have told can't
    be seen here.
    """
    first, last = _visit(session, connection_id, "min"), _visit(session, connection_id, "max")
    known = watch_spans(session, connection_id, since, until)
    if first and last and (load_marks(session, connection_id, "queue_log") or "queue_log" in (first[1], last[1])):
        known.append((first[0], last[0] + timedelta(seconds=1)))
    return Coverage(first[0] if first else None, tuple(_gaps(known, since, until)))


def _visit(session: Session, connection_id: int, which: str) -> tuple[datetime, str] | None:
    """The first or last visit: when it joined, and what told of it."""
    order = _V.joined_at.asc() if which == "min" else _V.joined_at.desc()
    query = select(_V.joined_at, _V.source).where(_V.connection_id == connection_id).order_by(order).limit(1)
    found = session.connection().execute(query).first()
    return (found[0], found[1]) if found else None


def _gaps(known: list[Stretch], since: datetime, until: datetime) -> list[Stretch]:
    gaps, reached = [], since
    for start, end in sorted(known):
        if start - reached > TOLERATED:
            gaps.append((reached, min(start, until)))
        reached = max(reached, end)
        if reached >= until:
            break
    if until - reached > TOLERATED:
        gaps.append((reached, until))
    return [(start, end) for start, end in gaps if start < until]
