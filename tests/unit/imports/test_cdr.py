"""CDR imports store each new row once, from any table and from Master.csv. (On MariaDB: tests/lab.)"""

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
from pbx.imports import cdr, cdr_database
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
    """A database that has a CDR table without any index."""

    def __init__(self, path: Path) -> None:
        self.path, self.url, self.serial = path, f"sqlite:///{path}", 0
        self.execute(f"CREATE TABLE cdr ({', '.join(COLUMNS.split())})")

    def execute(self, statement: str, values: Sequence[Sequence[Any]] = ((),)) -> None:
        connection = sqlite3.connect(self.path)
        with connection:
            connection.executemany(statement, values)
        connection.close()

    def add(self, *times: datetime, offset_s: int = 0, **facts: Any) -> None:
        """Write a call of one minute for each time; the table's clock is `offset_s` ahead of UTC."""
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
def run_import(engine: Engine, active: ActiveConnection, source: Source) -> Iterator[Any]:
    """A function that imports from the source and returns (rows, legs, unreadable)."""

    def run(**options: Any) -> tuple[int, int, int]:
        return counts(import_cdr_database(ImportRun(engine, active, **options), source.url))

    return run


def counts(result: CdrResult) -> tuple[int, int, int]:
    return result.rows, result.legs, result.unreadable


def leg_starts(engine: Engine) -> list[datetime]:
    with reading(engine) as session:
        return sorted(session.exec(select(LegRow.started_at)).all())


def cursor_of(engine: Engine) -> ImportCursorRow:
    with reading(engine) as session:
        return session.exec(select(ImportCursorRow)).one()


def test_only_new_rows_are_counted(engine: Engine, source: Source, run_import: Any) -> None:
    source.add(NOON, NOON + timedelta(hours=30))
    assert run_import() == (2, 2, 0)
    assert run_import() == (0, 0, 0)
    source.add(NOON + timedelta(hours=31))
    assert run_import() == (1, 1, 0)
    cursor = cursor_of(engine)
    assert (cursor.rows, cursor.unreadable) == (3, 0)


def test_a_row_that_was_written_late_is_imported(engine: Engine, source: Source, run_import: Any) -> None:
    """A row has the date of its call's start but is written at its end, after shorter calls."""
    source.add(NOON)
    run_import()
    source.add(NOON - timedelta(hours=20))
    assert run_import() == (0, 1, 0)  # stored but not counted, as its time range was already read
    assert len(leg_starts(engine)) == 2


