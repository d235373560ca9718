"""Imports queue_log from a database that Asterisk writes it to: table `queue_log` or `queuelog`.

Rows are read page by page in the order of their `id`, which is the order in which they were written; a table without
ids is read by ranges of time. The cursor is a time, and the last minutes before it are read again, because rows may
arrive late.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Connection, Integer, MetaData, Select, Table, func, select
from sqlalchemy.dialects import mysql
from sqlalchemy.types import Date, DateTime, Numeric

from pbx.asterisk.formats.queue_log import QueueEvent, UnreadableLine, in_order, parse_queue_log_row
from pbx.errors import DataError
from pbx.imports.databases import QUEUE_LOGS, holds_latin1, open_source, source_url, tables_of
from pbx.imports.queue_log_writer import QueueLogResult, QueueLogWriter
from pbx.imports.run import ImportRun
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.store.engine import reading
from pbx.store.import_cursors import ImportCursor
from pbx.store.visits import open_visits
from pbx.text_encoding import repair

_PAGE = 20_000  # rows per statement
_OVERLAP_S = 300  # before the cursor, read again
_HOUR_S = 3600
_MIN_STEP_S = 60  # time range of one statement, however many rows it has
_FIRST_S, _LAST_S = 1_000_000_000, 4_102_444_800  # epochs of ten digits: 2001 to 2100


@dataclass(frozen=True)
class _QueueLogTable:
    """A queue_log table, its columns, and the `form` of its column `time`: number, text, moment or moment text.

    `zone` is that of times written without one. `latin1`: its text is declared latin1, and may be in any encoding.
    """

    table: Table
    time: Any
    callid: Any
    queue: Any
    agent: Any
    event: Any
    data: Sequence[Any]
    id: Any | None
    form: str
    zone: tzinfo
    latin1: bool

    def bound(self, at_s: float) -> Any:
        """A time in the column's form; local times an hour earlier, as one hour occurs twice in autumn."""
        if self.form == "number":
            return at_s
        if self.form == "text":
            return str(int(at_s))
        moment = datetime.fromtimestamp(at_s - _HOUR_S, UTC).astimezone(self.zone).replace(tzinfo=None)
        return f"{moment:%Y-%m-%d %H:%M:%S}" if self.form == "moment text" else moment

    def query(self) -> Select[Any]:
        """A statement that selects the columns of an event from all rows."""
        return select(self.time, self.callid, self.queue, self.agent, self.event, *self.data)

    def event_of(self, row: Sequence[Any]) -> QueueEvent:
        """A row as an event. Raises UnreadableLine."""
        time, *rest = row
        callid, queue, agent, event, *data = map(self._repaired, rest)
        return parse_queue_log_row(time, callid, queue, agent, event, data, self.zone)

    def _repaired(self, value: Any) -> Any:
        return repair(value, latin1=self.latin1) if isinstance(value, str) else value


def import_queue_log_database(run: ImportRun, address: str) -> QueueLogResult:
    """Read what is new in a database's queue_log table, or what is in the run's time range.

    Raises SettingsError for an address that isn't one, Unreachable, DataError when there is no such table. No error
    message and nothing stored contains the address's password.
    """
    url, within = source_url(address), run.within
    with open_source(url) as source, source.connect() as connection:
        table = _find_table(connection, run.zone())
        cursor = run.table_cursor("queue_log", url, table.table.name)
        with reading(run.engine) as session:
            fold = QueueLogFold(open_visits(session, run.connection_id, "queue_log"))
        writer = QueueLogWriter(run, fold, cursor, cursor.label)
        read_until_s = cursor.position
        fold_from_s = from_s = within.from_s if within else max(read_until_s - _OVERLAP_S, 0)
        for rows in _pages(connection, table, from_s, min(within.until_s, _LAST_S)):
            newest_s = _fold_rows(writer, table, rows, fold_from_s, read_until_s)
            if table.id is not None and newest_s:
                fold_from_s = 0
            writer.commit(max(cursor.position, newest_s))
            run.report(max(int(newest_s - from_s), 0))
            if run.stopped:
                break
        return writer.finish()


def count_queue_log(connection: Connection, cursor_of: Callable[[str], ImportCursor]) -> tuple[str, Callable[[], int]]:
    """The name of the queue_log table, and a function that counts its rows never read. Raises DataError.

    `cursor_of` returns the cursor of a table by its name.
    """
    table = _find_table(connection, UTC)  # accurate to the hour, which is enough for a preview
    read_until_s = cursor_of(table.table.name).position
    query = select(func.count()).select_from(table.table)
    new = query.where(table.time > table.bound(read_until_s)) if read_until_s else query
    return table.table.name, lambda: connection.execute(new).scalar_one()


def _fold_rows(
    writer: QueueLogWriter, table: _QueueLogTable, rows: Sequence[Sequence[Any]], from_s: float, read_until_s: int
) -> int:
    """Fold a page's rows from a time on, count those that are new, and return the newest time among them.

    Rows with ids are in the order of writing: everything after the first row in range was written later, even where the
    clock was set back in between.
    """
    cursor, result, events = writer.cursor, writer.result, []
    for row in rows:
        try:
            event = table.event_of(row)
        except UnreadableLine as error:
            cursor.rows, result.rows = cursor.rows + 1, result.rows + 1
            cursor.add_unreadable(cursor.rows, str(error), "|".join(str(field) for field in row if field is not None))
            continue
        if event.at_s < from_s or not writer.run.within.contains(event.at_s):
            continue
        if table.id is not None:
            from_s = 0
        events.append(event)
        if not read_until_s - _OVERLAP_S <= event.at_s <= read_until_s:
            cursor.rows, result.rows = cursor.rows + 1, result.rows + 1
    for event in events if table.id is not None else in_order(events):
        writer.fold.add(event)
    now_s = datetime.now(UTC).timestamp() + 86_400  # a row from the future must not hide rows written before then
    return max((event.at_s for event in events if event.at_s < now_s), default=0)


