"""SQL of the analyst's own runs in a process that can only read the views, and is stopped at its limits."""

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from sqlalchemy import Engine

from pbx.analytics import contained_process
from pbx.analytics.contained_sql import SqlLimits, SqlResult, SqlValue, run_sql
from pbx.analytics.sealing import seal_history
from pbx.analytics.statement_check import check_statement
from pbx.errors import DataError, SqlError, SqlLimit
from pbx.operating_system import start_command
from pbx.settings import Settings
from pbx.store.models import PbxConnection
from tests.unit.both_databases import sqlite_only
from tests.unit.store.history_rows import call, store

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOOP = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT count(*) FROM t"


@pytest.fixture(autouse=True)
def three_calls(engine: Engine) -> None:
    """Two calls of a sealed day, and one of a day that isn't."""
    store(engine, PbxConnection(id=1, host="o'brien 💥 % $x"))
    names = ("=1+1", "<b>\"'%$💥", "")
    store(engine, *(call(n, NOON + timedelta(days=n // 3), queue="601", from_name=names[n - 1]) for n in (1, 2, 3)))
    assert seal_history(engine, 1, before=NOON + timedelta(hours=12)) > 0


def rows(result: SqlResult) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in result.table.columns), strict=True))


def ask(settings: Settings, sql: str, **parameters: SqlValue) -> list[tuple[Any, ...]]:
    return rows(run_sql(settings, sql, parameters))


def children() -> list[psutil.Process]:
    """The processes of statements that still run; other tests of this process have servers of their own."""
    return [one for one in psutil.Process().children(recursive=True) if "query-process" in one.cmdline()]


def test_a_statement_reads_sealed_days_and_rows(settings: Settings) -> None:
    result = run_sql(settings, 'SELECT pbx, from_name AS "<i>=x" FROM calls ORDER BY call_id')
    assert [row[1] for row in rows(result)] == ["=1+1", "<b>\"'%$💥", ""]
    assert {row[0] for row in rows(result)} == {"o'brien 💥 % $x"}
    assert (result.cut, result.note, result.views, result.table.column_names) == ("", "", ("calls",), ["pbx", "<i>=x"])


def test_parameters_are_bound(settings: Settings) -> None:
    sql = "SELECT count(*) FROM calls WHERE queue = $queue AND started_at >= $since AND duration_s IS NULL = $unknown"
    assert ask(settings, sql, queue="601", since=date(2026, 3, 3), unknown=True) == [(1,)]
    assert ask(settings, sql, queue="' OR 1 = 1 --", since=NOON.replace(tzinfo=None), unknown=True) == [(0,)]
    with pytest.raises(SqlError, match=r"The parameter \$queue has no value"):
        ask(settings, sql)
    with pytest.raises(SqlError, match=r"no parameter \$other"):
        ask(settings, "SELECT 1", other=1)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("", "empty"),
        ("-- nothing", "empty"),
        ("SELECT 1; SELECT 2", "several statements"),
        ("SELECT 1; DROP VIEW calls", "several statements"),
        ("INSERT INTO calls VALUES (1)", "INSERT is not possible"),
        ("UPDATE calls SET queue = ''", "UPDATE is not possible"),
        ("DELETE FROM calls", "DELETE is not possible"),
        ("CREATE TABLE x (a INT)", "CREATE is not possible"),
        ("DROP VIEW calls", "DROP is not possible"),
        ("WITH x AS (INSERT INTO calls VALUES (1) RETURNING *) SELECT * FROM x", "This changes data"),
        ("ATTACH 'pbx.sqlite' AS x (TYPE sqlite)", "ATTACH is not possible"),
        ("COPY (SELECT 1) TO 'x.csv'", "COPY is not possible"),
        ("COPY calls FROM 'x.csv'", "COPY is not possible"),
        ("EXPORT DATABASE 'x'", "EXPORT is not possible"),
        ("LOAD httpfs", "LOAD is not possible"),
        ("INSTALL httpfs", "is not possible"),
        ("SET memory_limit = '99GB'", "SET is not possible"),
        ("RESET enable_external_access", "is not possible"),
        ("PRAGMA database_list", "is not possible"),
        ("CALL pragma_version()", "CALL is not possible"),
        ("EXPLAIN ANALYZE SELECT 1", "EXPLAIN is not possible"),
        ("SELECT * FROM '/etc/passwd'", "There is no view /etc/passwd"),
        ("SELECT * FROM 'columns/1/calls/2026-03.parquet'", "There is no view columns"),
        ("SELECT * FROM read_text('/etc/passwd')", r"read_text\(\) is not possible"),
        ("SELECT * FROM read_parquet('*')", r"read_parquet\(\) is not possible"),
        ("SELECT (SELECT max(content) FROM READ_TEXT('/etc/passwd'))", r"(?i)read_text\(\) is not possible"),
        ("SELECT * FROM glob('*')", r"glob\(\) is not possible"),
        ("SELECT * FROM query('SELECT 1')", r"query\(\) is not possible"),
        ("SELECT * FROM duckdb_settings()", r"duckdb_settings\(\) is not possible"),
        ("SELECT * FROM arrow_scan(1, 2, 3)", r"arrow_scan\(\) is not possible"),
        ("SELECT current_setting('temp_directory')", r"current_setting\(\) is not possible"),
        ("SELECT json_serialize_plan('FROM glob(''*'')')", r"json_serialize_plan\(\) is not possible"),
        ("SELECT * FROM information_schema.tables", "There is no table information_schema.tables"),
        ("SELECT * FROM sqlite_master", "There is no view sqlite_master"),
        ("SELECT * FROM duckdb_views", "There is no view duckdb_views"),
        ("SELECT * FROM settings", "There is no view settings"),
        ("SELECT * FROM (SELECT * FROM rows_0)", "There is no view rows_0"),
        ("WITH rows_0 AS (SELECT * FROM rows_0) SELECT * FROM rows_0", "The name rows_0 is reserved"),
        ("WITH pbx_segments AS (SELECT 1) SELECT * FROM pbx_segments", "The name pbx_segments is reserved"),
        ("WITH \"a/b.csv\" AS (SELECT 1) SELECT * FROM 'a/b.csv'", "reserved"),
        ("SHOW TABLES", "SHOW is not possible"),
        ("DESCRIBE 'x.csv'", "There is no view x.csv"),
        ("PIVOT calls ON queue", "PIVOT needs the values"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "."),
    ],
    ids=lambda value: value[:40],
)
def test_a_statement_that_does_more_than_read_views_is_refused(sql: str, message: str) -> None:
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
    with pytest.raises(SqlError, match=message):
        check_statement(connection, sql)


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("SELECT 1;", []),
        ("FROM calls", ["calls"]),
        ("TABLE Calls", ["calls"]),
        ("VALUES (1)", []),
        ("SUMMARIZE calls", ["calls"]),
        ("PIVOT calls ON queue IN ('601')", ["calls"]),
        (
            "WITH calls AS (SELECT * FROM calls) SELECT * FROM calls JOIN queue_visits USING (call_id)",
            ["calls", "queue_visits"],
        ),
        ("SELECT * FROM range(3), unnest([1, 2]), (SELECT count(*) FROM segments)", ["segments"]),
        (LOOP, []),
    ],
)
def test_the_views_of_a_statement_are_found(sql: str, views: list[str]) -> None:
    assert check_statement(duckdb.connect(":memory:"), sql) == views


