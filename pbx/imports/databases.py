"""Opens databases of history read-only: FreePBX's MariaDB, PostgreSQL, or an SQLite file.

The result of a statement is always read completely and immediately, because an open one locks MyISAM tables, which old
FreePBX releases have, for writing. Addresses are shown and stored without their password.
"""

import configparser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from pbx.errors import DataError, SettingsError
from pbx.imports.database_connection import StatementGuard, clear_error, connect_mysql, guard_of, too_slow
from pbx.store.engine import reading
from pbx.store.import_cursors import ImportCursor, ImportKind, load_cursors
from pbx.text_encoding import decode

_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "sqlite": "sqlite",
}
QUEUE_LOGS = ("queue_log", "queuelog")
STATEMENT_TIMEOUT_S = 600  # limit of one statement
_CONNECT_S = 10
_INVALID = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    configparser.Error,
)  # raised by drivers for invalid options and hosts


def source_url(address: str) -> URL:
    """Parse the address of a database. Raises SettingsError, whose text doesn't repeat the address."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        url = None
    kind = "" if url is None else url.drivername.partition("+")[0]
    if (
        url is None
        or kind not in _DRIVERS
        or not url.database
        or ";" in url.database
        or not 0 < (url.port or 1) < 65536
    ):
        raise SettingsError(
            "That is not the address of a database that can be read here.",
            "Write it as mysql://user:password@host/asteriskcdrdb or postgresql://user:password@host/name "
            "(special characters of the password percent-encoded: @ is %40, / is %2F, : is %3A).",
        )
    return url.set(drivername=_DRIVERS[kind])


def source_label(url: URL) -> str:
    """The address without password and options, for display and for storing."""
    return f"{url.drivername.partition('+')[0]}://{url.host or ''}{f':{url.port}' if url.port else ''}/{url.database}"


def table_cursor(engine: Engine, connection_id: int, kind: ImportKind, url: URL, table: str) -> ImportCursor:
    """How far a table was read; a new cursor for a table that was never read."""
    label = f"{source_label(url)} {table}"
    with reading(engine) as session:
        known = {cursor.source: cursor for cursor in load_cursors(session, connection_id, kind)}
    return known.get(label, ImportCursor(label, label))


def tables_of(connection: Connection) -> set[str]:
    """The names of a database's tables and views."""
    inspector = inspect(connection)
    return set(inspector.get_table_names()) | set(inspector.get_view_names())


def history_tables(connection: Connection) -> set[str]:
    """The tables of a database that an import reads: cdr, cel, queue_log, queuelog. Raises DataError without any."""
    tables = tables_of(connection) & {"cdr", "cel", *QUEUE_LOGS}
    if not tables - {"cel"}:
        raise DataError(
            "That database has no table of history: neither cdr nor queue_log.",
            "FreePBX keeps the CDR in asteriskcdrdb; the user needs SELECT on its tables.",
        )
    return tables


@contextmanager
def open_source(url: URL, statement_s: int = STATEMENT_TIMEOUT_S) -> Iterator[Engine]:
    """Open a database for reading. Each statement is a transaction of its own, so no lock is held in between.

    The login may take 10 s and each statement `statement_s`. Raises SettingsError for a host or an option
    that can't be used, Unreachable when the database doesn't answer or refuses the login, DataError for its other
    errors. No message contains the password.
    """
    kind, label, connect_s = url.get_backend_name(), source_label(url), min(_CONNECT_S, statement_s)
    at = url
    if kind == "sqlite":
        at = url.set(database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    waits: dict[str, dict[str, Any]] = {
        "mysql": {"connect_timeout": connect_s, "read_timeout": statement_s, "charset": "utf8mb4"},
        "postgresql": {"connect_timeout": connect_s},
    }
    try:
        engine = create_engine(
            at,
            hide_parameters=True,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=waits.get(kind, {}),
        )
    except (NoSuchModuleError, ImportError, TypeError):
        raise SettingsError(
            "No driver for that kind of database is installed.", "Run `pip install -r requirements.txt`."
        ) from None
    except _INVALID:
        raise _invalid_address() from None
    guards: list[StatementGuard] = []

    def connect(dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
        guard: StatementGuard | None
        try:
            if kind == "mysql":
                connection, guard = connect_mysql(label, options, connect_s)
            else:
                connection = dialect.connect(*arguments, **options)
                if kind == "postgresql" and connection.info.encoding == "ascii":  # SQL_ASCII: bytes of any encoding
                    connection.execute("SET client_encoding TO LATIN1")
                    connection.commit()
                guard = guard_of(connection) if kind == "postgresql" else None
        except _INVALID:
            raise _invalid_address() from None
        if guard is not None:
            guard.arm(statement_s)
            guards.append(guard)
        return connection

    def before(*_about: object) -> None:
        for guard in guards:
            guard.arm(statement_s)

    def after(*_about: object) -> None:
        for guard in guards:
            guard.disarm()

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", _PREPARE[kind])
    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield engine
    except DBAPIError as error:
        if any(guard.expired for guard in guards):
            raise too_slow(label, statement_s) from None
        raise clear_error(label, url, error) from None
    finally:
        for guard in guards:
            guard.close()
        engine.dispose()


def holds_latin1(connection: Connection, table: str) -> bool:
    """Whether a table's text is declared latin1, or has no declared encoding, so its bytes may be in any encoding."""
    if connection.dialect.name == "postgresql":
        return connection.execute(text("SHOW server_encoding")).scalar_one() in ("SQL_ASCII", "LATIN1")
    if connection.dialect.name != "mysql":
        return False
    query = text(
        "SELECT DISTINCT character_set_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = :table AND character_set_name IS NOT NULL"
    )
    return [str(name) for name in connection.execute(query, {"table": table}).scalars()] == ["latin1"]


def _invalid_address() -> SettingsError:
    return SettingsError(
        "The database driver can't use the host or an option (after the ?) of this address.",
        "Remove the options after the ?, and check the host for typing errors.",
    )


def _read_only_mysql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        with suppress(pymysql.ProgrammingError):  # MariaDB 5.5, long part of FreePBX's distribution, doesn't support it
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
        cursor.execute("SET time_zone = '+00:00'")  # TIMESTAMP columns are returned in UTC, DATETIME ones unchanged


def _read_only_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        cursor.execute("SET TIME ZONE 'UTC'")


def _read_sqlite(connection: Any, _record: object) -> None:
    connection.text_factory = decode  # otherwise text that isn't UTF-8 raises an error


_PREPARE = {"mysql": _read_only_mysql, "postgresql": _read_only_postgres, "sqlite": _read_sqlite}
