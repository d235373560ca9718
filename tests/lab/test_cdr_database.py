"""Imports of the CDR from real databases: faulty tables, a PBX that keeps writing, passwords, and huge tables."""

from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlmodel import func, select

from pbx.errors import PbxError, SettingsError, Unreachable
from pbx.imports import preview as preview_module
from pbx.imports.cdr import import_cdr_database
from pbx.imports.databases import open_source, source_url
from pbx.imports.preview import preview_history
from pbx.imports.run import ImportRun
from pbx.settings import load_settings
from pbx.store.engine import reading
from pbx.store.models import CallRow, ImportCursorRow, LegRow
from pbx.store.pbx_connections import ActiveConnection
from tests.lab.active_connection import add_active_connection
from tests.lab.mariadb import PASSWORD, QUOTED, MariaDb, mariadb
from tests.lab.postgres import postgres
from tests.lab.servers import SERVERS

__all__ = ["mariadb", "postgres"]
pytestmark = pytest.mark.lab
BROKEN_TABLE = """
CREATE TABLE broken (
  calldate datetime, clid varchar(80), src varchar(80), dst varchar(80), dcontext varchar(80), channel varchar(80),
  dstchannel varchar(80), duration int, billsec int, disposition varchar(45), uniqueid varchar(32), linkedid varchar(32)
) ENGINE=MyISAM DEFAULT CHARSET=latin1
"""  # as in an old FreePBX: without indexes, recordingfile and sequence


def broken_row(number: int, calldate: str | None, **changes: object) -> dict[str, object]:
    uniqueid = f"{1772452800 + number}.{number}"  # 2 March 2026, noon UTC
    return {
        "calldate": calldate,
        "clid": '"José" <1001>',
        "src": "1001",
        "dst": "1002",
        "dcontext": "from-internal",
        "channel": f"SIP/1001-{number:08x}",
        "dstchannel": f"SIP/1002-{number:08x}",
        "duration": 9,
        "billsec": 5,
        "disposition": "ANSWERED",
        "uniqueid": uniqueid,
        "linkedid": uniqueid,
    } | changes


@pytest.fixture
def pbx(engine: Engine) -> ActiveConnection:
    """A PBX of which the tests use only the database."""
    return add_active_connection(engine, SERVERS[22])


def test_a_table_with_nulls_and_zero_dates_is_imported(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    mariadb.execute("DROP TABLE IF EXISTS broken", BROKEN_TABLE)
    rows = [
        broken_row(0, "2026-03-02 12:00:00"),
        broken_row(1, "0000-00-00 00:00:00"),
        broken_row(2, None, clid=None, dcontext=None, duration=None, billsec=None, disposition=None, linkedid=None),
        broken_row(3, "0000-00-00 00:00:00", uniqueid=""),
        broken_row(4, "2026-03-02 12:00:04", dstchannel=None, disposition="NO ANSWER", billsec=0),
    ]
    mariadb.insert("broken", rows)
    result = import_cdr_database(ImportRun(engine, pbx), mariadb.address, table="broken")
    assert (result.rows, result.legs, result.unreadable) == (5, 4, 1)
    with reading(engine) as session:
        calls = {call.linkedid.partition(".")[2]: call for call in session.exec(select(CallRow)).all()}
    assert {number: call.started_at.timestamp() for number, call in calls.items() if call.started_at} == {
        str(number): 1772452800 + number for number in (0, 1, 2, 4)
    }
    assert (calls["0"].from_name, calls["0"].talk_s, calls["4"].disposition) == ("José", 5, "NO ANSWER")
    assert import_cdr_database(ImportRun(engine, pbx), mariadb.address, table="broken").rows == 0


def test_a_postgresql_table_without_linkedids_is_imported(engine: Engine, pbx: ActiveConnection, postgres: str) -> None:
    """This is the table that Asterisk's cdr_pgsql fills. It has start, answer and end, but no linkedid."""
    columns = 'start timestamp, answer timestamp, "end" timestamp, channel text, dstchannel text, uniqueid text'
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE TABLE cdr ({columns}, disposition text, duration bigint, billsec bigint)")
        connection.execute(
            "INSERT INTO cdr SELECT at, at + interval '3 s', at + interval '9 s', 'SIP/a-' || to_hex(n), 'SIP/b', "
            "extract(epoch FROM at AT TIME ZONE 'UTC')::bigint || '.' || n, 'ANSWERED', 9, 6 "
            "FROM (SELECT timestamp '2026-03-02 12:00' + n * interval '1 h' AS at, n FROM generate_series(1, 50) n) t"
        )
    assert import_cdr_database(ImportRun(engine, pbx), postgres).legs == 50
    assert import_cdr_database(ImportRun(engine, pbx), postgres).rows == 0
    with reading(engine) as session:
        call = session.exec(select(CallRow).order_by(CallRow.started_at)).first()
    assert call is not None
    assert (call.started_at, call.wait_s, call.talk_s) == (datetime(2026, 3, 2, 13, tzinfo=UTC), 3, 6)


@pytest.mark.parametrize("storage", ["InnoDB", "MyISAM"])
def test_the_pbx_can_write_during_an_import(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, storage: str
) -> None:
    mariadb.fresh_cdr(storage)
    start = 1772452800
    mariadb.execute(
        "INSERT INTO cdr (calldate, channel, uniqueid, linkedid, duration, billsec, disposition, sequence) "
        f"SELECT FROM_UNIXTIME({start} + seq * 30), CONCAT('PJSIP/a-', LPAD(HEX(seq), 8, '0')), "
        f"CONCAT({start} + seq * 30, '.', seq), CONCAT({start} + seq * 30, '.', seq), 9, 5, 'ANSWERED', seq "
        "FROM seq_1_to_25000"
    )
    added = 0

    def add(done: int, total: int | None) -> None:
        nonlocal added
        added += 1
        moment = f"2026-03-02 11:00:{added:02}"
        mariadb.execute(
            "SET SESSION lock_wait_timeout = 1",
            f"INSERT INTO cdr (calldate, channel, uniqueid) VALUES ('{moment}', 'PJSIP/b-{added:08x}', '1.{added}')",
            "ALTER TABLE cdr COMMENT = 'a change that would wait for readers'",
        )

    result = import_cdr_database(ImportRun(engine, pbx, progress=add), mariadb.address)
    assert added > 1
    assert result.legs >= 25_000
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(LegRow)).one() == result.legs