@pytest.mark.parametrize(
    ("sql", "place", "message", "fix"),
    [
        ("SELECT\n 'ü', queux FROM calls", (2, 7), 'Referenced column "queux" not found', "Did you mean queue?"),
        ("SELECT * FROM cals", (1, 15), "There is no view cals", "Did you mean calls or call_tags?"),
        ("SELECT summ(1)", (1, 8), "summ does not exist", "Did you mean sum?"),
        ("SELEC 1", (1, 1), 'syntax error at or near "SELEC"', ""),
    ],
)
def test_an_error_has_its_position_and_a_similar_name(
    settings: Settings, sql: str, place: tuple[int, int], message: str, fix: str
) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        ask(settings, sql)
    assert ((caught.value.line, caught.value.column), caught.value.fix) == (place, fix)


def test_results_are_cut_at_rows_and_at_bytes(settings: Settings) -> None:
    sql = "SELECT i, 'x' || i AS text FROM range(10000000) r(i)"
    cut = run_sql(settings, sql, limits=SqlLimits(rows=5000))
    assert (cut.cut, cut.table.num_rows, cut.note) == ("rows", 5000, "Only the first 5,000 rows are shown.")
    cut = run_sql(settings, sql, limits=SqlLimits(rows=10_000_000, result_bytes=1_000_000))
    assert cut.cut == "bytes"
    assert 900_000 < cut.table.nbytes <= 1_000_000
    assert "more than 1 MB" in cut.note
    assert run_sql(settings, "SELECT 1", limits=SqlLimits(rows=1)).cut == ""


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('x', 2000000000)",
        "SELECT list(repeat('x', 1000) || i) FROM range(100000000) r(i)",
        "SELECT length(string_agg(repeat('x', 1000), '')) FROM range(100000000)",
    ],
)
def test_a_statement_that_needs_too_much_memory_is_stopped(settings: Settings, sql: str) -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(SqlLimit, match="memory"):
        run_sql(settings, sql, limits=SqlLimits(memory_bytes=700_000_000))
    assert psutil.Process().memory_info().rss - before < 100_000_000
    assert children() == []


