"""CEL into the legs: what is new and only that, page by page, with ids or without. (Real tables: tests/lab.)"""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import DataError
from pbx.imports import cdr_database as cdr_table
from pbx.imports.cdr import import_cdr_database
from pbx.imports.cel import CelResult, import_cel
from pbx.imports.job import import_database
from pbx.imports.preview import preview_history
from pbx.imports.run import ImportRun
from pbx.imports.time_range import TimeRange
from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.models import ImportCursorRow, LegRow
from pbx.store.pbx_connections import ActiveConnection, active_connection

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
CDR = "calldate, channel, dstchannel, duration, billsec, disposition, uniqueid, linkedid, sequence"
CEL = "eventtype, eventtime, channame, linkedid, peer, extra"


class Source:
    """A database with both tables."""

    def __init__(self, path: Path, *, ids: bool) -> None:
        self.path, self.address, self.calls = path, f"sqlite:///{path}", 0
        self.execute(f"CREATE TABLE cdr ({CDR})")
        self.execute(f"CREATE TABLE cel ({'id INTEGER PRIMARY KEY, ' if ids else ''}{CEL})")

    def execute(self, statement: str, *values: Any) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            connection.executemany(statement, values or [()])
        connection.close()

    def call(self, at: datetime, *, cdr: bool = True) -> None:
        """A call of 60 s whose called channel answered after 20 s and hung up."""
        self.calls += 1
        one, two = f"PJSIP/1001-{self.calls:08x}", f"PJSIP/1002-{self.calls:08x}"
        linkedid = f"{int(at.timestamp())}.{self.calls}"
        if cdr:
            row = (f"{at:%Y-%m-%d %H:%M:%S}", one, two, 60, 60, "ANSWERED", linkedid, linkedid, self.calls)
            self.execute(f"INSERT INTO cdr ({CDR}) VALUES ({', '.join('?' * 9)})", row)
        extra = f'{{"hangupcause":16,"hangupsource":"{two}"}}'
        self.event(at, "CHAN_START", one, linkedid)
        self.event(at + timedelta(seconds=20), "BRIDGE_ENTER", one, linkedid, two)
        self.event(at + timedelta(seconds=60), "HANGUP", two, linkedid, "", extra)

    def event(self, at: datetime, name: str, channel: str, linkedid: str, peer: str = "", extra: str = "") -> None:
        row = (name, f"{at:%Y-%m-%d %H:%M:%S}", channel, linkedid, peer, extra)
        self.execute(f"INSERT INTO cel ({CEL}) VALUES (?, ?, ?, ?, ?, ?)", row)


@pytest.fixture(params=[True, False], ids=["ids", "no ids"])
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Source:
    return Source(tmp_path / "site.sqlite", ids=request.param)


@pytest.fixture
def active(engine: Engine, settings: Settings) -> ActiveConnection:
    found = active_connection(engine, settings)
    assert found is not None
    return found


def read(engine: Engine, active: ActiveConnection, source: Source, **options: Any) -> CelResult:
    import_cdr_database(ImportRun(engine, active), source.address)
    return import_cel(ImportRun(engine, active, **options), source.address)


def told(engine: Engine) -> list[tuple[float | None, int | None, str]]:
    """Of each leg, in order: seconds until the two were bridged, the cause, who hung up."""
    with reading(engine) as session:
        legs = session.exec(select(LegRow).order_by(LegRow.linkedid)).all()
    return [
        ((leg.bridged_at - leg.started_at).total_seconds() if leg.bridged_at else None, leg.cause, leg.ended_by)
        for leg in legs
    ]


def test_only_what_is_new_is_counted(engine: Engine, active: ActiveConnection, source: Source) -> None:
    source.call(NOON)
    assert (read(engine, active, source).rows, told(engine)) == (2, [(20.0, 16, "called")])
    source.call(NOON + timedelta(hours=30))
    source.call(NOON + timedelta(hours=31))
    again = read(engine, active, source)
    assert (again.rows, again.detailed_legs, again.unreadable) == (4, 2, 0)
    assert told(engine) == [(20.0, 16, "called")] * 3
    assert read(engine, active, source).detailed_legs == 0


def test_events_that_came_before_their_cdr_are_read_again(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    source.call(NOON, cdr=False)
    source.call(NOON + timedelta(hours=1))
    read(engine, active, source)
    linkedid = f"{int(NOON.timestamp())}.1"
    row = (f"{NOON:%Y-%m-%d %H:%M:%S}", "PJSIP/1001-00000001", "PJSIP/1002-00000001", 60, 60, "ANSWERED", linkedid)
    source.execute(f"INSERT INTO cdr ({CDR}) VALUES ({', '.join('?' * 9)})", (*row, linkedid, 1))
    assert read(engine, active, source).detailed_legs == 1
    assert told(engine) == [(20.0, 16, "called")] * 2


def test_page_by_page_and_stopped_it_goes_on(
    engine: Engine, active: ActiveConnection, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_table, "_WANTED_ROWS", 4)
    monkeypatch.setattr(cdr_table, "_MAX_ROWS", 5)
    for hours in range(6):
        source.call(NOON + timedelta(hours=9 * hours))
    stop, progress = threading.Event(), []

    def show(done: int, total: int | None) -> None:
        progress.append(done)
        stop.set()

    first = read(engine, active, source, progress=show, stop=stop)
    assert (len(progress), 0 < first.rows < 12) == (1, True)
    assert first.rows + read(engine, active, source).rows == 12
    assert told(engine) == [(20.0, 16, "called")] * 6


def test_bad_rows_are_told_and_the_rest_is_taken(engine: Engine, active: ActiveConnection, source: Source) -> None:
    source.call(NOON)
    source.event(NOON, "HANGUP", "PJSIP/x-1", "1.1", "", '{"hangupcau')
    result = read(engine, active, source)
    assert (result.rows, result.unreadable) == (3, 1)
    assert result.errors[0][1].startswith("its extra is not JSON")
    assert told(engine) == [(20.0, 16, "called")]
    assert read(engine, active, source).unreadable == 0


def test_a_stretch_leaves_the_rest_to_be_read(engine: Engine, active: ActiveConnection, source: Source) -> None:
    for days in (0, 5, 10):
        source.call(NOON + timedelta(days=days))
    within = TimeRange(NOON + timedelta(days=4), NOON + timedelta(days=6))
    assert read(engine, active, source, within=within).detailed_legs == 1
    assert [cause for _, cause, _ in told(engine)] == [None, 16, None]
    assert read(engine, active, source).rows == 6
    with reading(engine) as session:
        assert {mark.kind for mark in session.exec(select(ImportCursorRow))} == {"cdr", "cel"}


def test_it_is_read_with_the_database_and_counted_by_a_test(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    source.call(NOON)
    looks = preview_history(engine, active, source.address)
    assert {table: look.new for table, look in looks.items()} == {"cdr": 1, "cel": 2}
    assert [one.kind for one in import_database(ImportRun(engine, active), source.address)] == ["cdr", "cel"]
    assert [look.new for look in preview_history(engine, active, source.address).values()] == [0, 0]
    run = ImportRun(engine, active)
    assert [one.kind for one in import_database(run, source.address, "cdr")] == ["cdr", "cel"]
    source.execute("DROP TABLE cel")
    assert [one.kind for one in import_database(run, source.address, "cdr")] == ["cdr"]
    source.execute("CREATE TABLE cel (eventtype, eventtime)")
    with pytest.raises(DataError, match="no column channame, linkedid"):
        import_cel(ImportRun(engine, active), source.address)
