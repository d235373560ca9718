"""Databases of history: a FreePBX's MariaDB, PostgreSQL, or an SQLite file. Read only, in short statements.

A statement is always read to its end at once: MyISAM tables, which old FreePBX has, are locked for writing while one
is open. An address is shown, and noted, without its password.
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
from pbx.imports.connect import Guard, clear_error, connect_mysql, guard_of, too_slow
from pbx.store.engine import reading
from pbx.store.import_cursors import ImportCursor, MarkKind, load_cursors
from pbx.text_encoding import decode

_DRIVERS = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "sqlite": "sqlite",
}
QUEUE_LOGS = ("queue_log", "queuelog")
STATEMENT_S = 600  # so long one statement may take
_CONNECT_S = 10
_ODD = (
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    configparser.Error,
)  # what drivers make of options and hosts that are none


def source_url(address: str) -> URL:
    """The address of a database to read from. Raises SettingsError, which doesn't repeat what was written."""
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
    """The address for people and for notes: without password and without options."""
    return f"{url.drivername.partition('+')[0]}://{url.host or ''}{f':{url.port}' if url.port else ''}/{url.database}"


def table_cursor(engine: Engine, connection_id: int, kind: MarkKind, url: URL, table: str) -> ImportCursor:
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
def open_source(url: URL, statement_s: int = STATEMENT_S) -> Iterator[Engine]:
    """The database, opened for reading; each statement is on its own, so that nothing is held up.

    The login has 10 s, and each statement `statement_s`, in all. Raises SettingsError for a host or an option that
    can't be used, Unreachable when it doesn't answer or refuses the login, DataError for anything else it says. No
    message holds the password.
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
    except _ODD:
        raise _odd_address() from None
    guards: list[Guard] = []

    def connect(dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
        guard: Guard | None
        try:
            if kind == "mysql":
                connection, guard = connect_mysql(label, options, connect_s)
            else:
                connection = dialect.connect(*arguments, **options)
                if kind == "postgresql" and connection.info.encoding == "ascii":  # SQL_ASCII: bytes of any encoding
                    connection.execute("SET client_encoding TO LATIN1")
                    connection.commit()
                guard = guard_of(connection) if kind == "postgresql" else None
        except _ODD:
            raise _odd_address() from None
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
    """Whether a table's text is declared latin1, or as nothing, so that its bytes may be in any encoding."""
    if connection.dialect.name == "postgresql":
        return connection.execute(text("SHOW server_encoding")).scalar_one() in ("SQL_ASCII", "LATIN1")
    if connection.dialect.name != "mysql":
        return False
    query = text(
        "SELECT DISTINCT character_set_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = :table AND character_set_name IS NOT NULL"
    )
    return [str(name) for name in connection.execute(query, {"table": table}).scalars()] == ["latin1"]


def _odd_address() -> SettingsError:
    return SettingsError(
        "The address of the database has a host or an option, behind the ?, that its driver can't use.",
        "Leave out what stands behind the ?, and check the host for a slip.",
    )


def _read_only_mysql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        with suppress(pymysql.ProgrammingError):  # MariaDB 5.5, which FreePBX's distribution has long had, can't
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
        cursor.execute("SET time_zone = '+00:00'")  # TIMESTAMP columns are told in UTC; DATETIME ones as they stand


def _read_only_postgres(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        cursor.execute("SET TIME ZONE 'UTC'")


def _read_sqlite(connection: Any, _record: object) -> None:
    connection.text_factory = decode  # text that isn't UTF-8 would be an error


_PREPARE = {"mysql": _read_only_mysql, "postgresql": _read_only_postgres, "sqlite": _read_sqlite}
