"""How far each source of history was read. A cursor moves in the transaction that stores what was read."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlmodel import Session, col, select

from pbx.store.models import CallRow, ImportCursorRow, VisitRow, now
from pbx.text_encoding import decode_fields

MarkKind = Literal["queue_log", "cdr", "cel"]
FAULTS_KEPT = 100
SHOWN = 120  # characters of a bad line
_LAST_READ_FIRST = (col(ImportCursorRow.read_at).desc(), col(ImportCursorRow.id).desc())


@dataclass
class ImportCursor:
    """How far one source was read. `position`: bytes of a file (uncompressed), or seconds since 1970 of a database.

    `rows` are all lines or rows read so far, `bad` those that could not be understood, `faults` the first of them:
    [line's number, why].
    """

    source: str
    label: str = ""
    position: int = 0
    rows: int = 0
    bad: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)
    id: int | None = None

    def note_bad(self, row: int, why: str, line: bytes | str = "") -> None:
        """Count an unreadable line or row; of the first hundred, keep the reason and the beginning."""
        self.bad += 1
        if len(self.faults) < FAULTS_KEPT:
            text = decode_fields(line[: 4 * SHOWN], b"|") if isinstance(line, bytes) else line
            seen = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[:SHOWN])
            self.faults.append((row, f"{why}: {seen}" if seen else why))


def load_cursors(session: Session, connection_id: int, kind: MarkKind) -> list[ImportCursor]:
    """Return the cursors of a kind, the last one read first."""
    query = (
        select(ImportCursorRow)
        .where(ImportCursorRow.connection_id == connection_id, ImportCursorRow.kind == kind)
        .order_by(*_LAST_READ_FIRST)
    )
    return [_mark(row) for row in session.exec(query)]


def list_cursors(session: Session, connection_id: int, limit: int) -> list[ImportCursorRow]:
    """Return up to `limit` cursors of any kind, the last one read first."""
    query = select(ImportCursorRow).where(ImportCursorRow.connection_id == connection_id)
    return list(
        session.exec(query.order_by(col(ImportCursorRow.read_at).desc(), col(ImportCursorRow.id).desc()).limit(limit))
    )


def known_span(
    session: Session, connection_id: int, kind: Literal["visits", "calls"]
) -> tuple[datetime, datetime] | None:
    """Return when the first and the last stored queue visit, or call, started; None without any."""
    mine, at = {
        "visits": (VisitRow.connection_id == connection_id, col(VisitRow.joined_at)),
        "calls": (CallRow.connection_id == connection_id, col(CallRow.started_at)),
    }[kind]
    first = session.exec(select(at).where(mine, at.is_not(None)).order_by(at).limit(1)).first()
    last = session.exec(select(at).where(mine, at.is_not(None)).order_by(at.desc()).limit(1)).first()
    return (first, last) if first and last else None


def move_cursor(session: Session, connection_id: int, kind: MarkKind, mark: ImportCursor) -> None:
    """Store how far a source was read; a new cursor gets its id."""
    row = None if mark.id is None else session.get(ImportCursorRow, mark.id)
    if row is None:
        by_source = (ImportCursorRow.connection_id == connection_id, ImportCursorRow.kind == kind)
        row = session.exec(
            select(ImportCursorRow).where(*by_source, ImportCursorRow.source == mark.source)
        ).one_or_none()
    if row is None:
        row = ImportCursorRow(connection_id=connection_id, kind=kind, source=mark.source)
    row.source, row.label, row.position = mark.source, mark.label, mark.position
    row.rows, row.bad_rows, row.errors = mark.rows, mark.bad, [list(fault) for fault in mark.faults]
    row.read_at = now()
    session.add(row)
    session.flush()
    mark.id = row.id


def _mark(row: ImportCursorRow) -> ImportCursor:
    faults = [(int(str(number)), str(why)) for number, why in row.errors]
    return ImportCursor(row.source, row.label, row.position, row.rows, row.bad_rows, faults, row.id)
