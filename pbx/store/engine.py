"""Open the cache's database, migrate it, and provide sessions for reading and writing.

SQLite and PostgreSQL behave alike: there is one writer at a time, and each reader sees a consistent state of the
database and never waits.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import WeakSet

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlmodel import Session

from pbx.errors import DataError, NewerDatabase, PbxError, SettingsError, StorageFull
from pbx.settings import Settings
from pbx.store.file_permissions import close_tree, make_private

BUSY_TIMEOUT_S = 60  # far longer than any write takes
_opened: WeakSet[Engine] = WeakSet()  # the engines this process opened
_held: ContextVar[Session | None] = ContextVar("_held", default=None)
_WRITER_LOCK = 0x70627821  # key of PostgreSQL's advisory lock: any number that no other program uses
_FULL_BELOW_BYTES = 100_000  # a disk with less free space counts as full
_POSTGRES_FULL = {"53100"}  # disk_full
_POSTGRES_REFUSED = {"25006", "42501", "53300"}  # read-only, insufficient privilege, too many connections
_SQLITE_UNUSABLE = {
    sqlite3.SQLITE_BUSY: "is kept locked by another program",
    sqlite3.SQLITE_CANTOPEN: "can't be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged",
    sqlite3.SQLITE_IOERR: "can't be read or written",
    sqlite3.SQLITE_NOTADB: "is not a database",
    sqlite3.SQLITE_PERM: "can't be opened",
    sqlite3.SQLITE_READONLY: "can't be written to",
}


def open_engine(settings: Settings) -> Engine:
    """Open the database named in the settings, create it if it doesn't exist, and migrate its tables.

    Raises SettingsError for an unusable PBX_DATABASE_URL, NewerDatabase for a database of a newer version, StorageFull,
    and DataError if the database can't be opened or written. No message contains the URL's password.
    """
    url = _checked_url(settings.database_url)
    _make_data_dir(settings.pbx_data_dir)
    make_private(settings.home_dir)
    if url.get_backend_name() == "sqlite" and url.database:  # may be outside the data directory
        for end in ("", "-wal", "-shm"):
            close_tree(Path(url.database + end))
    engine = _engine(url, settings.columns_dir)
    try:
        with _readable_errors(engine):
            _migrate(engine)
    except BaseException:
        engine.dispose()
        raise
    _opened.add(engine)
    return engine


def open_to_read(url: str | URL, columns_folder: Path) -> Engine:
    """Open a database that `open_engine` has opened before, for reading only. Raises SettingsError."""
    engine = _engine(_checked_url(url), columns_folder)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    return engine


def close_idle_connections(folder: Path) -> None:
    """Close this process's idle connections to SQLite databases in a folder: Windows can't delete open files."""
    for engine in list(_opened):
        if engine.dialect.name == "sqlite" and Path(str(engine.url.database)).resolve().is_relative_to(
            folder.resolve()
        ):
            engine.dispose()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Provide a session that reads the database as it is now and never waits for a writer.

    Within `shared_reading`, it is the shared session. Raises DataError or StorageFull.
    """
    held = _held.get()
    with _readable_errors(engine):
        if held is not None and held.bind is engine:
            yield held
            return
        with Session(engine, expire_on_commit=False) as session:
            yield session


@contextmanager
def shared_reading(engine: Engine) -> Iterator[None]:
    """Let all reads of this thread in the `with` block share one session, and so the same state of the database.

    For pages with many figures: the session also caches figures that several reads need. Changes written in the
    meantime aren't visible.
    """
    with reading(engine) as session:
        before = _held.set(session)
        try:
            yield
        finally:
            _held.reset(before)


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Provide the only session that can write. It commits at the end, and rolls back on an error.

    Keep it short, and don't use the network in it: other writers are waiting. Raises DataError or StorageFull.
    """
    writer = engine.execution_options(pbx_writes=True)
    with _readable_errors(engine), Session(writer, expire_on_commit=False) as session, session.begin():
        session.connection()  # takes the lock now, so that what this session reads can't change before it writes
        yield session


def columns_dir(session: Session) -> Path:
    """Return the folder of the copies of a session's database that answer questions: see pbx.analytics.sealing."""
    folder: Path = session.connection().get_execution_options()["pbx_columns_dir"]
    return folder


