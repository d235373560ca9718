"""The CDR into the cache: what is new and only that, from any table and from Master.csv. (On MariaDB: tests/lab.)"""

import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import select
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.errors import DataError, PbxError, SettingsError, Unreachable
from pbx.imports import cdr as import_cdr
from pbx.imports import cdr_database as cdr_table
from pbx.imports.cdr import CdrResult, import_cdr_database, import_cdr_file
from pbx.imports.run import ImportRun
from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.models import CallRow, ImportCursorRow, LegRow
from pbx.store.pbx_connections import ActiveConnection, active_connection, save_connection
from pbx.store.recordings import utc_offset_s
from tests.unit.asterisk.ami.replay_server import replay

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "s3cret-of-the-database"
COLUMNS = (
    "calldate clid src dst dcontext channel dstchannel lastapp duration billsec disposition uniqueid linkedid did "
    "recordingfile cnum cnam sequence outbound_cnum"
)


@pytest.fixture
def active(engine: Engine, settings: Settings) -> ActiveConnection:
    found = active_connection(engine, settings)
    assert found is not None
    return found


class Source:
    """A database with a table of the CDR, without any index."""

    def __init__(self, path: Path) -> None:
        self.path, self.url, self.serial = path, f"sqlite:///{path}", 0
        self.execute(f"CREATE TABLE cdr ({', '.join(COLUMNS.split())})")

    def execute(self, statement: str, values: Sequence[Sequence[Any]] = ((),)) -> None:
        connection = sqlite3.connect(self.path)
        with connection:
            connection.executemany(statement, values)
        connection.close()

    def add(self, *times: datetime, offset_s: int = 0, **facts: Any) -> None:
        """Write a call of a minute for each time; the table's clock is `offset_s` ahead of UTC."""
        rows = []
        for at in times:
            self.serial += 1
            uniqueid = f"{int(at.timestamp())}.{self.serial}"
            row = {
                "calldate": f"{at + timedelta(seconds=offset_s):%Y-%m-%d %H:%M:%S}",
                "src": "1001",
                "dst": "1002",
                "channel": f"PJSIP/1001-{self.serial:08x}",
                "dstchannel": f"PJSIP/1002-{self.serial:08x}",
                "duration": 60,
                "billsec": 50,
                "disposition": "ANSWERED",
                "uniqueid": uniqueid,
                "linkedid": uniqueid,
                "sequence": self.serial,
            } | facts
            rows.append([row.get(name) for name in COLUMNS.split()])
        self.execute(f"INSERT INTO cdr VALUES ({', '.join('?' * len(COLUMNS.split()))})", rows)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "cdr.sqlite")


@pytest.fixture
def imported(engine: Engine, active: ActiveConnection, source: Source) -> Iterator[Any]:
    """Import from the source; the result as (rows, legs, unreadable)."""

    def run(**options: Any) -> tuple[int, int, int]:
        return counts(import_cdr_database(ImportRun(engine, active, **options), source.url))

    return run


def counts(result: CdrResult) -> tuple[int, int, int]:
    return result.rows, result.legs, result.unreadable


def started(engine: Engine) -> list[datetime]:
    with reading(engine) as session:
        return sorted(session.exec(select(LegRow.started_at)).all())


def mark_of(engine: Engine) -> ImportCursorRow:
    with reading(engine) as session:
        return session.exec(select(ImportCursorRow)).one()


def test_only_what_is_new_is_counted(engine: Engine, source: Source, imported: Any) -> None:
    source.add(NOON, NOON + timedelta(hours=30))
    assert imported() == (2, 2, 0)
    assert imported() == (0, 0, 0)
    source.add(NOON + timedelta(hours=31))
    assert imported() == (1, 1, 0)
    mark = mark_of(engine)
    assert (mark.rows, mark.unreadable) == (3, 0)


def test_a_row_written_late_is_found(engine: Engine, source: Source, imported: Any) -> None:
    """A call is dated by its start and written at its end, after shorter ones."""
    source.add(NOON)
    imported()
    source.add(NOON - timedelta(hours=20))
    assert imported() == (0, 1, 0)  # seen anew, though not counted: it lies within what was read
    assert len(started(engine)) == 2


