"""A quick look at a database of history, for a page: which tables there are, and how much an import would read of them.

Nothing here takes the database long: what can't be counted at once is told by the database's own statistics.
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
from pbx.imports.cdr_tables import CdrTable
from pbx.imports.cel import count_cel
from pbx.imports.databases import QUEUE_LOGS, database_mark, history_tables, open_source, source_url
from pbx.imports.queue_log_database import count_queue_log
from pbx.store.connections import ActiveConnection

ANSWER_S = 3  # how long the database may take to answer at all
STATEMENT_S = 0.5  # how long it may count, or look for the newest call
_STATEMENT_MS = int(STATEMENT_S * 1000)
_FEW = 200_000  # rows that any database counts in that time
_LIMITS = {  # MariaDB from 10.1, or MySQL from 5.7; older ones know no limit
    "mysql": (f"SET SESSION max_statement_time = {STATEMENT_S}", f"SET SESSION max_execution_time = {_STATEMENT_MS}"),
    "postgresql": (f"SET statement_timeout = {_STATEMENT_MS}",),
}
_ESTIMATES = {
    "mysql": "SELECT table_rows FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name",
    "postgresql": "SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)",
}
_RAN_OUT = {1969, 3024}  # MariaDB's ER_STATEMENT_TIMEOUT and MySQL's ER_QUERY_TIMEOUT
_CANCELED = "57014"  # PostgreSQL's query_canceled
_STEPS = 10_000  # of SQLite's machine, a few ms, between two looks at the clock


@dataclass(frozen=True)
class TableLook:
    """What is known of a table: rows never read (None: too many to count), all its rows by the database's own
    statistics (None: it has none), and the date of its newest call, local time of the PBX (None: not a CDR, no call,
    or not found quickly)."""

    new: int | None
    about: int | None = None
    newest: datetime | None = None


def look_at_history(engine: Engine, active: ActiveConnection, address: str) -> dict[str, TableLook]:
    """What an import would read now of each table of history, by the table's name; nothing is stored.

    Raises SettingsError for an address that isn't one, Unreachable, also when the database doesn't answer within 3 s,
    DataError when it has no such table, or one that isn't what its name says.
    """
    url = source_url(address)
    mark_of = partial(database_mark, engine, active.id)
    with open_source(url, ANSWER_S) as source, source.connect() as connection:
        there = history_tables(connection)
        looks, quickly = {}, _Quickly(connection)
        if "cdr" in there:
            count_calls = partial(count_cdr, connection, mark_of("cdr", url, "cdr"))
            looks["cdr"] = quickly.look("cdr", count_calls, CdrTable(connection, "cdr").newest)
        if "cel" in there:
            looks["cel"] = quickly.look("cel", partial(count_cel, connection, mark_of("cel", url, "cel")))
        if there & set(QUEUE_LOGS):
            name, count = count_queue_log(connection, partial(mark_of, "queue_log", url))
            looks[name] = quickly.look(name, count)
    return looks


class _Quickly:
    """Statements given up when they take a database longer than STATEMENT_S."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._kind = connection, connection.dialect.name
        self._limit = next(filter(self._accepts, _LIMITS.get(self._kind, ())), "")
        self._lift()
        self._limited = self._kind == "sqlite" or bool(self._limit)

    def look(
        self, table: str, count: Callable[[], int], newest: Callable[[], datetime | None] | None = None
    ) -> TableLook:
        about = self._estimate(table)
        if not self._limited and (about is None or about > _FEW):
            return TableLook(None, about)
        return TableLook(self._try(count), about, self._try(newest) if newest else None)

    def _accepts(self, limit: str) -> bool:
        try:
            self._connection.execute(text(limit))
        except DBAPIError:
            return False
        return True

    def _lift(self) -> None:
        """No limit for what asks the catalogue only: 0 means none to all of them."""
        if self._limit:
            self._connection.execute(text(f"{self._limit.partition('=')[0]}= 0"))

    def _estimate(self, table: str) -> int | None:
        if self._kind not in _ESTIMATES:
            return None
        rows = self._connection.execute(text(_ESTIMATES[self._kind]), {"name": table}).scalar()
        return int(rows) if rows and rows > 0 else None

    def _try(self, statement: Callable[[], Any]) -> Any:
        """What a statement gives; None when it takes too long."""
        raw: Any = self._connection.connection.driver_connection
        until = time.monotonic() + STATEMENT_S
        if self._kind == "sqlite":  # which has no limit of its own
            raw.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
        elif self._limit:
            self._connection.execute(text(self._limit))
        try:
            return statement()
        except DBAPIError as error:
            if not _ran_out(error.orig):
                raise
            return None
        finally:
            if self._kind == "sqlite":
                raw.set_progress_handler(None, 0)
            self._lift()


def _ran_out(error: BaseException | None) -> bool:
    """Whether a database ended a statement for the time it took."""
    if getattr(error, "sqlstate", None) == _CANCELED or str(error) == "interrupted":
        return True
    return bool(error and error.args and error.args[0] in _RAN_OUT)
