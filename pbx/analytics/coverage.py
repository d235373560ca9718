"""Of which time the history of queues and calls is known: listened to live, or read from queue_log or the CDR."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Column, func, select
from sqlmodel import Session

from pbx.store.import_cursors import MarkKind
from pbx.store.listening import listening_spans
from pbx.store.models import Table

CoveredSpan = tuple[datetime, datetime]
TOLERATED = timedelta(minutes=2)  # a shorter break between two stretches is no gap worth drawing
_CoverageColumns = tuple[Column[datetime], Column[str]]
_V, _L, _C, _M = (Table.metadata.tables[name].c for name in ("queue_visits", "call_legs", "calls", "import_cursors"))


@dataclass(frozen=True, slots=True)
class Coverage:
    """`begins_at`: the first visit or call ever known, None without any; `gaps`: what nobody saw of the period."""

    begins_at: datetime | None
    gaps: tuple[CoveredSpan, ...]


def queue_coverage(session: Session, connection_id: int, since: datetime, until: datetime) -> Coverage:
    """What is known of the visits to queues from `since` up to `until`.

    An import covers all from its first visit to its last: what a log that is missing in between would have told can't
    be seen here.
    """
    return _coverage(session, connection_id, "queue_log", (_V.joined_at, _V.source), since, until)


def call_coverage(session: Session, connection_id: int, since: datetime, until: datetime) -> Coverage:
    """What is known of the calls, over trunks or not, from `since` up to `until`, by listening or from the CDR.

    Recordings tell of a call, but of no other: a time of which only they are here is a gap.
    """
    known = _coverage(session, connection_id, "cdr", (_L.started_at, _L.source), since, until)
    query = select(_C.started_at).where(_C.connection_id == connection_id, _C.started_at.is_not(None))
    first = session.connection().execute(query.order_by(_C.started_at).limit(1)).scalar()
    return Coverage(first or known.begins_at, known.gaps)


def _coverage(
    session: Session, connection_id: int, kind: MarkKind, columns: _CoverageColumns, since: datetime, until: datetime
) -> Coverage:
    first = _end(session, connection_id, columns, "first")
    known = listening_spans(session, connection_id, since, until)
    if imported := _imported(session, connection_id, kind, columns):
        known.append(imported)
    return Coverage(first[0] if first else None, tuple(_gaps(known, since, until)))


def _imported(session: Session, connection_id: int, kind: MarkKind, columns: _CoverageColumns) -> CoveredSpan | None:
    """From the first row that an import told of to the last."""
    marks = select(func.max(_M.read_at)).where(_M.connection_id == connection_id, _M.kind == kind)
    read_at = session.connection().execute(marks).scalar()
    ends = [_end(session, connection_id, columns, which) for which in ("first", "last")]
    if not all(end and end[1] == kind for end in ends):
        if not read_at and not any(end and end[1] == kind for end in ends):
            return None
        # Looked for from when an import last ran: no other row need be passed over.
        ends = [_end(session, connection_id, columns, which, kind, read_at) for which in ("first", "last")]
    first, last = ends
    return (first[0], last[0] + timedelta(seconds=1)) if first and last else None


def _end(
    session: Session,
    connection_id: int,
    columns: _CoverageColumns,
    which: Literal["first", "last"],
    kind: MarkKind | None = None,
    before: datetime | None = None,
) -> tuple[datetime, str] | None:
    """The first or last row (that imports of a kind told of, up to a moment): when it was, and what told of it."""
    at, source = columns
    query = select(at, source).where(at.table.c.connection_id == connection_id)
    if kind:
        query = query.where(source == kind)
    if before:
        query = query.where(at <= before)
    found = session.connection().execute(query.order_by(at.asc() if which == "first" else at.desc()).limit(1)).first()
    return (found[0], found[1]) if found else None


def _gaps(known: list[CoveredSpan], since: datetime, until: datetime) -> list[CoveredSpan]:
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
