"""Tables of the CDR and of CEL in a database, read by ranges of time. They are read only, with or without an index."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import NoSuchTableError

from pbx.asterisk.formats import cel
from pbx.asterisk.formats.cdr import COLUMNS, local_moment
from pbx.errors import DataError
from pbx.imports.databases import holds_latin1
from pbx.text_encoding import repair

_WANTED_ROWS, _MOST_ROWS = 20_000, 50_000  # of one statement, all of which are held in memory
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(days=366)  # time that one statement asks for
_SECOND = timedelta(seconds=1)
_LAST_DATE = datetime(2100, 1, 1)  # noqa: DTZ001
_FIRST_DATE = datetime(1990, 1, 1)  # noqa: DTZ001 - local; what is before is none: 0000-00-00, or a clock never set


class RowBatch(NamedTuple):
    """Rows dated before `until`, in no order; None: rows without a date. `last` is the table's last date."""

    rows: list[Mapping[str, Any]]
    until: datetime | None
    last: datetime


class DatedTable:
    """A table whose rows are dated, whichever of the columns asked for it has; `only` is a condition in SQL.

    `found` are its columns by their names in lower case.
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
        """All rows from a date on (local time) up to another; with None those without a date as well, first.

        Each statement asks for as much time as its number of rows allows, so that neither memory nor, without an index,
        the number of times that the table is read through grows with it.
        """
        first, last = self._bounds(since or _FIRST_DATE)
        if last is not None and until is not None:
            last = min(last, until - _SECOND)
        if since is None and (undated := self._undated()):
            yield RowBatch(undated, None, last or _FIRST_DATE)
        step = timedelta(days=1)
        while first is not None and last is not None and first <= last:
            end = min(first + step, last + _SECOND)
            rows = self._between(first, end, None if step == _SHORTEST else _MOST_ROWS + 1)
            if len(rows) > _MOST_ROWS and step > _SHORTEST:
                step = max(step / 4, _SHORTEST)
                continue
            yield RowBatch(rows, end, last)
            if len(rows) < _WANTED_ROWS // 2:
                step = min(step * 2, _LONGEST)
            first = end if rows else self._bounds(end)[0]

    def count(self, since: datetime | None) -> int:
        """How many rows there are from a date on; all with None."""
        query = f"SELECT COUNT(*) {self._from} WHERE {self._only}"
        query += "" if since is None else f" AND {self._date} >= :since"
        return int(self._connection.execute(text(query), {} if since is None else {"since": str(since)}).scalar_one())

    def newest(self) -> datetime | None:
        """The last date there is (local time), or None."""
        return local_moment(self._connection.execute(text(f"SELECT MAX({self._date}) {self._from}")).scalar())

    def _bounds(self, since: datetime) -> tuple[datetime | None, datetime | None]:
        """The first and the last date from a date on; none of a clock never set."""
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
        query = f"{self._select} {self._from} WHERE {undated} LIMIT {_MOST_ROWS}"
        return self._rows(query, {"first": str(_FIRST_DATE), "end": str(_LAST_DATE)})

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return [
            {name: self._repaired(value) for name, value in row._asdict().items()}
            for row in self._connection.execute(text(query), values)
        ]

    def _repaired(self, value: Any) -> Any:
        return repair(value, latin1=self._latin1) if isinstance(value, str) else value


class CdrTable(DatedTable):
    """A table of the CDR. Raises DataError when it isn't there or isn't one."""

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
    """FreePBX's table cel, its rows that tell anything. Raises DataError when it isn't there or isn't CEL.

    Its dates have no index, but its ids, which ascend with them, do: rows are read in their order where there are any.
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
        told = ", ".join(f"'{name}'" for name in cel.TOLD)
        only = f"{quote(found['eventtype'])} IN ({told})"
        super().__init__(connection, table, found, (*cel.COLUMNS, "id"), "eventtime", only)
        self._id = quote(found["id"]) if "id" in found else ""

    def pages(self, since: datetime | None, until: datetime | None = None) -> Iterator[list[Mapping[str, Any]]]:
        """All rows from a date on (local time) up to another, page by page."""
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
    """A table's columns by their names in lower case; none when it isn't there."""
    try:
        return {column["name"].lower(): column["name"] for column in inspect(connection).get_columns(table)}
    except NoSuchTableError:
        return {}
