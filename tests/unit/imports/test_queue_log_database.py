"""queue_log table imports, in every form that sites use, on SQLite. (On MariaDB: tests/lab/test_queue_log.py.)"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlmodel import select

from pbx.asterisk.formats.queue_log import parse_queue_log_line
from pbx.errors import DataError, SettingsError, Unreachable
from pbx.imports import queue_log_database
from pbx.imports.queue_log_database import import_queue_log_database
from pbx.imports.queue_log_files import import_queue_log_files
from pbx.imports.queue_log_writer import QueueLogResult, QueueLogWriter
from pbx.imports.time_range import TimeRange
from pbx.store.engine import reading, writing
from pbx.store.models import ImportCursorRow, PbxConnection, VisitRow
from tests.unit.asterisk.formats.sample_queue_logs import T, write_days
from tests.unit.imports.import_runs import import_run

BERLIN = ZoneInfo("Europe/Berlin")
SPLIT = "data1 text, data2 text, data3 text, data4 text, data5 text"
FORMS = {  # table, columns, format of times
    "epoch text, data1-5": ("queue_log", f"id integer primary key, time text, {SPLIT}", "epoch"),
    "epoch number, data1-5": ("queuelog", f"id integer primary key, time integer, {SPLIT}", "epoch"),
    "epoch float, no id": ("queue_log", f"time float, {SPLIT}", "epoch"),
    "local text, data": ("queue_log", "id integer primary key, time text, data text", "local"),
    "local text, no id": ("queuelog", "time text, data text", "local"),
    "datetime, both data forms": ("queue_log", f"id integer primary key, time datetime, data text, {SPLIT}", "local"),
    "datetime, no id": ("queue_log", f"time datetime, {SPLIT}", "local"),
}


@pytest.fixture
def engine(engine: Engine) -> Engine:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))
    return engine


class Site:
    """A database with the queue_log table that Asterisk writes."""

    def __init__(self, path: Path, form: str) -> None:
        self.table, columns, self.time = FORMS[form]
        self.address = f"sqlite:///{path}"
        self.engine = create_engine(self.address)
        self.split = "data1" in columns
        rest = columns.partition("time ")[2]
        key = "id integer primary key, " if columns.startswith("id") else ""
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    f"create table {self.table} ({key}callid text, queuename text, agent text, event text, time {rest})"
                )
            )

    def write(self, lines: list[str]) -> None:
        rows = []
        for line in lines:
            event = parse_queue_log_line(line.encode())
            assert event is not None
            local = datetime.fromtimestamp(event.at_s, UTC).astimezone(BERLIN)
            at = str(event.at_s) if self.time == "epoch" else f"{local:%Y-%m-%d %H:%M:%S.000000}"
            fields = (event.data.split("|") + [""] * 5)[:5]
            data = {f"data{n}": field for n, field in enumerate(fields, 1)} if self.split else {"data": event.data}
            rows.append({"time": at, "callid": event.callid, "queuename": event.queue, "agent": event.agent} | data)
            rows[-1]["event"] = event.name
        self.insert(rows)

    def insert(self, rows: list[dict[str, str | None]]) -> None:
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        with self.engine.begin() as connection:
            connection.execute(text(f"insert into {self.table} ({names}) values ({values})"), rows)


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(tmp_path / "site.sqlite", getattr(request, "param", "epoch text, data1-5"))
    yield site
    site.engine.dispose()


def import_database(engine: Engine, site: Site, zone: ZoneInfo = BERLIN, **options: Any) -> QueueLogResult:
    return import_queue_log_database(import_run(engine, timezone=zone.key, **options), site.address)


def visits(engine: Engine) -> list[tuple[str, str, datetime]]:
    with reading(engine) as session:
        columns = VisitRow.uniqueid, VisitRow.outcome, VisitRow.joined_at
        return sorted(session.exec(select(*columns)).all())


@pytest.mark.parametrize("site", FORMS, indirect=True)
def test_every_form_of_the_table_is_imported_in_pages(
    engine: Engine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_log_database, "_PAGE", 300)
    log = list(write_days(400))
    site.write(log[:900])
    assert import_database(engine, site).rows == 900
    site.write(log[900:])
    later = import_database(engine, site)
    assert later.rows >= len(log) - 900 - 60  # rows of the previous minutes are read again but not counted
    found = visits(engine)
    assert len(found) == 400
    assert {outcome for _, outcome, _ in found} == {"answered", "transferred", "abandoned", "timeout", "exit_empty"}
    assert all(int(joined_at.timestamp()) == int(uniqueid.partition(".")[0]) for uniqueid, _, joined_at in found)
    again = import_database(engine, site)
    assert (again.rows, again.visits, again.rings, again.agent_events) == (0, 0, 0, 0)


def test_an_import_of_a_time_range_leaves_the_rest_unread(engine: Engine, site: Site) -> None:
    site.write(list(write_days(400)))
    since = datetime.fromtimestamp(T + 600, UTC)
    import_database(engine, site, within=TimeRange(since, since + timedelta(minutes=10)))
    times = [joined_at for _, _, joined_at in visits(engine)]
    assert 50 < len(times) < 300
    assert since - timedelta(hours=1) < min(times) < max(times) < since + timedelta(minutes=10)
    assert import_database(engine, site).rows == len(list(write_days(400)))  # rows outside the range still count as new


def test_unreadable_rows_are_counted_and_the_rest_is_imported(engine: Engine, site: Site) -> None:
    log = list(write_days(20))
    site.write(log[:10])
    nothing: dict[str, str | None] = {"time": None, "callid": None, "queuename": None, "agent": None, "event": None}
    site.insert([nothing, nothing | {"time": "0000-00-00 00:00:00", "event": "CONNECT"}, nothing | {"time": str(T)}])
    site.write(log[10:])
    source = import_database(engine, site)
    assert (source.rows, source.unreadable) == (len(log) + 3, 3)
    assert [row for row, _ in source.errors] == [11, 12, 13]
    assert len(visits(engine)) == 20


@pytest.mark.parametrize("site", ["local text, data"], indirect=True)
def test_calls_in_the_repeated_hour_keep_their_order(engine: Engine, site: Site) -> None:
    before = int(datetime(2026, 10, 24, 23, 50, tzinfo=UTC).timestamp())
    for n in range(30):  # a call every five minutes, through both hours from 02:00
        at = before + n * 300
        site.write([f"{at}|{at}.{n}|sales|NONE|ENTERQUEUE||555|1", f"{at + 60}|{at}.{n}|sales|NONE|ABANDON|1|1|60"])
    import_database(engine, site)
    assert [int(joined_at.timestamp()) for _, _, joined_at in visits(engine)] == [before + n * 300 for n in range(30)]


@pytest.mark.parametrize("site", ["epoch text, data1-5", "datetime, both data forms"], indirect=True)
def test_rows_after_the_clock_was_set_back_are_imported(engine: Engine, site: Site) -> None:
    """The clock goes back by half an hour, so the next rows are dated before those already read."""

    def call(at: int) -> None:
        site.write([f"{at}|{at}.1|sales|NONE|ENTERQUEUE||555|1", f"{at + 9}|{at}.1|sales|NONE|ABANDON|1|1|9"])

    call(T)
    assert import_database(engine, site).rows == 2
    call(T - 1800)
    assert import_database(engine, site).visits == 1
    call(T - 1700)
    assert import_database(engine, site).visits == 1
    call(T + 1800)
    assert import_database(engine, site).visits == 1
    assert [(at, outcome) for at, outcome, _ in visits(engine)] == [
        (f"{T + offset_s}.1", "abandoned") for offset_s in (-1800, -1700, 0, 1800)
    ]


@pytest.mark.parametrize("site", ["epoch float, no id", "datetime, no id"], indirect=True)
def test_pages_stay_small_after_years_without_rows(engine: Engine, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row from a clock that wasn't set must not cause all later rows to be read in one page."""
    monkeypatch.setattr(queue_log_database, "_PAGE", 100)
    log = list(write_days(400))
    site.write([f"{T - 600_000_000}|NONE|NONE|NONE|QUEUESTART|", *log])
    pages: list[int] = []
    fold_rows = queue_log_database._fold_rows

    def record_page(writer: QueueLogWriter, source: Any, rows: Sequence[Sequence[Any]], *times: Any) -> int:
        pages.append(len(rows))
        return fold_rows(writer, source, rows, *times)

    monkeypatch.setattr(queue_log_database, "_fold_rows", record_page)
    assert import_database(engine, site).rows == len(log) + 1
    assert max(pages) <= 200
    assert len(visits(engine)) == 400


