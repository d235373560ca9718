"""Import cursors: how far each source of history was read. A cursor moves in the transaction that stores the rows."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sqlmodel import Session, col, select

from pbx.store.models import CallRow, ImportCursorRow, VisitRow, now
from pbx.text_encoding import decode_fields

ImportKind = Literal["queue_log", "cdr", "cel"]
MAX_STORED_ERRORS = 100  # of the unreadable lines of a source
MAX_LINE_CHARACTERS = 120  # stored of an unreadable line
_LAST_READ_FIRST = (col(ImportCursorRow.read_at).desc(), col(ImportCursorRow.id).desc())


@dataclass
class ImportCursor:
    """How far one source was read.

    `position` is in uncompressed bytes of a file, or in seconds since 1970 of a database. `rows` counts all lines or
    rows read so far, `unreadable` those of them that could not be parsed. `errors` lists the first of these: (line
    number, reason).
    """

    source: str
    label: str = ""
    position: int = 0
    rows: int = 0
    unreadable: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)
    id: int | None = None

    def add_unreadable(self, row: int, why: str, line: bytes | str = "") -> None:
        """Count a line or row that can't be parsed. The first 100 are stored with the reason and their beginning."""
        self.unreadable += 1
        if len(self.errors) < MAX_STORED_ERRORS:
            text = decode_fields(line[: 4 * MAX_LINE_CHARACTERS], b"|") if isinstance(line, bytes) else line
            shown = (c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_LINE_CHARACTERS])
            self.errors.append((row, f"{why}: {''.join(shown)}" if text else why))


def load_cursors(session: Session, connection_id: int, kind: ImportKind) -> list[ImportCursor]:
    """Return the cursors of a kind, most recently read first."""
    query = (
        select(ImportCursorRow)
        .where(ImportCursorRow.connection_id == connection_id, ImportCursorRow.kind == kind)
        .order_by(*_LAST_READ_FIRST)
    )
    return [_cursor_of(row) for row in session.exec(query)]


def list_cursors(session: Session, connection_id: int, limit: int) -> list[ImportCursorRow]:
    """Return up to `limit` cursors of any kind, most recently read first."""
    query = select(ImportCursorRow).where(ImportCursorRow.connection_id == connection_id)
    return list(session.exec(query.order_by(*_LAST_READ_FIRST).limit(limit)))


def stored_span(
    session: Session, connection_id: int, kind: Literal["visits", "calls"]
) -> tuple[datetime, datetime] | None:
    """Return when the first and the last stored queue visit or call began; None if there is none."""
    mine, at = {
        "visits": (VisitRow.connection_id == connection_id, col(VisitRow.joined_at)),
        "calls": (CallRow.connection_id == connection_id, col(CallRow.started_at)),
    }[kind]
    first = session.exec(select(at).where(mine, at.is_not(None)).order_by(at).limit(1)).first()
    last = session.exec(select(at).where(mine, at.is_not(None)).order_by(at.desc()).limit(1)).first()
    return (first, last) if first and last else None


def move_cursor(session: Session, connection_id: int, kind: ImportKind, cursor: ImportCursor) -> None:
    """Store how far a source was read. Sets the id of a new cursor."""
    row = None if cursor.id is None else session.get(ImportCursorRow, cursor.id)
    if row is None:
        by_source = (ImportCursorRow.connection_id == connection_id, ImportCursorRow.kind == kind)
        row = session.exec(
            select(ImportCursorRow).where(*by_source, ImportCursorRow.source == cursor.source)
        ).one_or_none()
    if row is None:
        row = ImportCursorRow(connection_id=connection_id, kind=kind, source=cursor.source)
    row.source, row.label, row.position = cursor.source, cursor.label, cursor.position
    row.rows, row.unreadable, row.errors = cursor.rows, cursor.unreadable, [list(error) for error in cursor.errors]
    row.read_at = now()
    session.add(row)
    session.flush()
    cursor.id = row.id


def _cursor_of(row: ImportCursorRow) -> ImportCursor:
    errors = [(int(str(number)), str(why)) for number, why in row.errors]
    return ImportCursor(row.source, row.label, row.position, row.rows, row.unreadable, errors, row.id)
