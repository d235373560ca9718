"""CEL imports add details to legs, page by page, from tables with or without ids. (Real tables: tests/lab.)"""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import DataError
from pbx.imports import cdr_database
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
    """A database that has a CDR table and a CEL table."""

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
        """Write a call of 60 s whose called channel answers after 20 s and hangs up."""
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


def import_both(engine: Engine, active: ActiveConnection, source: Source, **options: Any) -> CelResult:
    import_cdr_database(ImportRun(engine, active), source.address)
    return import_cel(ImportRun(engine, active, **options), source.address)


def leg_details(engine: Engine) -> list[tuple[float | None, int | None, str]]:
    """For each leg, in order: seconds until the bridge, the cause, and who hung up."""
    with reading(engine) as session:
        legs = session.exec(select(LegRow).order_by(LegRow.linkedid)).all()
    return [
        ((leg.bridged_at - leg.started_at).total_seconds() if leg.bridged_at else None, leg.cause, leg.ended_by)
        for leg in legs
    ]


def test_only_new_rows_are_counted(engine: Engine, active: ActiveConnection, source: Source) -> None:
    source.call(NOON)
    assert (import_both(engine, active, source).rows, leg_details(engine)) == (2, [(20.0, 16, "called")])
    source.call(NOON + timedelta(hours=30))
    source.call(NOON + timedelta(hours=31))
    again = import_both(engine, active, source)
    assert (again.rows, again.detailed_legs, again.unreadable) == (4, 2, 0)
    assert leg_details(engine) == [(20.0, 16, "called")] * 3
    assert import_both(engine, active, source).detailed_legs == 0


def test_events_older_than_their_cdr_row_are_read_again(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    source.call(NOON, cdr=False)
    source.call(NOON + timedelta(hours=1))
    import_both(engine, active, source)
    linkedid = f"{int(NOON.timestamp())}.1"
    row = (f"{NOON:%Y-%m-%d %H:%M:%S}", "PJSIP/1001-00000001", "PJSIP/1002-00000001", 60, 60, "ANSWERED", linkedid)
    source.execute(f"INSERT INTO cdr ({CDR}) VALUES ({', '.join('?' * 9)})", (*row, linkedid, 1))
    assert import_both(engine, active, source).detailed_legs == 1
    assert leg_details(engine) == [(20.0, 16, "called")] * 2


def test_a_stopped_import_continues_page_by_page(
    engine: Engine, active: ActiveConnection, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_database, "_WANTED_ROWS", 4)
    monkeypatch.setattr(cdr_database, "_MAX_ROWS", 5)
    for hours in range(6):
        source.call(NOON + timedelta(hours=9 * hours))
    stop, progress = threading.Event(), []

    def show(done: int, total: int | None) -> None:
        progress.append(done)
        stop.set()

    first = import_both(engine, active, source, progress=show, stop=stop)
    assert (len(progress), 0 < first.rows < 12) == (1, True)
    assert first.rows + import_both(engine, active, source).rows == 12
    assert leg_details(engine) == [(20.0, 16, "called")] * 6


def test_unreadable_rows_are_reported_and_the_rest_is_imported(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    source.call(NOON)
    source.event(NOON, "HANGUP", "PJSIP/x-1", "1.1", "", '{"hangupcau')
    result = import_both(engine, active, source)
    assert (result.rows, result.unreadable) == (3, 1)
    assert result.errors[0][1].startswith("its extra is not JSON")
    assert leg_details(engine) == [(20.0, 16, "called")]
    assert import_both(engine, active, source).unreadable == 0


def test_an_import_of_a_time_range_leaves_the_rest_unread(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    for days in (0, 5, 10):
        source.call(NOON + timedelta(days=days))
    within = TimeRange(NOON + timedelta(days=4), NOON + timedelta(days=6))
    assert import_both(engine, active, source, within=within).detailed_legs == 1
    assert [cause for _, cause, _ in leg_details(engine)] == [None, 16, None]
    assert import_both(engine, active, source).rows == 6
    with reading(engine) as session:
        assert {cursor.kind for cursor in session.exec(select(ImportCursorRow))} == {"cdr", "cel"}


def test_cel_is_imported_and_previewed_with_the_database(
    engine: Engine, active: ActiveConnection, source: Source
) -> None:
    source.call(NOON)
    previews = preview_history(engine, active, source.address)
    assert {table: preview.new for table, preview in previews.items()} == {"cdr": 1, "cel": 2}
    assert [one.kind for one in import_database(ImportRun(engine, active), source.address)] == ["cdr", "cel"]
    assert [preview.new for preview in preview_history(engine, active, source.address).values()] == [0, 0]
    run = ImportRun(engine, active)
    assert [one.kind for one in import_database(run, source.address, "cdr")] == ["cdr", "cel"]
    source.execute("DROP TABLE cel")
    assert [one.kind for one in import_database(run, source.address, "cdr")] == ["cdr"]
    source.execute("CREATE TABLE cel (eventtype, eventtime)")
    with pytest.raises(DataError, match="no column channame, linkedid"):
        import_cel(ImportRun(engine, active), source.address)