def test_ranges_fit_the_rows(engine: Engine, source: Source, imported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quiet months, a busy hour, half a year of nothing, and a date of a clock that was set wrong."""
    monkeypatch.setattr(cdr_table, "_WANTED_ROWS", 40)
    monkeypatch.setattr(cdr_table, "_MAX_ROWS", 100)
    quiet = [NOON + timedelta(days=3 * day) for day in range(40)]
    busy = [quiet[-1] + timedelta(hours=1, seconds=3 * at) for at in range(700)]
    later = [NOON + timedelta(days=200 + day) for day in range(5)]
    wrong = [datetime(2099, 1, 1, tzinfo=UTC)]
    source.add(*later, *busy, *quiet, *wrong)
    steps: list[tuple[int, int | None]] = []
    assert imported(progress=lambda done, total: steps.append((done, total))) == (746, 746, 0)
    assert started(engine) == sorted(quiet + busy + later + wrong)
    assert steps == sorted(steps)
    assert len(steps) < 60
    assert imported() == (1, 0, 0)  # the one that lies ahead
    source.add(datetime.now(UTC).replace(microsecond=0))
    assert imported()[1] == 1


def test_rows_without_a_date(engine: Engine, source: Source, imported: Any) -> None:
    source.add(NOON, calldate=None)
    source.add(NOON, calldate="0000-00-00 00:00:00")
    source.add(NOON, calldate=None, uniqueid="asterisk.1")
    source.add(NOON)
    assert imported() == (4, 3, 1)
    assert started(engine) == [NOON] * 3
    assert imported() == (0, 0, 0)


def test_a_date_of_no_calendar_hides_nothing(engine: Engine, source: Source, imported: Any) -> None:
    source.add(NOON)
    source.add(NOON + timedelta(hours=1), calldate="9999-12-31 00:00:00")
    source.add(NOON + timedelta(hours=2))
    assert imported() == (3, 3, 0)
    assert started(engine) == [NOON + timedelta(hours=hour) for hour in range(3)]
    source.add(NOON + timedelta(hours=3))
    assert imported() == (1, 1, 0)


def test_bad_rows_are_told_and_the_rest_is_kept(engine: Engine, source: Source, imported: Any) -> None:
    source.add(NOON)
    source.add(NOON + timedelta(seconds=1), uniqueid=None)
    source.add(NOON + timedelta(seconds=2), billsec="many")
    source.add(NOON + timedelta(seconds=3), duration=None, billsec=None, disposition=None, clid=None, sequence=None)
    assert imported() == (4, 2, 2)
    whys = [why.split(": ") for _, why in mark_of(engine).errors]
    assert [why for why, _ in whys] == [
        "it has no uniqueid (loguniqueid=yes in cdr.conf writes it)",
        "its billsec is 'many'",
    ]
    assert "PJSIP/1001-00000003" in whys[1][1]
    assert imported() == (0, 0, 0)
    assert mark_of(engine).unreadable == 2


def test_an_older_table(engine: Engine, source: Source, imported: Any) -> None:
    for name in ("linkedid", "did", "recordingfile", "cnum", "cnam", "sequence"):
        source.execute(f"ALTER TABLE cdr RENAME COLUMN {name} TO other_{name}")
    source.add(NOON)
    assert imported() == (1, 1, 0)


def test_an_interrupted_import_goes_on(
    engine: Engine, source: Source, imported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_table, "_WANTED_ROWS", 1)  # a day at a time
    monkeypatch.setattr(import_cdr, "_ROWS_PER_TRANSACTION", 10)
    times = [NOON + timedelta(hours=at) for at in range(120)]
    source.add(*times)
    stop = threading.Event()
    rows, legs, _ = imported(stop=stop, progress=lambda done, total: stop.set())
    assert 0 < legs < 120
    assert rows == legs

    def fail(done: int, total: int | None) -> None:
        if len(started(engine)) > 60:
            raise RuntimeError("the machine stops")

    with pytest.raises(RuntimeError):
        imported(progress=fail)
    assert 60 < len(started(engine)) < 120
    imported()
    assert started(engine) == times
    assert mark_of(engine).rows == 120


def test_an_import_killed_amid_a_range_counts_no_row_twice(
    engine: Engine, source: Source, imported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_cdr, "_ROWS_PER_TRANSACTION", 10)
    source.add(*(NOON + timedelta(minutes=at) for at in range(50)))
    source.add(NOON, uniqueid=None)
    store, kills = import_cdr.store_legs, iter([False, False, True])

    def store_twice(*values: Any) -> int:
        if next(kills):
            raise KeyboardInterrupt
        return store(*values)

    monkeypatch.setattr(import_cdr, "store_legs", store_twice)
    with pytest.raises(KeyboardInterrupt):
        imported()
    assert len(started(engine)) == 20
    monkeypatch.setattr(import_cdr, "store_legs", store)
    assert imported() == (51, 30, 1)
    assert (mark_of(engine).rows, mark_of(engine).unreadable) == (51, 1)


def test_the_offset_is_learned(engine: Engine, active: ActiveConnection, source: Source, imported: Any) -> None:
    source.add(NOON, calldate=None)  # tells nothing of it
    source.add(*(NOON + timedelta(minutes=at) for at in range(5)), offset_s=19800)
    imported()
    assert started(engine)[:3] == [NOON, NOON, NOON + timedelta(minutes=1)]
    with reading(engine) as session:
        assert utc_offset_s(session, active.id) == 19800


def test_the_hour_that_comes_twice(
    engine: Engine, source: Source, imported: Any, active: ActiveConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoned = ActiveConnection(
        active.id, active.connection.model_copy(update={"timezone": "Europe/Berlin"}), active.saved
    )
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    source.add(first, offset_s=7200)
    source.add(second, offset_s=3600)
    import_cdr_database(ImportRun(engine, zoned), source.url)
    assert started(engine) == [first, second]


def test_the_pbx_is_asked_for_its_trunks_where_none_was_ever_seen(
    engine: Engine, settings: Settings, source: Source
) -> None:
    """Nothing else tells that a call went out; and what was imported isn't read again."""
    source.add(NOON, dstchannel="PJSIP/carrier-0000001a")
    with replay() as server:
        save_connection(engine, settings, server.connection())
        active = active_connection(engine, settings)
        assert active is not None
        import_cdr_database(ImportRun(engine, active), source.url)
    source.add(NOON + timedelta(hours=1), dstchannel="PJSIP/carrier-0000001b")
    import_cdr_database(ImportRun(engine, active), source.url)  # nobody answers, and nobody need
    with reading(engine) as session:
        assert session.exec(select(CallRow.direction, LegRow.trunk).join(LegRow)).all() == [("outbound", "carrier")] * 2


def test_the_source_is_left_as_it_is(source: Source, imported: Any) -> None:
    source.add(NOON)
    before = source.path.read_bytes()
    imported()
    assert source.path.read_bytes() == before


LINE = (
    '"","1001","1002","from-internal","""Ana"" <1001>","PJSIP/1001-{n:08x}","PJSIP/1002-{n:08x}","Dial","PJSIP/1002",'
    '"2026-03-02 12:00:{n:02}","2026-03-02 12:00:{n:02}","2026-03-02 12:01:{n:02}",60,60,"ANSWERED","DOCUMENTATION",'
    '"{uid}.{n}",""\n'
)


def lines(*numbers: int) -> bytes:
    return "".join(LINE.format(n=n, uid=int(NOON.timestamp()) + n) for n in numbers).encode()


def test_a_file_that_grows_and_is_rotated(engine: Engine, active: ActiveConnection, tmp_path: Path) -> None:
    file = tmp_path / "Master.csv"
    file.write_bytes(lines(*range(20)) + lines(20)[:-30])
    assert counts(import_cdr_file(ImportRun(engine, active), file)) == (20, 20, 0)
    file.write_bytes(lines(*range(25)))
    assert counts(import_cdr_file(ImportRun(engine, active), file)) == (5, 5, 0)
    packed = tmp_path / "Master.csv.1.gz"
    packed.write_bytes(gzip.compress(lines(*range(30))))
    assert counts(import_cdr_file(ImportRun(engine, active), packed)) == (5, 5, 0)
    file.write_bytes(lines(40, 41))
    assert counts(import_cdr_file(ImportRun(engine, active), file)) == (2, 2, 0)
    assert started(engine) == [NOON + timedelta(seconds=n) for n in (*range(30), 40, 41)]
    with reading(engine) as session:
        names = session.exec(select(CallRow.from_name)).all()
    assert set(names) == {"Ana"}


def test_bad_lines_are_told_by_their_number(engine: Engine, active: ActiveConnection, tmp_path: Path) -> None:
    file = tmp_path / "Master.csv"
    file.write_bytes(
        lines(0) + b"half a line\n\n" + lines(1) + b'"a","quote\n' + lines(2).replace(b",60,60,", b",x,60,")
    )
    result = import_cdr_file(ImportRun(engine, active), file)
    assert counts(result) == (6, 2, 3)
    assert [number for number, _ in result.errors] == [2, 5, 6]
    assert result.errors[0][1] == "it has 1 columns, not 16 or more: half a line"


def test_a_shorter_copy_of_a_file_tells_its_own_bad_lines(
    engine: Engine, active: ActiveConnection, tmp_path: Path
) -> None:
    file = tmp_path / "Master.csv"
    head = lines(*range(10))  # by which a file is known
    file.write_bytes(head + b"bad\n" + lines(11) + b"worse\n" + lines(12))
    assert import_cdr_file(ImportRun(engine, active), file).unreadable == 2
    file.write_bytes(head + b"bad\n" + lines(11))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.unreadable, [number for number, _ in result.errors]) == (1, [11])