def test_the_address_is_stored_and_shown_without_its_password(engine: Engine, site: Site) -> None:
    site.write(list(write_days(3)))
    import_database(engine, site)
    with reading(engine) as session:
        (cursor,) = session.exec(select(ImportCursorRow))
    assert cursor.source.endswith("site.sqlite queue_log")
    for address in ("mysql://me:geh%40im@127.0.0.1:1/x", "postgresql://me:geh%40im@127.0.0.1:1/x"):
        with pytest.raises(Unreachable) as refused:
            import_queue_log_database(import_run(engine, timezone="UTC"), address)
        shown = refused.value.advice + repr(refused.value.__cause__)
        assert "127.0.0.1:1/x" in shown
        assert "geh" not in shown


@pytest.mark.parametrize(
    "address",
    ["", "asteriskcdrdb", "oracle://me:geheim@h/x", "mysql://me:geheim@h", "mysql://[:geheim"]
    + [f"mysql://me:geheim@{rest}" for rest in ("h/x?ssl=true", "h/x?useSSL=false", "h/x?connect_timeout=a", "a..b/x")],
)
def test_the_error_of_an_invalid_address_omits_the_password(engine: Engine, address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        import_queue_log_database(import_run(engine, timezone="UTC"), address)
    assert "geheim" not in refused.value.advice


def test_a_missing_table_or_column_is_an_error(engine: Engine, tmp_path: Path) -> None:
    other = create_engine(f"sqlite:///{tmp_path}/other.sqlite")
    with other.begin() as connection:
        connection.execute(text("create table cdr (calldate datetime)"))
    with pytest.raises(DataError, match="neither a table queue_log nor queuelog"):
        import_queue_log_database(import_run(engine, timezone="UTC"), str(other.url))
    with other.begin() as connection:
        connection.execute(text("create table queuelog (time text, callid text, event text)"))
    with pytest.raises(DataError, match="has no column queue, agent"):
        import_queue_log_database(import_run(engine, timezone="UTC"), str(other.url))
    other.dispose()


def test_the_source_database_is_not_changed(engine: Engine, site: Site, tmp_path: Path) -> None:
    site.write(list(write_days(50)))
    before = (tmp_path / "site.sqlite").read_bytes()
    import_database(engine, site)
    assert (tmp_path / "site.sqlite").read_bytes() == before


def test_an_empty_table_gives_an_empty_result(engine: Engine, site: Site) -> None:
    assert import_database(engine, site) == QueueLogResult(source=import_database(engine, site).source)


def test_calls_imported_from_a_table_and_a_file_are_stored_once(engine: Engine, site: Site, tmp_path: Path) -> None:
    log = list(write_days(60))
    site.write(log)
    import_database(engine, site)
    file = tmp_path / "queue_log"
    file.write_text("".join(log))
    (source,) = import_queue_log_files(import_run(engine), [file])
    assert (source.rows, source.visits, source.rings, source.agent_events) == (len(log), 0, 0, 0)
    assert len(visits(engine)) == 60
