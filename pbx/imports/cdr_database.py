"""Reads CDR and CEL tables of a database by ranges of time, with or without an index. It never writes to them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import NoSuchTableError

from pbx.asterisk.formats import cel
from pbx.asterisk.formats.cdr import COLUMNS, local_moment
from pbx.errors import DataError
from pbx.imports.databases import holds_latin1
from pbx.text_encoding import repair

MAX_UTC_OFFSET = timedelta(hours=15)  # no time zone is further from UTC
_WANTED_ROWS, _MAX_ROWS = 20_000, 50_000  # per statement; all of them are held in memory
_MIN_STEP, _MAX_STEP = timedelta(minutes=1), timedelta(days=366)  # time range of one statement
_SECOND = timedelta(seconds=1)
_LAST_DATE = datetime(2100, 1, 1)  # noqa: DTZ001
_FIRST_DATE = datetime(1990, 1, 1)  # noqa: DTZ001 - local; earlier dates are none: 0000-00-00, or a clock never set


class RowBatch(NamedTuple):
    """Rows dated before `until`, in no order; None means rows without a date. `last` is the table's last date."""

    rows: list[Mapping[str, Any]]
    until: datetime | None
    last: datetime


class DatedTable:
    """A table whose rows have a date, with those of `columns` that it has.

    `found` maps the lower-case names of its columns to their real ones; `dated_by` is the one with the date. `only` is
    a condition in SQL.
    """

    def __init__(
        self,
        connection: Connection,
        table: str,
        found: Mapping[str, str],
        columns: Sequence[str],
        dated_by: str,
        only: str = "1 = 1",
    ) -> None:
        quote = connection.dialect.identifier_preparer.quote
        self.dated_by = dated_by
        self._connection = connection
        self._date = quote(found[dated_by])
        self._from, self._only = f"FROM {quote(table)}", only
        named = (f"{quote(found[name])} AS {quote(name)}" for name in columns if name in found)
        self._select = f"SELECT {', '.join(named)}"
        self._latin1 = holds_latin1(connection, table)

    def batches(self, since: datetime | None, until: datetime | None = None) -> Iterator[RowBatch]:
        """All rows from a date (local time) up to another. Without `since`, the rows without a date come first.

        Each statement covers as much time as its number of rows allows. So memory stays small, and a table without an
        index isn't scanned more often than needed.
        """
        first, last = self._bounds(since or _FIRST_DATE)
        if last is not None and until is not None:
            last = min(last, until - _SECOND)
        if since is None and (undated := self._undated()):
            yield RowBatch(undated, None, last or _FIRST_DATE)
        step = timedelta(days=1)
        while first is not None and last is not None and first <= last:
            end = min(first + step, last + _SECOND)
            rows = self._between(first, end, None if step == _MIN_STEP else _MAX_ROWS + 1)
            if len(rows) > _MAX_ROWS and step > _MIN_STEP:
                step = max(step / 4, _MIN_STEP)
                continue
            yield RowBatch(rows, end, last)
            if len(rows) < _WANTED_ROWS // 2:
                step = min(step * 2, _MAX_STEP)
            first = end if rows else self._bounds(end)[0]

    def count(self, since: datetime | None) -> int:
        """How many rows there are from a date on; all rows when it is None."""
        query = f"SELECT COUNT(*) {self._from} WHERE {self._only}"
        query += "" if since is None else f" AND {self._date} >= :since"
        return int(self._connection.execute(text(query), {} if since is None else {"since": str(since)}).scalar_one())

    def newest(self) -> datetime | None:
        """The table's last date (local time), or None."""
        return local_moment(self._connection.execute(text(f"SELECT MAX({self._date}) {self._from}")).scalar())

    def _bounds(self, since: datetime) -> tuple[datetime | None, datetime | None]:
        """The first and the last valid date from a date on; None when there is none."""
        dated = f"{self._date} >= :since AND {self._date} < :end"
        query = f"SELECT MIN({self._date}), MAX({self._date}) {self._from} WHERE {dated}"
        row = self._connection.execute(text(query), {"since": str(since), "end": str(_LAST_DATE)}).one()
        return local_moment(row[0]), local_moment(row[1])

    def _between(self, since: datetime, until: datetime, limit: int | None) -> list[Mapping[str, Any]]:
        query = f"{self._select} {self._from} WHERE {self._date} >= :since AND {self._date} < :until AND {self._only}"
        values = {"since": str(since), "until": str(until)}
        return self._rows(query + (f" LIMIT {limit}" if limit else ""), values)

    def _undated(self) -> list[Mapping[str, Any]]:
        undated = f"({self._date} < :first OR {self._date} >= :end OR {self._date} IS NULL) AND {self._only}"
        query = f"{self._select} {self._from} WHERE {undated} LIMIT {_MAX_ROWS}"
        return self._rows(query, {"first": str(_FIRST_DATE), "end": str(_LAST_DATE)})

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [
            {name: self._repaired(value) for name, value in row._asdict().items()}
            for row in self._connection.execute(text(query), values)
        ]

    def _repaired(self, value: Any) -> Any:
        return repair(value, latin1=self._latin1) if isinstance(value, str) else value


