"""Coverage: the times for which the history of queues and calls is known, from live events or from an import."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import Column, func, select
from sqlmodel import Session

from pbx.store.import_cursors import ImportKind
from pbx.store.listening_spans import listening_spans
from pbx.store.models import Table

CoveredSpan = tuple[datetime, datetime]
MIN_GAP = timedelta(minutes=2)  # shorter breaks are not shown as gaps
_CoverageColumns = tuple[Column[datetime], Column[str]]
_V, _L, _C, _M = (Table.metadata.tables[name].c for name in ("queue_visits", "call_legs", "calls", "import_cursors"))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is known of a period: `begins_at`: the first visit or call ever known. `gaps`: the times not covered."""

    begins_at: datetime | None
    gaps: tuple[CoveredSpan, ...]


def queue_coverage(session: Session, connection_id: int, since: datetime, until: datetime) -> Coverage:
    """The coverage of queue visits from `since` up to `until`.

    An import covers the time from its first visit to its last one. A log that is missing in between can't be detected.
    """
    return _coverage(session, connection_id, "queue_log", (_V.joined_at, _V.source), since, until)


def call_coverage(session: Session, connection_id: int, since: datetime, until: datetime) -> Coverage:
    """The coverage of calls from `since` up to `until`, by live events or the CDR.

    A recording shows that one call took place, but nothing about others. So a time with recordings only is a gap.
    """
    known = _coverage(session, connection_id, "cdr", (_L.started_at, _L.source), since, until)
    query = select(_C.started_at).where(_C.connection_id == connection_id, _C.started_at.is_not(None))
    first = session.connection().execute(query.order_by(_C.started_at).limit(1)).scalar()
    return Coverage(first or known.begins_at, known.gaps)


def _coverage(
    session: Session, connection_id: int, kind: ImportKind, columns: _CoverageColumns, since: datetime, until: datetime
) -> Coverage:
    first = _end(session, connection_id, columns, "first")
    known = listening_spans(session, connection_id, since, until)
    if imported := _imported(session, connection_id, kind, columns):
        known.append(imported)
    return Coverage(first[0] if first else None, tuple(_gaps(known, since, until)))


def _imported(session: Session, connection_id: int, kind: ImportKind, columns: _CoverageColumns) -> CoveredSpan | None:
    """The span from the first imported row to the last."""
    last_import = select(func.max(_M.read_at)).where(_M.connection_id == connection_id, _M.kind == kind)
    read_at = session.connection().execute(last_import).scalar()
    ends = [_end(session, connection_id, columns, which) for which in ("first", "last")]
    if not all(end and end[1] == kind for end in ends):
        if not read_at and not any(end and end[1] == kind for end in ends):
            return None
        # No imported row is newer than the last import, so the search starts there.
        ends = [_end(session, connection_id, columns, which, kind, read_at) for which in ("first", "last")]
    first, last = ends
    return (first[0], last[0] + timedelta(seconds=1)) if first and last else None


def _end(
    session: Session,
    connection_id: int,
    columns: _CoverageColumns,
    which: Literal["first", "last"],
    kind: ImportKind | None = None,
    before: datetime | None = None,
) -> tuple[datetime, str] | None:
    """The moment and source of the first or last row; with `kind` and `before`, only of rows imported until then."""
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
        if start - reached > MIN_GAP:
            gaps.append((reached, min(start, until)))
        reached = max(reached, end)
        if reached >= until:
            break
    if until - reached > MIN_GAP:
        gaps.append((reached, until))
    return [(start, end) for start, end in gaps if start < until]
