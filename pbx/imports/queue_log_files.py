"""Imports queue_log files: plain, rotated or compressed.

An import may be killed at any moment; the next one continues where it stopped, because a block of lines and the cursor
after it are stored in one transaction. Reading a file again changes nothing: visits that are known are recognised.
Tables are read by `pbx.imports.queue_log_database`.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pbx.asterisk.formats.queue_log import UnreadableLine, parse_queue_log_line
from pbx.errors import UnreadableFile
from pbx.imports.files import open_history, read_lines
from pbx.imports.queue_log_writer import QueueLogResult, QueueLogWriter
from pbx.imports.run import ImportRun, failure_text
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.store.engine import reading
from pbx.store.visits import open_visits

_REREAD_BYTES = 4096  # before the cursor, to find the DID of calls that join a queue after it


def import_queue_log_files(run: ImportRun, files: Sequence[Path]) -> list[QueueLogResult]:
    """Read what is new in queue_log files, or what is in the run's time range, oldest file first.

    The result of a file that can't be read, or only in part, has a `failure`. Raises SettingsError when there is no
    such file, DataError or StorageFull when the cache can't be written.
    """
    begins_at = {path: _first_event_s(path) for path in dict.fromkeys(files)}
    sizes = {path: path.stat().st_size for path in begins_at}
    with reading(run.engine) as session:
        fold = QueueLogFold(open_visits(session, run.connection_id, "queue_log"))
    results = []
    for path in sorted(begins_at, key=lambda path: begins_at[path]):
        if run.stopped:
            break
        results.append(_import_file(run, fold, path))
        run.bytes_done += sizes[path]
    return results


def _import_file(run: ImportRun, fold: QueueLogFold, path: Path) -> QueueLogResult:
    writer, failure = None, ""
    try:
        with run.open_file(path, "queue_log") as file:
            _fold_earlier_dids(fold, file.stream, file.cursor.position)
            writer = QueueLogWriter(run, fold, file.cursor, path.name)
            for lines, position in read_lines(file.stream, file.cursor.position, to_the_end=file.complete):
                writer.add_lines(lines)
                writer.commit(position)
                run.report_bytes(file.raw.tell())
                if run.stopped:
                    break
    except UnreadableFile as error:
        failure = failure_text(path, error)
    result = writer.finish() if writer else QueueLogResult(source=path.name)
    result.failure = failure
    return result


def _fold_earlier_dids(fold: QueueLogFold, stream: BinaryIO, position: int) -> None:
    """Fold the DID events just before `position`: their calls may join a queue after it."""
    start = max(position - _REREAD_BYTES, 0)
    stream.seek(start)
    for line in stream.read(position - start).split(b"\n"):
        if b"|DID|" in line:
            with suppress(UnreadableLine):
                event = parse_queue_log_line(line)
                if event is not None and event.name == "DID":
                    fold.add(event)


def _first_event_s(path: Path) -> float:
    """The time of a file's first event, by which files are sorted; infinity when it can't be read."""
    try:
        with open_history(path) as (stream, _):
            for line in next(read_lines(stream, 0, to_the_end=True), ([], 0))[0]:
                try:
                    event = parse_queue_log_line(line)
                except UnreadableLine:
                    continue
                if event is not None:
                    return event.at_s
    except UnreadableFile:
        pass
    return float("inf")
