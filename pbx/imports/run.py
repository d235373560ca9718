"""One import run: what every source of history uses to find its cursor, store its rows and report how far it is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TypeVar

from pydantic import BaseModel
from sqlalchemy import URL, Engine
from sqlmodel import Session

from pbx.errors import DataError
from pbx.formatting import zone_of
from pbx.imports.databases import table_cursor
from pbx.imports.file_types import FileKind, check_read, refuse_other
from pbx.imports.files import HEAD_BYTES, find_cursor, fingerprint_of, is_finished, open_history, skip_to
from pbx.imports.time_range import ONLY_NEW, TimeRange
from pbx.progress import Progress
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import ImportCursor, ImportKind, load_cursors, move_cursor
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.recordings import utc_offset_s

_T = TypeVar("_T")


class SourceResult(BaseModel):
    """What an import found in one file or table. `failure`: why it could not be read to its end; "" for none."""

    kind: ImportKind | Literal[""]
    source: str
    failure: str = ""


class RowCounts(SourceResult):
    """How many rows an import read from one file or table.

    `rows`: new lines or rows. `unreadable`: how many of them could not be parsed. `errors`: those of
    them that are among the first hundred of the source: [number of the row in the source, reason].
    """

    rows: int = 0
    unreadable: int = 0
    errors: list[tuple[int, str]] = []

    def count_unreadable(self, cursor: ImportCursor, unreadable_before: int) -> None:
        """Count what the cursor could not read since it had counted `unreadable_before`, and take over its errors."""
        self.unreadable, self.errors = cursor.unreadable - unreadable_before, cursor.errors[unreadable_before:]


class HistoryFile(NamedTuple):
    """A file of history, opened at the first line that was not read before.

    `stream` yields its uncompressed bytes; the position of `raw` shows how far the file on the disk was read. `head` is
    the first kilobyte. A `complete` file does not grow, so its last line needs no line end.
    """

    stream: BinaryIO
    raw: BinaryIO
    cursor: ImportCursor
    head: bytes
    complete: bool


@dataclass
class ImportRun:
    """An import of files or tables into the cache of one PBX.

    `within` limits the import to a time range. `progress(done, total)` is called after each block of rows: in bytes for
    files, in seconds of the PBX's time for tables. Once `stop` is set, the import ends after the current block.
    """

    engine: Engine
    active: ActiveConnection
    within: TimeRange = ONLY_NEW
    progress: Progress | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    bytes_total: int | None = None  # of all the files of this run, as they are on the disk
    bytes_done: int = 0  # of the files that are finished

    @property
    def connection_id(self) -> int:
        """The PBX to which everything that is stored belongs."""
        return self.active.id

    @property
    def stopped(self) -> bool:
        """Whether the import should end."""
        return self.stop.is_set()

    def zone(self) -> tzinfo:
        """The PBX's time zone: as configured, else as learned from its recordings."""
        with reading(self.engine) as session:
            return zone_of(self.active.connection.timezone, utc_offset_s(session, self.connection_id))

    def table_cursor(self, kind: ImportKind, url: URL, table: str) -> ImportCursor:
        """How far a table was read; a new cursor for a table never read, and for an import of a time range."""
        cursor = table_cursor(self.engine, self.connection_id, kind, url, table)
        return ImportCursor(cursor.source, cursor.label) if self.within else cursor

    @contextmanager
    def open_file(self, path: Path, kind: FileKind) -> Iterator[HistoryFile]:
        """Open a file of history behind what was read before, under whatever name it was read.

        A file that was cut, or of which nothing could be understood so far, is read from its start. Raises
        SettingsError when there is no such file, UnreadableFile when it can't be read, or when none of its lines can.
        """
        with open_history(path) as (stream, raw):
            complete, head = is_finished(path), stream.read(HEAD_BYTES)
            stream.seek(0)
            cursor = find_cursor(head, self._file_cursors(kind)) or ImportCursor("")
            cursor.source, cursor.label = fingerprint_of(head, complete=complete), path.name
            unread = cursor.rows == cursor.unreadable
            if unread:
                refuse_other(path, kind)
            if unread or not skip_to(stream, cursor.position):
                cursor.position = cursor.rows = cursor.unreadable = 0
                cursor.errors = []
            yield HistoryFile(stream, raw, cursor, head, complete)
            check_read(path, cursor, kind)

    @contextmanager
    def storing(self, kind: ImportKind, cursor: ImportCursor | None) -> Iterator[Session]:
        """A transaction that stores rows and, with them, how far their source was read.

        None leaves the cursor for a later transaction. An import of a time range never moves a cursor.
        """
        with writing(self.engine) as session:
            yield session
            if cursor is not None and not self.within:
                move_cursor(session, self.connection_id, kind, cursor)

    def report(self, done: int, total: int | None = None) -> None:
        """Report progress within a table."""
        if self.progress is not None:
            self.progress(done, total)

    def report_bytes(self, done: int) -> None:
        """Report how many bytes of the current file were read, as progress through all files."""
        done += self.bytes_done
        self.report(done if self.bytes_total is None else min(done, self.bytes_total), self.bytes_total)

    def _file_cursors(self, kind: FileKind) -> list[ImportCursor]:
        if self.within:
            return []
        with reading(self.engine) as session:
            return load_cursors(session, self.connection_id, kind)


def failure_text(path: Path, error: DataError) -> str:
    """Why a file could not be read and what to do, with the file's name instead of its full path."""
    return error.advice.replace(str(path), path.name)
