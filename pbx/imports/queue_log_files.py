"""queue_log into the cache, from files. It may be killed at any moment: the next import goes on where this one was.

A block of lines and how far the file was read are stored in one transaction. Reading again is harmless: what is known
is recognised. Databases are read by `pbx.imports.queue_log_database`.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel
from sqlalchemy import Engine

from pbx.asterisk.formats.queue_log import BadLine, parse_queue_log_line
from pbx.errors import UnreadableFile
from pbx.imports.file_types import check_read, refuse_other
from pbx.imports.files import (
    HEAD_BYTES,
    is_finished,
    leave_out_blank,
    mark_of,
    open_history,
    read_lines,
    skip_to,
    source_of,
)
from pbx.imports.queue_visits import QueueLogFold
from pbx.imports.time_range import WHATEVER_IS_NEW, TimeRange
from pbx.model.history import Visit
from pbx.progress import Progress
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import ImportCursor, MarkKind, load_cursors, move_cursor
from pbx.store.visits import open_visits, store_agent_changes, store_rings, store_visits

_KIND: MarkKind = "queue_log"
_RECALLED_BYTES = 4096


class SourceRead(BaseModel):
    """What was read from one file or table this time.

    `rows`: lines or rows; `bad`: those of them that are not queue_log's, `faults`: the first hundred ever met in this
    source, [line, why]; `unknown`: events by name that tell nothing here; visits, rings and changes are those added to
    the cache or completed there; `failure`: why it ended early, for people.
    """

    source: str
    rows: int = 0
    bad: int = 0
    visits: int = 0
    rings: int = 0
    changes: int = 0
    unknown: dict[str, int] = {}
    faults: list[tuple[int, str]] = []
    failure: str = ""


class ImportResult(BaseModel):
    """What an import read, source by source, oldest first."""

    sources: list[SourceRead] = []

    @property
    def failed(self) -> bool:
        return any(source.failure for source in self.sources)


def import_queue_log_files(
    engine: Engine,
    connection_id: int,
    files: Sequence[Path],
    *,
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> ImportResult:
    """Read what is new in queue_log files (plain, rotated, gzip), or what lies within a stretch, oldest file first.

    `progress(done, total)` is called now and then, in bytes as they lie on the disk; a set `stop` ends it soon.

    Raises SettingsError when a file isn't there, DataError or StorageFull when the cache can't be written. A file that
    can't be read, or only in part, is told of in the result instead.
    """
    begun = {path: _begins_at(path) for path in dict.fromkeys(files)}
    sizes = {path: path.stat().st_size for path in begun}
    with reading(engine) as session:
        fold = QueueLogFold(open_visits(session, connection_id, "queue_log"))
        marks = [] if within else load_cursors(session, connection_id, _KIND)
    result, done = ImportResult(), 0

    def tell(read: int) -> None:
        if progress is not None:
            progress(done + read, sum(sizes.values()))

    for path in sorted(begun, key=lambda path: begun[path]):
        if stop is not None and stop.is_set():
            break
        intake = Intake(engine, connection_id, fold, ImportCursor(""), SourceRead(source=path.name), within)
        result.sources.append(_import_file(intake, path, marks, tell, stop))
        done += sizes[path]
    return result


def _import_file(
    intake: "Intake",
    path: Path,
    marks: Sequence[ImportCursor],
    tell: Callable[[int], None],
    stop: threading.Event | None,
) -> SourceRead:
    begun = False
    try:
        with open_history(path) as (stream, raw):
            finished, head = is_finished(path), stream.read(HEAD_BYTES)
            stream.seek(0)
            intake.mark = mark = mark_of(head, marks) or ImportCursor("")
            mark.source, mark.label = source_of(head, whole=finished), path.name
            if mark.rows == mark.bad:
                refuse_other(path, "queue_log")
            if mark.rows == mark.bad or not skip_to(stream, mark.position):
                # Nothing could be read of it yet, or it was cut and has the same first lines.
                mark.position = mark.rows = mark.bad = 0
                mark.faults = []
            _recall(intake.fold, stream, mark.position)
            begun = True
            for lines, position in read_lines(stream, mark.position, to_the_end=finished):
                intake.add_lines(lines)
                intake.commit(position)
                tell(raw.tell())
                if stop is not None and stop.is_set():
                    break
            check_read(path, mark, "queue_log")
    except UnreadableFile as error:
        intake.told.failure = error.advice
    if begun:
        intake.finish()
    return intake.told


def _recall(fold: QueueLogFold, stream: BinaryIO, position: int) -> None:
    """Tell the fold the numbers dialled that were written just before `position`: their calls may join behind it."""
    start = max(position - _RECALLED_BYTES, 0)
    stream.seek(start)
    for line in stream.read(position - start).split(b"\n"):
        if b"|DID|" in line:
            with suppress(BadLine):
                event = parse_queue_log_line(line)
                if event is not None and event.name == "DID":
                    fold.add(event)


class Intake:
    """Rows of one source on their way into the cache; what was added since the last `commit` is stored with it.

    Of a stretch of time only what lies `within` is taken, and the mark is not stored.
    """

    def __init__(
        self,
        engine: Engine,
        connection_id: int,
        fold: QueueLogFold,
        mark: ImportCursor,
        told: SourceRead,
        within: TimeRange,
    ) -> None:
        self.mark, self.told, self.fold, self.within = mark, told, fold, within
        self._engine, self._connection_id = engine, connection_id
        self._unknown_before = Counter(fold.unknown)
        self._open: set[tuple[str, str, datetime]] = set()

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Fold lines of a file; bad ones are counted and noted by their number."""
        mark, add, holds = self.mark, self.fold.add, self.within.holds if self.within else None
        rows, bad, outside = mark.rows, mark.bad, 0
        for line in lines:
            mark.rows += 1
            try:
                event = parse_queue_log_line(line)
            except BadLine as error:
                mark.note_bad(mark.rows, str(error), line)
            else:
                if holds is not None and event is not None and not holds(event.at_s):
                    outside += 1
                elif event is not None:
                    add(event)
        self.told.rows += mark.rows - rows - outside
        self.told.bad += mark.bad - bad
        leave_out_blank(mark, lines)

    def commit(self, position: int, *, at_end: bool = False) -> None:
        """Store what was added and that the source was read up to `position`, both or neither."""
        found = self.fold.take(at_end=at_end)
        told, connection_id = self.told, self._connection_id
        self.mark.position = position
        with writing(self._engine) as session:
            stored = store_visits(session, connection_id, found.visits, "queue_log")
            told.rings += store_rings(session, connection_id, found.rings)
            told.changes += store_agent_changes(session, connection_id, found.changes)
            if not self.within:
                move_cursor(session, connection_id, _KIND, self.mark)
        told.visits += max(stored - self._counted(found.visits), 0)

    def _counted(self, visits: Iterable[Visit]) -> int:
        """How many of these visits were counted already when they were told of as going on."""
        counted = 0
        for visit in visits:
            key = visit.uniqueid, visit.queue, visit.joined_at
            counted += key in self._open
            (self._open.add if visit.outcome == "in_progress" else self._open.discard)(key)
        return counted

    def finish(self) -> None:
        """Store what was held back, and sum up."""
        self.commit(self.mark.position, at_end=True)
        self.told.unknown = dict(self.fold.unknown - self._unknown_before)
        self.told.faults = list(self.mark.faults)


def _begins_at(path: Path) -> float:
    """The time of a file's first event, by which files are put in order; one that can't be read comes last."""
    try:
        with open_history(path) as (stream, _):
            for line in next(read_lines(stream, 0, to_the_end=True), ([], 0))[0]:
                try:
                    event = parse_queue_log_line(line)
                except BadLine:
                    continue
                if event is not None:
                    return event.at_s
    except UnreadableFile:
        pass
    return float("inf")
