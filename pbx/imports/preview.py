"""Previews an import from a database: which tables it has, and how many rows an import would read.

Nothing here keeps the database busy: where counting takes too long, the database's own statistics are used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from pbx.imports.cdr import count_cdr
from pbx.imports.cdr_database import CdrTable
from pbx.imports.cel import count_cel
from pbx.imports.databases import QUEUE_LOGS, history_tables, open_source, source_url, table_cursor
from pbx.imports.queue_log_database import count_queue_log
from pbx.store.pbx_connections import ActiveConnection

CONNECT_TIMEOUT_S = 3  # limit for the database to answer at all
STATEMENT_TIMEOUT_S = 0.5  # limit for counting rows, and for finding the newest call
_STATEMENT_MS = int(STATEMENT_TIMEOUT_S * 1000)
_FEW = 200_000  # rows that any database can count within STATEMENT_TIMEOUT_S
_LIMITS = {  # MariaDB from 10.1, or MySQL from 5.7; older ones have no limit
    "mysql": (
        f"SET SESSION max_statement_time = {STATEMENT_TIMEOUT_S}",
        f"SET SESSION max_execution_time = {_STATEMENT_MS}",
    ),
    "postgresql": (f"SET statement_timeout = {_STATEMENT_MS}",),
}
_ESTIMATES = {
    "mysql": "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name",
    "postgresql": "SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)",
}
_TIMED_OUT = {1969, 3024}  # MariaDB's ER_STATEMENT_TIMEOUT and MySQL's ER_QUERY_TIMEOUT
_CANCELED = "57014"  # PostgreSQL's query_canceled
_STEPS = 10_000  # of SQLite's virtual machine between two checks of the clock: a few ms


@dataclass(frozen=True)
class TablePreview:
    """What a preview found out about a table.

    `new`: rows never read, None when there are too many to count. `about`: all rows by the database's statistics, None
    when it has none. `newest`: the date of the newest call in the PBX's local time, None when the table isn't a CDR,
    has no call, or the date wasn't found quickly.
    """

    new: int | None
    about: int | None = None
    newest: datetime | None = None


def preview_history(engine: Engine, active: ActiveConnection, address: str) -> dict[str, TablePreview]:
    """What an import would read now from each table of history, by the table's name; nothing is stored.

    Raises SettingsError for an address that isn't one, Unreachable, also when the database doesn't answer within 3 s,
    DataError when it has no such table, or one without the expected columns.
    """
    url = source_url(address)
    cursor_of = partial(table_cursor, engine, active.id)
    with open_source(url, CONNECT_TIMEOUT_S) as source, source.connect() as connection:
        tables = history_tables(connection)
        previews, statements = {}, _LimitedStatements(connection)
        if "cdr" in tables:
            count_calls = partial(count_cdr, connection, cursor_of("cdr", url, "cdr"))
            previews["cdr"] = statements.preview("cdr", count_calls, CdrTable(connection, "cdr").newest)
        if "cel" in tables:
            previews["cel"] = statements.preview("cel", partial(count_cel, connection, cursor_of("cel", url, "cel")))
        if tables & set(QUEUE_LOGS):
            name, count = count_queue_log(connection, partial(cursor_of, "queue_log", url))
            previews[name] = statements.preview(name, count)
    return previews


class _LimitedStatements:
    """Runs statements and cancels those that take the database longer than STATEMENT_TIMEOUT_S."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._kind = connection, connection.dialect.name
        self._limit = next(filter(self._supports, _LIMITS.get(self._kind, ())), "")
        self._remove_limit()
        self._limited = self._kind == "sqlite" or bool(self._limit)

    def preview(
        self, table: str, count: Callable[[], int], newest: Callable[[], datetime | None] | None = None
    ) -> TablePreview:
        """Count a table's new rows and find its newest date, each as far as it is quick."""
        about = self._estimate(table)
        if not self._limited and (about is None or about > _FEW):
            return TablePreview(None, about)
        return TablePreview(self._try(count), about, self._try(newest) if newest else None)

    def _supports(self, limit: str) -> bool:
        try:
            self._connection.execute(text(limit))
        except DBAPIError:
            return False
        return True

    def _remove_limit(self) -> None:
        """Remove the limit for statements that only read the catalogue: 0 means no limit in every dialect."""
        if self._limit:
            self._connection.execute(text(f"{self._limit.partition('=')[0]}= 0"))

    def _estimate(self, table: str) -> int | None:
        if self._kind not in _ESTIMATES:
            return None
        rows = self._connection.execute(text(_ESTIMATES[self._kind]), {"name": table}).scalar()
        return int(rows) if rows and rows > 0 else None

    def _try(self, statement: Callable[[], Any]) -> Any:
        """The result of a statement; None when it takes too long."""
        raw: Any = self._connection.connection.driver_connection
        until = time.monotonic() + STATEMENT_TIMEOUT_S
        if self._kind == "sqlite":  # which has no limit of its own
            raw.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        elif self._limit:
            self._connection.execute(text(self._limit))
        try:
            return statement()
        except DBAPIError as error:
            if not _timed_out(error.orig):
                raise
            return None
        finally:
            if self._kind == "sqlite":
                raw.set_progress_handler(None, 0)
            self._remove_limit()


def _timed_out(error: BaseException | None) -> bool:
    """Whether a database cancelled a statement because it took too long."""
    if getattr(error, "sqlstate", None) == _CANCELED or str(error) == "interrupted":
        return True
    return bool(error and error.args and error.args[0] in _TIMED_OUT)
