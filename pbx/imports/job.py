"""The import job: reads files, or the PBX's database, into the cache. The page and the command line both queue it."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine
from sqlmodel import col, select

from pbx.analytics.sealing import seal_history
from pbx.errors import DataError, SettingsError, UnreadableFile
from pbx.imports.cdr import import_cdr_database, import_cdr_file
from pbx.imports.cel import import_cel
from pbx.imports.databases import QUEUE_LOGS, history_tables, open_source, source_label, source_url, tables_of
from pbx.imports.file_types import FileKind, check_not_empty, is_empty, kind_of
from pbx.imports.files import check_exists
from pbx.imports.queue_log_database import import_queue_log_database
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.run import ImportRun, SourceResult, failure_text
from pbx.imports.time_range import TimeRange
from pbx.imports.uploads import delete_orphaned_uploads, delete_uploads
from pbx.progress import Progress
from pbx.settings import Settings, require_real_data
from pbx.store.engine import reading
from pbx.store.import_source import history_source
from pbx.store.models import Job
from pbx.store.pbx_connections import ActiveConnection

_COUNTS = ("rows", "unreadable", "visits", "calls", "legs")


class NothingImported(DataError):
    """None of the sources of an import could be read. `sources` are their results, each with its failure."""

    def __init__(self, sources: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(" ".join(source["failure"] for source in sources))
        self.sources = sources


def import_history(
    engine: Engine,
    settings: Settings,
    active: ActiveConnection,
    options: dict[str, Any],
    progress: Progress | None,
    stop: threading.Event,
) -> dict[str, Any]:
    """Do an import job. Without `files` and `database`, it reads the database that is set up under Settings.

    Options: `files` (paths; uploads are deleted afterwards), `database` (its address without password, see
    `source_label`), `kind` (queue_log or cdr: read only that; default: whatever is found), `table` (of the CDR, default
    cdr), `since` and `until` (ISO times with an offset).

    Returns the total counts, and the result of each file or table in `sources`. Raises SettingsError if the cache isn't
    for real calls or no address is known, Unreachable or DataError when the database can't be read, NothingImported
    when none of the sources can.
    """
    require_real_data(settings)
    since, until = (datetime.fromisoformat(options[name]) if options.get(name) else None for name in ("since", "until"))
    run = ImportRun(engine, active, TimeRange(since, until), progress, stop)
    files, database, kind = (
        [Path(path) for path in options.get("files", [])],
        options.get("database"),
        options.get("kind"),
    )
    results: list[SourceResult] = []
    try:
        if files:
            if not database and all(path.exists() for path in files):
                check_not_empty(files)
            results += import_files(run, files, kind)
        if database or not files:
            address = _address(engine, settings, active, database)
            results += import_database(run, address, kind, options.get("table", "cdr"))
    finally:
        if files and not stop.is_set():  # a stopped job runs again and needs its files
            delete_uploads(settings, files)
            delete_orphaned_uploads(settings, _files_of_jobs(engine))
    seal_history(engine, active.id, stop)
    sources = [result.model_dump() for result in results]
    if sources and all(source["failure"] for source in sources):
        raise NothingImported(sources)
    return {name: sum(source.get(name, 0) for source in sources) for name in _COUNTS} | {"sources": sources}


def import_files(run: ImportRun, files: Sequence[Path], kind: FileKind | None = None) -> list[SourceResult]:
    """Read what is new in files, each of them a queue_log or a CDR file, or all of one `kind`.

    The result of a file that can't be read has a `failure`.
    """
    kinds: dict[Path, FileKind] = {}
    failed: list[SourceResult] = []
    for path in files:
        try:
            check_exists(path)
            kinds[path] = kind or ("queue_log" if is_empty(path) else kind_of(path))
        except UnreadableFile as error:
            failed.append(_failed(path, "", error))
        except SettingsError:
            failed.append(_failed(path, "", DataError(f"{path.name} is gone.", "Upload it again.")))
    sizes = {path: path.stat().st_size for path in kinds}
    run.bytes_total = sum(sizes.values())
    results: list[SourceResult] = []
    results += import_queue_log_files(run, [path for path, kind in kinds.items() if kind == "queue_log"])
    for path in (path for path, kind in kinds.items() if kind == "cdr"):
        if run.stopped:
            break
        try:
            results.append(import_cdr_file(run, path))
        except UnreadableFile as error:
            results.append(_failed(path, "cdr", error))
        run.bytes_done += sizes[path]
    return results + failed


def import_database(
    run: ImportRun, address: str, kind: FileKind | None = None, cdr_table: str = "cdr"
) -> list[SourceResult]:
    """Read what is new in a database's tables of history: the CDR with CEL, and queue_log; or only those of one `kind`.

    Raises SettingsError for an address that isn't one, Unreachable, DataError when it has none of the tables.
    """
    tables = {kind} if kind else _read_schema(address, history_tables)
    results: list[SourceResult] = []
    if "cdr" in tables:
        results.append(import_cdr_database(run, address, table=cdr_table))
        if not run.stopped and "cel" in _read_schema(address, tables_of):
            results.append(import_cel(run, address))
    if tables & set(QUEUE_LOGS) and not run.stopped:
        results.append(import_queue_log_database(run, address))
    return results


def _read_schema(address: str, read: Callable[[Connection], set[str]]) -> set[str]:
    with open_source(source_url(address)) as source, source.connect() as connection:
        return read(connection)


def _failed(path: Path, kind: FileKind | Literal[""], error: DataError) -> SourceResult:
    return SourceResult(kind=kind, source=path.name, failure=failure_text(path, error))


def _address(engine: Engine, settings: Settings, active: ActiveConnection, label: str | None) -> str:
    """The address of the database with this label; of the one set up under Settings without a label."""
    given = settings.pbx_import_url.get_secret_value() if settings.pbx_import_url else ""
    if label and given and source_label(source_url(given)) == label:
        return given
    with reading(engine) as session:
        saved = history_source(session, settings, active.id).address.get_secret_value()
    if label and not (saved and source_label(source_url(saved)) == label):
        raise SettingsError(f"The password of the database {label} was not kept.", "Start the import again.")
    if not saved:
        raise SettingsError("No database of the PBX is known.", "Enter its address under Settings > Data import.")
    return saved


def _files_of_jobs(engine: Engine) -> set[Path]:
    """The files that unfinished import jobs have yet to read."""
    with reading(engine) as session:
        jobs: Iterable[Job] = session.exec(select(Job).where(Job.kind == "import", col(Job.ended_at).is_(None)))
        return {Path(path) for job in jobs for path in job.options.get("files", [])}
