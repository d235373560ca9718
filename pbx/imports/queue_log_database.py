"""queue_log into the cache, from a database that Asterisk writes it to: table `queue_log` or `queuelog`.

Rows are read page by page in the order of their `id`, which is the order in which they were written, or where there is
none in stretches of time. How far it was read is a time, and the last minutes are read again: rows may come late.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import Connection, Engine, Integer, MetaData, Select, Table, func, select
from sqlalchemy.dialects import mysql
from sqlalchemy.types import Date, DateTime, Numeric

from pbx.asterisk.formats.queue_log import BadLine, QueueEvent, ordered, parse_queue_log_row
from pbx.errors import DataError
from pbx.imports.databases import QUEUE_LOGS, database_mark, holds_latin1, open_source, source_url, tables_of
from pbx.imports.queue_log_files import ImportResult, Intake, SourceRead
from pbx.imports.queue_visits import QueueLogFold
from pbx.imports.time_range import WHATEVER_IS_NEW, TimeRange
from pbx.progress import Progress
from pbx.store.engine import reading
from pbx.store.import_cursors import ImportCursor
from pbx.store.visits import open_visits
from pbx.text_encoding import repair

_PAGE = 20_000  # rows of a statement
_LATE_S = 300  # so much of what was read is read again
_HOUR_S = 3600
_SHORTEST_S = 60  # that one statement asks for, however many rows they are
_FIRST_S, _LAST_S = 1_000_000_000, 4_102_444_800  # epochs of ten digits: 2001 to 2100


@dataclass(frozen=True)
class _QueueLogTable:
    """The table, its columns by the names used here, and how its column `time` is written: epoch, text or moment."""

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
    latin1: bool  # is what its text is declared to be

    def bound(self, at_s: float) -> Any:
        """A time as the column is written; local ones an hour earlier, since an hour may have come twice."""
        if self.form == "number":
            return at_s
        if self.form == "text":
            return str(int(at_s))
        moment = datetime.fromtimestamp(at_s - _HOUR_S, UTC).astimezone(self.zone).replace(tzinfo=None)
        return f"{moment:%Y-%m-%d %H:%M:%S}" if self.form == "moment text" else moment

    def query(self) -> Select[Any]:
        return select(self.time, self.callid, self.queue, self.agent, self.event, *self.data)

    def event_of(self, row: Sequence[Any]) -> QueueEvent:
        time, *rest = row
        callid, queue, agent, event, *data = map(self._repaired, rest)
        return parse_queue_log_row(time, callid, queue, agent, event, data, self.zone)

    def _repaired(self, value: Any) -> Any:
        return repair(value, latin1=self.latin1) if isinstance(value, str) else value


def import_queue_log_database(
    engine: Engine,
    connection_id: int,
    address: str,
    zone: tzinfo,
    *,
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> ImportResult:
    """Read what is new in the queue_log table of the database at `address`, or what lies within a stretch.

    `zone` is that of times written without one: the PBX's. `progress(done, total)` counts seconds of the PBX's time.

    Raises SettingsError for an address that isn't one, Unreachable, DataError when there is no such table. None of
    them, and nothing stored, holds the address's password.
    """
    url = source_url(address)
    with open_source(url) as source_engine, source_engine.connect() as connection:
        source = _find_table(connection, zone)
        mark = database_mark(engine, connection_id, "queue_log", url, source.table.name)
        if within:
            mark = ImportCursor(mark.source, mark.label)
        with reading(engine) as session:
            fold = QueueLogFold(open_visits(session, connection_id, "queue_log"))
        told = SourceRead(source=mark.label)
        intake = Intake(engine, connection_id, fold, mark, told, within)
        known_s = mark.position
        skipped_s = from_s = within.from_s if within else max(known_s - _LATE_S, 0)
        for rows in _pages(connection, source, from_s, min(within.until_s, _LAST_S)):
            newest_s = _take_in(intake, source, rows, skipped_s, known_s)
            if source.id is not None and newest_s:
                skipped_s = 0
            intake.commit(max(mark.position, newest_s))
            if progress is not None:
                progress(max(int(newest_s - from_s), 0), None)
            if stop is not None and stop.is_set():
                break
        intake.finish()
    return ImportResult(sources=[told])


def count_queue_log(connection: Connection, mark_of: Callable[[str], ImportCursor]) -> tuple[str, Callable[[], int]]:
    """The name of the table of queue_log, and what counts its rows that were never read. Raises DataError."""
    source = _find_table(connection, UTC)  # read to the hour, which is near enough
    known_s = mark_of(source.table.name).position
    query = select(func.count()).select_from(source.table)
    new = query.where(source.time > source.bound(known_s)) if known_s else query
    return source.table.name, lambda: connection.execute(new).scalar_one()


def _take_in(intake: Intake, source: _QueueLogTable, rows: Sequence[Sequence[Any]], from_s: float, known_s: int) -> int:
    """Fold a page's rows from a time on, and count those that are new; the newest time among them.

    In the order of their ids what follows the first of them was written later, though its clock may have been set back.
    """
    mark, told, events = intake.mark, intake.told, []
    for row in rows:
        try:
            event = source.event_of(row)
        except BadLine as error:
            mark.rows, told.rows, told.bad = mark.rows + 1, told.rows + 1, told.bad + 1
            mark.note_bad(mark.rows, str(error), "|".join(str(field) for field in row if field is not None))
            continue
        if event.at_s < from_s or not intake.within.holds(event.at_s):
            continue
        if source.id is not None:
            from_s = 0
        events.append(event)
        if not known_s - _LATE_S <= event.at_s <= known_s:
            mark.rows, told.rows = mark.rows + 1, told.rows + 1
    for event in events if source.id is not None else ordered(events):
        intake.fold.add(event)
    now_s = datetime.now(UTC).timestamp() + 86_400  # a row from the future must not hide what is written until then
    return max((event.at_s for event in events if event.at_s < now_s), default=0)


def _pages(
    connection: Connection, source: _QueueLogTable, from_s: float, until_s: float
) -> Iterator[Sequence[Sequence[Any]]]:
    if source.id is None:
        yield from _stretches(connection, source, from_s, until_s)
        return
    first = select(func.min(source.id))
    if from_s > 0:
        first = first.where(source.time >= source.bound(from_s))
    start = connection.execute(first).scalar()
    while start is not None:
        query = source.query().add_columns(source.id).where(source.id >= start).order_by(source.id).limit(_PAGE)
        if until_s < _LAST_S:
            query = query.where(source.time < source.bound(until_s + _HOUR_S))
        rows = connection.execute(query).all()
        if rows:
            yield [row[:-1] for row in rows]
        start = rows[-1][-1] + 1 if len(rows) == _PAGE else None


def _stretches(
    connection: Connection, source: _QueueLogTable, from_s: float, until_s: float
) -> Iterator[Sequence[Sequence[Any]]]:
    """Pages by time: as many hours at once as hold about a page of rows."""
    within = (
        source.time >= source.bound(max(from_s, _FIRST_S)),
        source.time < source.bound(min(until_s, _LAST_S) + _HOUR_S),
    )
    first, last = connection.execute(select(func.min(source.time), func.max(source.time)).where(*within)).one()
    if first is None:
        return
    at_s = parse_queue_log_row(first, "", "", "", "-", (), source.zone).at_s - _HOUR_S
    end_s = parse_queue_log_row(last, "", "", "", "-", (), source.zone).at_s + _HOUR_S
    step_s = _HOUR_S
    while at_s <= end_s:
        bounds = source.bound(at_s), source.bound(at_s + step_s)
        query = source.query().where(source.time >= bounds[0], source.time < bounds[1]).order_by(source.time)
        rows = connection.execute(query.limit(2 * _PAGE + 1 if step_s > _SHORTEST_S else None)).all()
        if len(rows) > 2 * _PAGE and step_s > _SHORTEST_S:
            step_s = max(step_s // 4, _SHORTEST_S)
            continue
        at_s += step_s
        if rows:
            yield rows
        step_s = _next_step(step_s, len(rows))


def _next_step(step_s: int, rows: int) -> int:
    if rows > _PAGE:
        return max(step_s // 2, _SHORTEST_S)
    return step_s * 2 if rows < _PAGE // 4 else step_s


def _find_table(connection: Connection, zone: tzinfo) -> _QueueLogTable:
    there = tables_of(connection)
    tables = [Table(name, MetaData(), autoload_with=connection) for name in QUEUE_LOGS if name in there]
    if not tables:
        raise DataError(
            "That database has neither a table queue_log nor queuelog.",
            "Name the database that Asterisk writes queue_log to (extconfig.conf), or import the file "
            "/var/log/asterisk/queue_log.",
        )
    filled = [table for table in tables if connection.execute(select(table).limit(1)).first() is not None]
    return _understand(connection, (filled or tables)[0], zone)


def _understand(connection: Connection, table: Table, zone: tzinfo) -> _QueueLogTable:
    columns: dict[str, Any] = {column.name.lower(): column for column in table.columns}
    split = [columns[name] for name in (f"data{n}" for n in range(1, 6)) if name in columns]
    data = split or [columns[name] for name in ("data",) if name in columns]
    wanted = {"time": ("time", "eventdate"), "queue": ("queuename", "queue"), "agent": ("agent",)}
    wanted |= {"callid": ("callid",), "event": ("event",)}
    found: dict[str, Any] = {
        name: next((columns[other] for other in others if other in columns), None) for name, others in wanted.items()
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
        zone = UTC  # which the session asked for
    return _QueueLogTable(
        table, **found, data=data, id=row_id, form=form, zone=zone, latin1=holds_latin1(connection, table.name)
    )


def _form_of(connection: Connection, time: Any) -> str:
    if isinstance(time.type, Integer | Numeric):
        return "number"
    if isinstance(time.type, DateTime | Date):
        return "moment"
    seen = [str(row[0]) for row in connection.execute(select(time).where(time.is_not(None)).limit(100))]
    return "moment text" if sum("-" in text for text in seen) * 2 > len(seen) else "text"