class CdrTable(DatedTable):
    """A CDR table. Raises DataError when it doesn't exist or isn't one."""

    def __init__(self, connection: Connection, table: str) -> None:
        found = _columns(connection, table)
        dated_by = "calldate" if "calldate" in found else "start"
        if dated_by not in found or "uniqueid" not in found:
            raise DataError(
                f"There is no table “{table}” of call detail records in that database.",
                "FreePBX's is the table cdr in the database asteriskcdrdb; the user needs SELECT on it.",
            )
        super().__init__(connection, table, found, COLUMNS, dated_by)


class CelTable(DatedTable):
    """FreePBX's table cel, limited to the events that are used. Raises DataError when it doesn't exist or isn't CEL.

    Its dates have no index. Its ids do and ascend with the dates, so rows are read in the order of ids if it has any.
    """

    def __init__(self, connection: Connection, table: str = "cel") -> None:
        found = _columns(connection, table)
        missing = {"eventtype", "eventtime", "channame", "linkedid"} - found.keys()
        if missing:
            raise DataError(
                f"The table “{table}” of channel events has no column {', '.join(sorted(missing))}.",
                "FreePBX's is the table cel in the database asteriskcdrdb; the user needs SELECT on it.",
            )
        quote = connection.dialect.identifier_preparer.quote
        events = ", ".join(f"'{name}'" for name in cel.EVENTS)
        only = f"{quote(found['eventtype'])} IN ({events})"
        super().__init__(connection, table, found, (*cel.COLUMNS, "id"), "eventtime", only)
        self._id = quote(found["id"]) if "id" in found else ""

    def pages(self, since: datetime | None, until: datetime | None = None) -> Iterator[list[Mapping[str, Any]]]:
        """All rows from a date (local time) up to another, page by page."""
        if not self._id:
            yield from (batch.rows for batch in self.batches(since, until))
            return
        values = {"since": str(since or _FIRST_DATE), "until": str(until or _LAST_DATE)}
        first = f"SELECT MIN({self._id}) {self._from}" + (f" WHERE {self._date} >= :since" if since else "")
        start = self._connection.execute(text(first), values if since else {}).scalar()
        within = f"{self._id} >= :start AND {self._only} AND ({self._date} < :until OR {self._date} IS NULL)"
        query = f"{self._select} {self._from} WHERE {within} ORDER BY {self._id} LIMIT {_WANTED_ROWS}"
        while start is not None:
            rows = self._rows(query, {"start": start, "until": values["until"]})
            if rows:
                yield rows
            start = rows[-1]["id"] + 1 if len(rows) == _WANTED_ROWS else None


def _columns(connection: Connection, table: str) -> dict[str, str]:
    """A table's columns by their names in lower case; none when the table doesn't exist."""
    try:
        return {column["name"].lower(): column["name"] for column in inspect(connection).get_columns(table)}
    except NoSuchTableError:
        return {}


def local_time(position: int) -> datetime:
    """A cursor's position as local time. It counts seconds since 1970 by the PBX's own clock, whatever its zone."""
    return datetime.fromtimestamp(position, UTC).replace(tzinfo=None)


def seconds_of(local: datetime) -> int:
    """A local time as a cursor's position; the inverse of `local_time`."""
    return int(local.replace(tzinfo=UTC).timestamp())