def test_the_size_of_time_ranges_adapts_to_the_number_of_rows(
    engine: Engine, source: Source, run_import: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has quiet months, a busy hour, half a year without rows, and a date from a wrong clock."""
    monkeypatch.setattr(cdr_database, "_WANTED_ROWS", 40)
    monkeypatch.setattr(cdr_database, "_MAX_ROWS", 100)
    quiet = [NOON + timedelta(days=3 * day) for day in range(40)]
    busy = [quiet[-1] + timedelta(hours=1, seconds=3 * at) for at in range(700)]
    later = [NOON + timedelta(days=200 + day) for day in range(5)]
    wrong = [datetime(2099, 1, 1, tzinfo=UTC)]
    source.add(*later, *busy, *quiet, *wrong)
    steps: list[tuple[int, int | None]] = []
    assert run_import(progress=lambda done, total: steps.append((done, total))) == (746, 746, 0)
    assert leg_starts(engine) == sorted(quiet + busy + later + wrong)
    assert steps == sorted(steps)
    assert len(steps) < 60
    assert run_import() == (1, 0, 0)  # the row in the future
    source.add(datetime.now(UTC).replace(microsecond=0))
    assert run_import()[1] == 1


def test_rows_without_a_date_are_dated_by_their_uniqueid(engine: Engine, source: Source, run_import: Any) -> None:
    source.add(NOON, calldate=None)
    source.add(NOON, calldate="0000-00-00 00:00:00")
    source.add(NOON, calldate=None, uniqueid="asterisk.1")
    source.add(NOON)
    assert run_import() == (4, 3, 1)
    assert leg_starts(engine) == [NOON] * 3
    assert run_import() == (0, 0, 0)


def test_an_impossible_date_hides_no_later_rows(engine: Engine, source: Source, run_import: Any) -> None:
    source.add(NOON)
    source.add(NOON + timedelta(hours=1), calldate="9999-12-31 00:00:00")
    source.add(NOON + timedelta(hours=2))
    assert run_import() == (3, 3, 0)
    assert leg_starts(engine) == [NOON + timedelta(hours=hour) for hour in range(3)]
    source.add(NOON + timedelta(hours=3))
    assert run_import() == (1, 1, 0)


def test_unreadable_rows_are_reported_and_the_rest_is_imported(engine: Engine, source: Source, run_import: Any) -> None:
    source.add(NOON)
    source.add(NOON + timedelta(seconds=1), uniqueid=None)
    source.add(NOON + timedelta(seconds=2), billsec="many")
    source.add(NOON + timedelta(seconds=3), duration=None, billsec=None, disposition=None, clid=None, sequence=None)
    assert run_import() == (4, 2, 2)
    reasons = [reason.split(": ") for _, reason in cursor_of(engine).errors]
    assert [reason for reason, _ in reasons] == [
        "it has no uniqueid (loguniqueid=yes in cdr.conf writes it)",
        "its billsec is 'many'",
    ]
    assert "PJSIP/1001-00000003" in reasons[1][1]
    assert run_import() == (0, 0, 0)
    assert cursor_of(engine).unreadable == 2


def test_a_table_of_an_older_release_is_imported(engine: Engine, source: Source, run_import: Any) -> None:
    for name in ("linkedid", "did", "recordingfile", "cnum", "cnam", "sequence"):
        source.execute(f"ALTER TABLE cdr RENAME COLUMN {name} TO other_{name}")
    source.add(NOON)
    assert run_import() == (1, 1, 0)


def test_an_interrupted_import_continues(
    engine: Engine, source: Source, run_import: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr_database, "_WANTED_ROWS", 1)  # a day at a time
    monkeypatch.setattr(cdr, "_ROWS_PER_TRANSACTION", 10)
    times = [NOON + timedelta(hours=at) for at in range(120)]
    source.add(*times)
    stop = threading.Event()
    rows, legs, _ = run_import(stop=stop, progress=lambda done, total: stop.set())
    assert 0 < legs < 120
    assert rows == legs

    def fail(done: int, total: int | None) -> None:
        if len(leg_starts(engine)) > 60:
            raise RuntimeError("the machine stops")

    with pytest.raises(RuntimeError):
        run_import(progress=fail)
    assert 60 < len(leg_starts(engine)) < 120
    run_import()
    assert leg_starts(engine) == times
    assert cursor_of(engine).rows == 120


def test_an_import_killed_within_a_time_range_counts_no_row_twice(
    engine: Engine, source: Source, run_import: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdr, "_ROWS_PER_TRANSACTION", 10)
    source.add(*(NOON + timedelta(minutes=at) for at in range(50)))
    source.add(NOON, uniqueid=None)
    store, kills = cdr.store_legs, iter([False, False, True])

    def store_twice(*values: Any) -> int:
        if next(kills):
            raise KeyboardInterrupt
        return store(*values)

    monkeypatch.setattr(cdr, "store_legs", store_twice)
    with pytest.raises(KeyboardInterrupt):
        run_import()
    assert len(leg_starts(engine)) == 20
    monkeypatch.setattr(cdr, "store_legs", store)
    assert run_import() == (51, 30, 1)
    assert (cursor_of(engine).rows, cursor_of(engine).unreadable) == (51, 1)


def test_the_utc_offset_is_learned_from_the_rows(
    engine: Engine, active: ActiveConnection, source: Source, run_import: Any
) -> None:
    source.add(NOON, calldate=None)  # shows no offset
    source.add(*(NOON + timedelta(minutes=at) for at in range(5)), offset_s=19800)
    run_import()
    assert leg_starts(engine)[:3] == [NOON, NOON, NOON + timedelta(minutes=1)]
    with reading(engine) as session:
        assert utc_offset_s(session, active.id) == 19800


def test_the_repeated_hour_is_resolved_by_the_uniqueid(
    engine: Engine, source: Source, run_import: Any, active: ActiveConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoned = ActiveConnection(
        active.id, active.connection.model_copy(update={"timezone": "Europe/Berlin"}), active.saved
    )
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    source.add(first, offset_s=7200)
    source.add(second, offset_s=3600)
    import_cdr_database(ImportRun(engine, zoned), source.url)
    assert leg_starts(engine) == [first, second]


def test_the_pbx_is_queried_for_trunks_only_if_none_are_known(
    engine: Engine, settings: Settings, source: Source
) -> None:
    """Only the trunks show that a call was outbound, and imported rows aren't read again."""
    source.add(NOON, dstchannel="PJSIP/carrier-0000001a")
    with replay() as server:
        save_connection(engine, settings, server.connection())
        active = active_connection(engine, settings)
        assert active is not None
        import_cdr_database(ImportRun(engine, active), source.url)
    source.add(NOON + timedelta(hours=1), dstchannel="PJSIP/carrier-0000001b")
    import_cdr_database(ImportRun(engine, active), source.url)  # the PBX is unreachable, but not needed
    with reading(engine) as session:
        assert session.exec(select(CallRow.direction, LegRow.trunk).join(LegRow)).all() == [("outbound", "carrier")] * 2


def test_the_source_database_is_not_changed(source: Source, run_import: Any) -> None:
    source.add(NOON)
    before = source.path.read_bytes()
    run_import()
    assert source.path.read_bytes() == before


LINE = (
    '"","1001","1002","from-internal","""Ana"" <1001>","PJSIP/1001-{n:08x}","PJSIP/1002-{n:08x}","Dial","PJSIP/1002",'
    '"2026-03-02 12:00:{n:02}","2026-03-02 12:00:{n:02}","2026-03-02 12:01:{n:02}",60,60,"ANSWERED","DOCUMENTATION",'
    '"{uid}.{n}",""\n'
)


def lines(*numbers: int) -> bytes:
    return "".join(LINE.format(n=n, uid=int(NOON.timestamp()) + n) for n in numbers).encode()


def test_a_growing_and_rotated_file_is_read_once(engine: Engine, active: ActiveConnection, tmp_path: Path) -> None:
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
    assert leg_starts(engine) == [NOON + timedelta(seconds=n) for n in (*range(30), 40, 41)]
    with reading(engine) as session:
        names = session.exec(select(CallRow.from_name)).all()
    assert set(names) == {"Ana"}


def test_unreadable_rows_of_a_file_are_reported_by_number(
    engine: Engine, active: ActiveConnection, tmp_path: Path
) -> None:
    file = tmp_path / "Master.csv"
    file.write_bytes(
        lines(0) + b"half a line\n\n" + lines(1) + b'"a","quote\n' + lines(2).replace(b",60,60,", b",x,60,")
    )
    result = import_cdr_file(ImportRun(engine, active), file)
    assert counts(result) == (6, 2, 3)
    assert [number for number, _ in result.errors] == [2, 5, 6]
    assert result.errors[0][1] == "it has 1 columns, not 16 or more: half a line"
    with file.open("ab") as more:
        more.write(b"another half\n" + lines(3))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (counts(result), [number for number, _ in result.errors]) == ((2, 1, 1), [7])  # only its own


def test_a_shorter_copy_of_a_file_reports_its_own_unreadable_rows(
    engine: Engine, active: ActiveConnection, tmp_path: Path
) -> None:
    file = tmp_path / "Master.csv"
    head = lines(*range(10))  # identifies the file
    file.write_bytes(head + b"bad\n" + lines(11) + b"worse\n" + lines(12))
    assert import_cdr_file(ImportRun(engine, active), file).unreadable == 2
    file.write_bytes(head + b"bad\n" + lines(11))
    result = import_cdr_file(ImportRun(engine, active), file)
    assert (result.unreadable, [number for number, _ in result.errors]) == (1, [11])


def test_a_missing_table_or_file_is_an_error_and_an_empty_file_is_not(
    engine: Engine, active: ActiveConnection, source: Source, tmp_path: Path
) -> None:
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
def test_the_error_of_an_invalid_database_url_omits_the_password(
    engine: Engine, active: ActiveConnection, address: str
) -> None:
    with pytest.raises(PbxError) as caught:
        import_cdr_database(ImportRun(engine, active), address)
    assert isinstance(caught.value, Unreachable if address.startswith("mysql") else SettingsError)
    assert SECRET not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"


def test_the_command_line_imports_tables_and_files(engine: Engine, source: Source, tmp_path: Path) -> None:
    source.add(NOON)
    file = tmp_path / "Master.csv"
    file.write_bytes(lines(0, 1) + b"odd\n")
    run = CliRunner().invoke
    from_table = json.loads(run(app, ["import", "cdr", "--json"], env={"PBX_IMPORT_URL": source.url}).stdout)
    assert [(one["rows"], one["legs"], one["unreadable"]) for one in from_table["sources"]] == [(1, 1, 0)]
    from_file = run(app, ["import", "cdr", str(file)])
    assert from_file.exit_code == 0
    assert from_file.stdout == "Master.csv: 3 rows, 2 new legs\n"
    assert "row 3: it has 1 columns" in from_file.stderr
    assert run(app, ["import", "cdr"]).exit_code == 2
    address = f"mysql://u:{SECRET}@127.0.0.1:1/cdr"
    refused = run(app, ["import", "cdr"], env={"PBX_IMPORT_URL": address})
    assert refused.exit_code == 1
    assert SECRET not in refused.output + refused.stderr