def _pages(
    connection: Connection, table: _QueueLogTable, from_s: float, until_s: float
) -> Iterator[Sequence[Sequence[Any]]]:
    if table.id is None:
        yield from _pages_by_time(connection, table, from_s, until_s)
        return
    first = select(func.min(table.id))
    if from_s > 0:
        first = first.where(table.time >= table.bound(from_s))
    start = connection.execute(first).scalar()
    while start is not None:
        query = table.query().add_columns(table.id).where(table.id >= start).order_by(table.id).limit(_PAGE)
        if until_s < _LAST_S:
            query = query.where(table.time < table.bound(until_s + _HOUR_S))
        rows = connection.execute(query).all()
        if rows:
            yield [row[:-1] for row in rows]
        start = rows[-1][-1] + 1 if len(rows) == _PAGE else None


def _pages_by_time(
    connection: Connection, table: _QueueLogTable, from_s: float, until_s: float
) -> Iterator[Sequence[Sequence[Any]]]:
    """Pages by time: each covers as many hours as contain about a page of rows."""
    in_range = (
        table.time >= table.bound(max(from_s, _FIRST_S)),
        table.time < table.bound(min(until_s, _LAST_S) + _HOUR_S),
    )
    first, last = connection.execute(select(func.min(table.time), func.max(table.time)).where(*in_range)).one()
    if first is None:
        return
    at_s = parse_queue_log_row(first, "", "", "", "-", (), table.zone).at_s - _HOUR_S
    end_s = parse_queue_log_row(last, "", "", "", "-", (), table.zone).at_s + _HOUR_S
    step_s = _HOUR_S
    while at_s <= end_s:
        bounds = table.bound(at_s), table.bound(at_s + step_s)
        query = table.query().where(table.time >= bounds[0], table.time < bounds[1]).order_by(table.time)
        rows = connection.execute(query.limit(2 * _PAGE + 1 if step_s > _MIN_STEP_S else None)).all()
        if len(rows) > 2 * _PAGE and step_s > _MIN_STEP_S:
            step_s = max(step_s // 4, _MIN_STEP_S)
            continue
        at_s += step_s
        if rows:
            yield rows
        step_s = _next_step(step_s, len(rows))


def _next_step(step_s: int, rows: int) -> int:
    if rows > _PAGE:
        return max(step_s // 2, _MIN_STEP_S)
    return step_s * 2 if rows < _PAGE // 4 else step_s


def _find_table(connection: Connection, zone: tzinfo) -> _QueueLogTable:
    names = tables_of(connection)
    tables = [Table(name, MetaData(), autoload_with=connection) for name in QUEUE_LOGS if name in names]
    if not tables:
        raise DataError(
            "That database has neither a table queue_log nor queuelog.",
            "Name the database that Asterisk writes queue_log to (extconfig.conf), or import the file "
            "/var/log/asterisk/queue_log.",
        )
    filled = [table for table in tables if connection.execute(select(table).limit(1)).first() is not None]
    return _table_of(connection, (filled or tables)[0], zone)


def _table_of(connection: Connection, table: Table, zone: tzinfo) -> _QueueLogTable:
    columns: dict[str, Any] = {column.name.lower(): column for column in table.columns}
    split = [columns[name] for name in (f"data{n}" for n in range(1, 6)) if name in columns]
    data = split or [columns[name] for name in ("data",) if name in columns]
    names = {"time": ("time", "eventdate"), "queue": ("queuename", "queue"), "agent": ("agent",)}
    names |= {"callid": ("callid",), "event": ("event",)}
    found: dict[str, Any] = {
        name: next((columns[other] for other in others if other in columns), None) for name, others in names.items()
    }
    missing = [name for name, column in found.items() if column is None]
    if missing or not data:
        raise DataError(
            f"The table {table.name} has no column {', '.join(missing) or 'data'}.",
            "Asterisk's queue_log has time, callid, queuename, agent, event and data1 to data5 (or data).",
        )
    if split and "data" in columns:
        data = [func.coalesce(func.nullif(columns["data1"], ""), columns["data"]), *split[1:]]
    row_id = columns.get("id")
    if row_id is not None and not isinstance(row_id.type, Integer):
        row_id = None
    form = _form_of(connection, found["time"])
    if isinstance(found["time"].type, mysql.TIMESTAMP):
        zone = UTC  # the session's time zone
    return _QueueLogTable(
        table, **found, data=data, id=row_id, form=form, zone=zone, latin1=holds_latin1(connection, table.name)
    )


def _form_of(connection: Connection, time: Any) -> str:
    if isinstance(time.type, Integer | Numeric):
        return "number"
    if isinstance(time.type, DateTime | Date):
        return "moment"
    texts = [str(row[0]) for row in connection.execute(select(time).where(time.is_not(None)).limit(100))]
    return "moment text" if sum("-" in text for text in texts) * 2 > len(texts) else "text"