def test_what_is_no_cdr(engine: Engine, active: ActiveConnection, source: Source, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table “calls”"):
        import_cdr_database(ImportRun(engine, active), source.url, table="calls")
    source.execute("CREATE TABLE calls (id)")
    with pytest.raises(DataError, match="no table “calls”"):
        import_cdr_database(ImportRun(engine, active), source.url, table="calls")
    with pytest.raises(SettingsError, match="no file"):
        import_cdr_file(ImportRun(engine, active), tmp_path / "none.csv")
    empty = tmp_path / "empty.csv"
    empty.touch()
    assert counts(import_cdr_file(ImportRun(engine, active), empty)) == (0, 0, 0)


@pytest.mark.parametrize(
    "address", [f"mysql://u:{SECRET}@127.0.0.1:1/cdr", f"oracle://u:{SECRET}@h/x", f"u:{SECRET}@h"]
)
def test_a_database_that_is_none_is_told_without_its_password(
    engine: Engine, active: ActiveConnection, address: str
) -> None:
    with pytest.raises(PbxError) as caught:
        import_cdr_database(ImportRun(engine, active), address)
    assert isinstance(caught.value, Unreachable if address.startswith("mysql") else SettingsError)
    assert SECRET not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"


def test_on_the_command_line(engine: Engine, source: Source, tmp_path: Path) -> None:
    source.add(NOON)
    file = tmp_path / "Master.csv"
    file.write_bytes(lines(0, 1) + b"odd\n")
    run = CliRunner().invoke
    by_table = json.loads(run(app, ["import", "cdr", "--json"], env={"PBX_IMPORT_URL": source.url}).stdout)
    assert [(one["rows"], one["legs"], one["unreadable"]) for one in by_table["sources"]] == [(1, 1, 0)]
    told = run(app, ["import", "cdr", str(file)])
    assert told.exit_code == 0
    assert told.stdout == "Master.csv: 3 rows, 2 new legs\n"
    assert "row 3: it has 1 columns" in told.stderr
    assert run(app, ["import", "cdr"]).exit_code == 2
    address = f"mysql://u:{SECRET}@127.0.0.1:1/cdr"
    refused = run(app, ["import", "cdr"], env={"PBX_IMPORT_URL": address})
    assert refused.exit_code == 1
    assert SECRET not in refused.output + refused.stderr
