"""One import: uploaded files, or the PBX's database, read into the cache as a job of the worker."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.analytics.packing import pack_history
from pbx.errors import DataError, SettingsError, UnreadableFile
from pbx.formatting import zone_of
from pbx.imports.cdr import import_cdr_database, import_cdr_file
from pbx.imports.cel import import_cel
from pbx.imports.databases import QUEUE_LOGS, history_tables, open_source, source_url
from pbx.imports.file_types import check_not_empty, is_empty, kind_of
from pbx.imports.queue_log_database import import_queue_log_database
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.time_range import WHATEVER_IS_NEW, TimeRange
from pbx.imports.uploads import delete_uploads, sweep_uploads
from pbx.progress import Progress
from pbx.settings import Settings
from pbx.store.connections import ActiveConnection
from pbx.store.engine import reading
from pbx.store.import_source import history_source
from pbx.store.models import Job
from pbx.store.recordings import utc_offset_s

ImportSource = dict[str, Any]  # what was read of one file or table: kind, source, rows, bad, faults, …, failure
_COUNTED = ("rows", "bad", "visits", "calls", "legs")


def refuse_in_demo(settings: Settings) -> None:
    """Raise SettingsError in the demo: what really happened is never mixed with made-up calls."""
    if settings.demo:
        raise SettingsError(
            "This is the demo, and its cache holds made-up calls only.",
            "Remove the demo (python -m pbx demo --remove), connect your PBX, then import.",
        )


def do_import(
    engine: Engine,
    settings: Settings,
    active: ActiveConnection,
    options: dict[str, Any],
    progress: Progress | None,
    stop: threading.Event,
) -> dict[str, Any]:
    """Options: files (paths of uploads, deleted afterwards), or else the PBX's database is read.

    The result is counts, and `sources` with those of each file or table. Raises SettingsError in the demo and when no
    address is known, Unreachable or DataError when the database can't be read, DataError when none of the files can.
    """
    refuse_in_demo(settings)
    files = [Path(path) for path in options.get("files", [])]
    if not files:
        with reading(engine) as session:
            address = history_source(session, settings, active.id).address.get_secret_value()
        if not address:
            raise SettingsError("No database of the PBX is known.", "Enter its address under Settings > Data import.")
        sources = read_database(engine, active, address, progress=progress, stop=stop)
    else:
        try:
            sources = read_files(engine, active, files, progress=progress, stop=stop)
        finally:
            if not stop.is_set():  # else the job is done again
                delete_uploads(settings, files)
                sweep_uploads(settings, _wanted(engine))
    pack_history(engine, active.id, stop)
    failures = [source["failure"] for source in sources if source.get("failure")]
    if failures and len(failures) == len(sources):
        raise DataError(" ".join(failures))
    return {name: sum(source.get(name, 0) for source in sources) for name in _COUNTED} | {"sources": sources}


def read_files(
    engine: Engine,
    active: ActiveConnection,
    files: Sequence[Path],
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> list[ImportSource]:
    """Read what is new in files, each a queue_log or a CDR file. `progress(done, total)` is in bytes on the disk.

    A file that can't be read has a `failure`. Raises UnreadableFile when all of them are empty.
    """
    kinds: dict[Path, str] = {}
    failed: list[ImportSource] = []
    for path in files:
        try:
            kinds[path] = "queue_log" if is_empty(path) else kind_of(path)
        except UnreadableFile as error:
            failed.append(_failure(path, "", error))
        except SettingsError:
            failed.append(_failure(path, "", DataError(f"{path.name} is gone.", "Upload it again.")))
    logs = [path for path, kind in kinds.items() if kind == "queue_log"]
    records = [path for path, kind in kinds.items() if kind == "cdr"]
    if not failed:
        check_not_empty(files)
    tell = _Shared(progress, sum(path.stat().st_size for path in kinds))
    read = import_queue_log_files(engine, active.id, logs, progress=tell, stop=stop).sources
    sources = [{"kind": "queue_log"} | one.model_dump() for one in read]
    tell.done = sum(path.stat().st_size for path in logs)
    for path in records:
        if stop is not None and stop.is_set():
            break
        try:
            read_cdr = import_cdr_file(engine, active, path, progress=tell, stop=stop)
            sources.append({"kind": "cdr"} | read_cdr.model_dump())
        except UnreadableFile as error:
            sources.append(_failure(path, "cdr", error))
        tell.done += path.stat().st_size
    return sources + failed


def read_database(
    engine: Engine,
    active: ActiveConnection,
    address: str,
    *,
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> list[ImportSource]:
    """Read what is new in whichever tables of history a database has: cdr with cel, queue_log or queuelog.

    Raises SettingsError for an address that isn't one, Unreachable, DataError when it has none of them.
    """
    with open_source(source_url(address)) as source, source.connect() as connection:
        there = history_tables(connection)
    sources: list[ImportSource] = []
    options: dict[str, Any] = {"within": within, "progress": progress, "stop": stop}
    if "cdr" in there:
        sources.append({"kind": "cdr"} | import_cdr_database(engine, active, address, **options).model_dump())
    if "cel" in there and "cdr" in there and not (stop is not None and stop.is_set()):
        sources.append({"kind": "cel"} | import_cel(engine, active, address, **options).model_dump())
    if there & set(QUEUE_LOGS) and not (stop is not None and stop.is_set()):
        with reading(engine) as session:
            zone = zone_of(active.connection.timezone, utc_offset_s(session, active.id))
        read = import_queue_log_database(engine, active.id, address, zone, **options)
        sources += [{"kind": "queue_log"} | one.model_dump() for one in read.sources]
    return sources


class _Shared:
    """Progress of one file after the other, as that of all of them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.done, self._progress, self._total = 0, progress, total

    def __call__(self, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(min(self.done + done, self._total), self._total)


def _failure(path: Path, kind: str, error: UnreadableFile | DataError) -> ImportSource:
    return {"kind": kind, "source": path.name, "failure": error.advice.replace(str(path), path.name)}


def _wanted(engine: Engine) -> set[Path]:
    """Uploads that jobs still have to read."""
    with reading(engine) as session:
        jobs: Iterable[Job] = session.exec(select(Job).where(Job.kind == "import", col(Job.ended_at).is_(None)))
        return {Path(path) for job in jobs for path in job.options.get("files", [])}