def _engine(url: URL, columns_folder: Path) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=not is_sqlite,
        connect_args={"timeout": BUSY_TIMEOUT_S} if is_sqlite else {"connect_timeout": 10},
        execution_options={"pbx_columns_dir": columns_folder},
    )
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _checked_url(address: str | URL) -> URL:
    try:
        url = make_url(address)
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(
            "PBX_DATABASE_URL is not an address of a database that can be used here.",
            "Write it as postgresql+psycopg://user:password@host/name (special characters of the password "
            "percent-encoded), or leave it empty for SQLite in the data directory.",
        )
    return url


def _make_data_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"The data directory {path} can't be made: {error.strerror}.",
            "Set PBX_DATA_DIR to a directory that this user may write to.",
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # _begin starts the transactions, not the driver
    for pragma in ("foreign_keys=ON", "synchronous=NORMAL", "temp_store=MEMORY", "cache_size=-16000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("pbx_writes", False)
    if connection.dialect.name == "sqlite":
        # If another session wrote in between, a read that becomes a write fails immediately, whatever the timeout.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _migrate(engine: Engine) -> None:
    """Migrate the tables to the newest revision. Processes that start at the same time wait for the first one."""
    script = ScriptDirectory(str(Path(__file__).with_name("migrations")))
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == script.get_current_head():
            return
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    with engine.execution_options(pbx_writes=True).begin() as connection:
        upgrade(connection, script)


def _use_wal(engine: Engine) -> None:
    # The file stores the mode, so setting it once is enough. It can't be set within a transaction.
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()


def upgrade(connection: Connection, script: ScriptDirectory, revision: str = "head") -> None:
    """Run the migrations up to a revision in the connection's transaction: all of them or none.

    Raises NewerDatabase if this version of the app doesn't know the database's revision.
    """
    context = MigrationContext.configure(
        connection,
        opts={"transactional_ddl": True, "fn": lambda current, _: script._upgrade_revs(revision, current)},
    )
    try:
        with Operations.context(context):
            context.run_migrations()
    except CommandError as error:
        raise NewerDatabase(
            "The database was written by a newer version of PBX Notebook.",
            "Update the app to that version or a newer one, or point PBX_DATA_DIR (PBX_DATABASE_URL) at another place.",
        ) from error


@contextmanager
def _readable_errors(engine: Engine) -> Iterator[None]:
    """Convert the errors of a full, locked, unreachable or damaged database into a PbxError with a readable message."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        readable = _readable_error(engine, getattr(error, "orig", error))
        if readable is None:
            raise
        raise readable from None  # the cause adds nothing, and a driver's text can contain an address with a password


def _readable_error(engine: Engine, error: object) -> PbxError | None:
    if isinstance(error, sqlite3.Error):
        return _sqlite_error(engine, error)
    state = getattr(error, "sqlstate", None) or ""
    where = f"The database at {engine.url.host or 'this machine'}"
    if state in _POSTGRES_FULL:
        return StorageFull(
            f"{where} has not enough disk space.", "Free disk space on the database's machine, then try again."
        )
    if state in _POSTGRES_REFUSED or state.startswith(("08", "28", "3D", "57P")):
        reason = getattr(getattr(error, "diag", None), "message_primary", None) or "the connection was lost"
        return DataError(f"{where} can't be used: {reason}.", "Check PBX_DATABASE_URL and the user's rights.")
    if not state and type(error).__name__ == "OperationalError":  # psycopg got no answer from the server
        return DataError(
            f"{where} doesn't answer or refuses the login.",
            "Check that it runs, and the host, port, user, password and name in PBX_DATABASE_URL.",
        )
    return None


def _sqlite_error(engine: Engine, error: sqlite3.Error) -> PbxError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    file = Path(engine.url.database or "")
    full = code == sqlite3.SQLITE_FULL or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(file))
    if full:
        return StorageFull(
            f"Not enough disk space for the cache {file}.",
            "Free disk space, then try again. All stored data is kept.",
        )
    if code not in _SQLITE_UNUSABLE:
        return None
    fix = {
        sqlite3.SQLITE_BUSY: "Close the program that has it open, then try again.",
        sqlite3.SQLITE_CORRUPT: "Restore it from a backup, or move it away: a new one is filled from the PBX.",
        sqlite3.SQLITE_NOTADB: "Move that file away, or set PBX_DATA_DIR to another directory.",
    }.get(code, f"Give this user the right to write to {file.parent}, or set PBX_DATA_DIR to another directory.")
    return DataError(f"The cache {file} {_SQLITE_UNUSABLE[code]} ({error}).", fix)


def _is_full(file: Path) -> bool:
    try:
        writable = os.access(file.parent, os.W_OK)  # False on a read-only file system, even for root
        return writable and shutil.disk_usage(file.parent).free < _FULL_BELOW_BYTES
    except OSError:
        return False