def test_the_source_connection_is_read_only(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    """Not even a user with write access can change the database."""
    mariadb.fresh_cdr()
    with (
        open_source(source_url(mariadb.address.replace("reader:", "admin:"))) as source,
        source.connect() as connection,
        pytest.raises(DBAPIError, match="READ ONLY"),
    ):
        connection.exec_driver_sql("DELETE FROM cdr")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ((QUOTED, "another-s3cret"), Unreachable, "Access denied"),
        (("/asteriskcdrdb", "/nowhere"), Unreachable, "nowhere"),
        (("/asteriskcdrdb", ""), SettingsError, "not the address"),
        (("mysql+pymysql", "sybase"), SettingsError, "not the address"),
    ],
)
def test_a_refusal_is_reported_without_the_password(
    engine: Engine,
    pbx: ActiveConnection,
    mariadb: MariaDb,
    wrong: tuple[str, str],
    error: type[PbxError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        import_cdr_database(ImportRun(engine, pbx), mariadb.address.replace(*wrong))
    for secret in (PASSWORD, QUOTED, "another-s3cret"):
        assert secret not in f"{caught.value.advice} {caught.value!r} {caught.value.__cause__!r}"


def test_an_import_stores_no_password(engine: Engine, pbx: ActiveConnection, mariadb: MariaDb) -> None:
    mariadb.fresh_cdr()
    mariadb.insert("cdr", [broken_row(0, "2026-03-02 12:00:00")])
    result = import_cdr_database(ImportRun(engine, pbx), mariadb.address)
    assert result.rows == 1
    with reading(engine) as session:
        cursor = session.exec(select(ImportCursorRow)).one()
    engine.dispose()
    for secret in (PASSWORD, QUOTED):
        assert secret not in f"{result!r} {cursor!r}"
        for file in load_settings().pbx_data_dir.rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes()


HUGE_TABLE = (  # 2,000,000 rows without an index: dozens of times as many as can be counted within the limit below
    "DROP TABLE IF EXISTS cdr",
    "CREATE TABLE cdr (calldate datetime, uniqueid varchar(32), channel varchar(80)) ENGINE=InnoDB",
    "INSERT INTO cdr SELECT FROM_UNIXTIME(1700000000 + seq * 30), seq, 'PJSIP/a-1' FROM seq_1_to_2000000",
    "ANALYZE TABLE cdr",
)


@pytest.mark.parametrize("limited", [True, False])
def test_a_preview_of_a_huge_table_estimates_its_rows(
    engine: Engine, pbx: ActiveConnection, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    """Statistics replace counting, also on a server that is too old to limit statements."""
    invalid = "SET SESSION no_such_variable = 1"
    limits = ("SET SESSION max_statement_time = 0.01",) if limited else (invalid,)
    monkeypatch.setattr(preview_module, "_LIMITS", {"mysql": (invalid, *limits)})
    mariadb.execute(*HUGE_TABLE)
    ((table, preview),) = preview_history(engine, pbx, mariadb.address).items()
    assert (table, preview.new, preview.newest) == ("cdr", None, None)
    assert preview.about == pytest.approx(2_000_000, rel=0.2)
    mariadb.fresh_cdr()


def test_a_preview_of_a_huge_postgresql_table_estimates_its_rows(
    engine: Engine, pbx: ActiveConnection, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview_module, "_LIMITS", {"postgresql": ("SET statement_timeout = 10",)})
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS cdr")
        connection.execute(
            "CREATE TABLE cdr AS SELECT timestamp '2026-03-02 12:00' + n * interval '1 s' AS calldate, n::text "
            "AS uniqueid FROM generate_series(1, 1000000) n"
        )
        connection.execute("ANALYZE cdr")
        previews = preview_history(engine, pbx, postgres)
        connection.execute("DROP TABLE cdr")
    assert (previews["cdr"].new, previews["cdr"].newest) == (None, None)
    assert previews["cdr"].about == pytest.approx(1_000_000, rel=0.2)