@pytest.mark.parametrize(
    "sql", [LOOP, "SELECT max(x) FROM (SELECT hash(i) AS x FROM range(1000000000) r(i) ORDER BY x LIMIT 500000000)"]
)
def test_a_statement_that_takes_too_long_is_stopped(settings: Settings, sql: str) -> None:
    with pytest.raises(SqlLimit, match="longer than 4 s"):
        run_sql(settings, sql, limits=SqlLimits(time_s=4))
    assert children() == []


def test_a_statement_can_be_cancelled(settings: Settings) -> None:
    stop = threading.Event()
    threading.Timer(3, stop.set).start()
    with pytest.raises(SqlError, match="cancelled"):
        run_sql(settings, LOOP, stop=stop)
    assert children() == []


@sqlite_only
def test_the_process_has_no_way_to_files_even_without_the_check(settings: Settings, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    request = {"memory_bytes": 10**9, "folder": str(tmp_path)}
    settings.columns_dir.mkdir(exist_ok=True)
    connection = contained_process._connect(request)
    contained_process._lock(connection, str(settings.columns_dir))
    for sql in (
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'x.csv'}'",
        f"ATTACH '{tmp_path / 'x.duckdb'}'",
        f"ATTACH '{settings.pbx_data_dir / 'pbx.sqlite'}' (TYPE sqlite)",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM 'https://example.com/x.csv'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '99GB'",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(sql).fetchall()
    assert not (tmp_path / "x.csv").exists()


def test_the_command_line_contains_neither_the_statement_nor_the_database(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def start(*command: str, **rest: Any) -> Any:
        commands.append(command)
        return start_command(*command, **rest)

    monkeypatch.setattr("pbx.analytics.contained_sql.start_command", start)
    assert ask(settings, "SELECT 'my statement'") == [("my statement",)]
    assert commands == [("query-process",)]


def test_an_error_in_the_middle_of_the_result_is_reported(settings: Settings) -> None:
    sql = "SELECT CASE WHEN i = 90000 THEN error('number ' || i) ELSE i END FROM range(100000) r(i)"
    with pytest.raises(SqlError, match="number 90000"):
        ask(settings, sql)


def test_odd_statements_do_no_harm(settings: Settings) -> None:
    assert ask(settings, "/* a */ SELECT 1; -- b") == [(1,)]
    assert ask(settings, "SELECT 1 WHERE false") == []
    with pytest.raises(SqlError, match="aren't text"):
        ask(settings, "SELECT '\udcff'")
    with pytest.raises(SqlError):
        ask(settings, "SELECT a\x00b")


def test_a_damaged_copy_is_read_from_the_rows_the_next_time(settings: Settings) -> None:
    (file,) = settings.columns_dir.rglob("calls/*.parquet")
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DataError, match="damaged"):
        ask(settings, "SELECT count(*) FROM calls")
    assert ask(settings, "SELECT count(*) FROM calls") == [(3,)]
