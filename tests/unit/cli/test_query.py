"""`python -m pbx query`: formats, parameters, exit codes, and what a hostile result can't do."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow.parquet as pq
import pytest
import typer
from click.testing import Result
from sqlalchemy import Engine
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.analytics.view_descriptions import VIEWS
from pbx.cli.query import _parameter
from pbx.store.models import PbxConnection
from tests.unit.store.history_rows import call, store

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def query(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(app, ["query", *arguments], **more)


@pytest.fixture
def calls(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"))
    store(engine, call(1, NOON, from_name="=1+1", talk_s=60.5), call(2, NOON, from_name="<b>\x1b[31m 💥"))


SQL = 'SELECT call_id, from_name AS "=name", started_at, talk_s, answered FROM calls ORDER BY 1'


def test_a_table(calls: None) -> None:
    result = query(SQL)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["call_id", "=name", "started_at", "talk_s", "answered"]
    assert lines[1].split() == ["1", "=1+1", "2026-03-02", "12:00:00", "60.5", "yes"]
    assert "<b> [31m 💥" in lines[2]
    assert "\x1b" not in result.stdout


def test_json_is_a_list_of_objects(calls: None) -> None:
    for form in (["--format", "json"], ["--json"]):
        result = query(SQL, *form)
        assert json.loads(result.stdout) == [
            {"call_id": 1, "=name": "=1+1", "started_at": "2026-03-02T12:00:00", "talk_s": 60.5, "answered": True},
            {
                "call_id": 2,
                "=name": "<b>\x1b[31m 💥",
                "started_at": "2026-03-02T12:00:00",
                "talk_s": None,
                "answered": True,
            },
        ]
    assert json.loads(query("SELECT 1 WHERE false", "--json").stdout) == []


def test_json_of_every_kind_of_value(engine: Engine) -> None:
    sql = """SELECT 'nan'::DOUBLE AS nan, 1.5::DECIMAL(5, 2) AS decimal,
        170141183460469231731687303715884105727 AS huge, [1, 2] AS list, {'a': DATE '2026-01-31'} AS struct,
        MAP {'k': 1} AS map, INTERVAL 3 DAY AS span, 'a'::BLOB AS blob,
        TIME '10:00' AS time, 1 AS one, 2 AS one"""
    (found,) = json.loads(query(sql, "--json").stdout)
    assert found == {
        "nan": None,
        "decimal": 1.5,
        "huge": 170141183460469231731687303715884105727,
        "list": [1, 2],
        "struct": {"a": "2026-01-31"},
        "map": [["k", 1]],
        "span": "0 months 3 days 0 s",
        "blob": "61",
        "time": "10:00:00",
        "one": 1,
        "one_2": 2,
    }


def test_csv_has_no_formulas(calls: None) -> None:
    result = query(SQL, "--format", "csv")
    assert result.stdout_bytes.decode("utf-8-sig").splitlines()[:2] == [
        '"call_id","\'=name","started_at","talk_s","answered"',
        '"1","\'=1+1","2026-03-02 12:00:00","60.5","yes"',
    ]


def test_excel_has_no_formulas(calls: None, tmp_path: Path) -> None:
    file = tmp_path / "ü 💥.xlsx"
    assert query(SQL, "--format", "xlsx", "--output", str(file)).exit_code == 0
    with ZipFile(file) as book:
        page = book.read("xl/worksheets/sheet1.xml").decode()
        assert "=1+1" in book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in page
    assert re.search('<c r="B2"[^>]* t="s">', page)
    assert '<c r="D2"><v>60.5</v>' in page


def test_parquet_keeps_types(calls: None, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    file.write_text("an older result")
    assert query(SQL, "--format", "parquet", "--output", str(file)).exit_code == 0
    types = [str(field.type) for field in pq.read_schema(file)]
    assert types == ["int64", "string", "timestamp[us]", "double", "bool"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["x.parquet"]


def test_the_statement_can_come_from_standard_input(engine: Engine) -> None:
    assert json.loads(query("-", "--json", input="SELECT 1 AS a -- one\n").stdout) == [{"a": 1}]


def test_parameters_of_the_command_line(calls: None) -> None:
    sql = "SELECT count(*) AS n FROM calls WHERE call_id >= $id AND started_at >= $since - INTERVAL 1 DAY"
    sql += " AND answered = $yes"
    result = query(sql, "--param", "id=2", "--param", "since=2026-03-03", "--param", "yes=true", "--json")
    assert json.loads(result.stdout) == [{"n": 1}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b=c", ("a", "b=c")),
        ("a=", ("a", "")),
        ("queue=0601", ("queue", "0601")),
        ("a=2026-01-31", ("a", date(2026, 1, 31))),
        ("a=2026-01-31 08:00", ("a", datetime(2026, 1, 31, 8))),  # noqa: DTZ001
        ("a=2026-01-31T08:00+01:00", ("a", datetime(2026, 1, 31, 7))),  # noqa: DTZ001
        ("a=2026-01-31x", ("a", "2026-01-31x")),
    ],
)
def test_the_value_of_a_parameter_is_recognised(text: str, expected: object) -> None:
    assert _parameter(text) == expected


@pytest.mark.parametrize("text", ["a", "=b", "a b=c", "a=2026-02-30"])
def test_a_wrong_parameter_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        _parameter(text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["SELECT 1", "--format", "xml"],
        ["SELECT 1", "--format", "xlsx"],
        ["SELECT 1", "--format", "parquet"],
        ["SELECT 1", "--limit", "0"],
        ["SELECT 1", "--param", "x"],
        ["nothing", "--views"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert query(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("sql", "message", "fix"),
    [
        ("SELECT queux FROM calls", "Line 1, column 8: Referenced column", "Did you mean queue?"),
        ("COPY calls TO 'x.csv'", "COPY is not possible here.", "Only statements that read"),
        ("SELECT $x", "The parameter $x has no value.", "--param x=VALUE"),
    ],
)
def test_a_statement_that_fails_exits_with_1(engine: Engine, sql: str, message: str, fix: str) -> None:
    result = query(sql)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert fix in result.stderr
    answer = json.loads(query(sql, "--json").stdout)
    assert message in answer["error"]
    assert fix in answer["fix"]


def test_a_statement_stopped_at_the_time_limit_exits_with_1(engine: Engine) -> None:
    result = query(
        "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 7", "--timeout", "3"
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert "took longer than 3 s" in result.stderr


def test_a_result_that_is_cut_says_so(engine: Engine) -> None:
    result = query("FROM range(10000000)", "--limit", "3", "--format", "json")
    assert (result.exit_code, len(json.loads(result.stdout))) == (0, 3)
    assert "Only the first 3 rows are shown." in result.stderr


def test_a_file_that_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    result = query("SELECT 1", "--output", str(tmp_path / "nowhere" / "x.csv"))
    assert result.exit_code == 1
    assert "can't be written" in result.stderr


def test_the_views_are_described() -> None:
    every = query("--views").stdout
    assert [name for name in VIEWS if f"{name}  " not in every] == []
    one = query("--views", "call_tags").stdout.splitlines()
    assert [line.split()[0] for line in one] == ["call_tags", "pbx", "call_id", "tag"]
    (view,) = json.loads(query("--views", "calls", "--json").stdout)["views"]
    assert view["columns"][1] == {
        "name": "call_id",
        "type": "integer",
        "description": "Identifies the call in all views, across all PBXs",
    }


def test_parquet_cannot_hold_every_type(engine: Engine, tmp_path: Path) -> None:
    result = query("SELECT union_value(a := 1)", "--format", "parquet", "--output", str(tmp_path / "x.parquet"))
    assert result.exit_code == 1
    assert "Parquet can't hold" in result.stderr
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.csv", b"\xef\xbb\xbf"), ("a.JSON", b"["), ("a.parquet", b"PAR1"), ("a.txt", b"call")]
)
def test_the_ending_of_the_file_names_the_format(calls: None, tmp_path: Path, name: str, begins: bytes) -> None:
    result = query("SELECT call_id FROM calls", "--output", str(tmp_path / name), "--limit", "1")
    assert (result.exit_code, (tmp_path / name).read_bytes()[: len(begins)]) == (0, begins), result.output
    assert "Only the first 1 rows were written." in result.output
