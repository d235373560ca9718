"""`python -m pbx query --question FILE`: answers a saved question about the active PBX."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import Engine
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.store.models import PbxConnection
from tests.unit.store.history_rows import store, visit

QUESTION = {
    "dataset": "queue_visits",
    "measures": ["offered", "asa"],
    "rows": "queue",
    "filters": [{"field": "hour_of_day", "values": [13]}],
    "period": {"name": "between", "first": "2026-03-02", "last": "2026-03-02"},
}
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # 13:00 in Berlin


def ask(tmp_path: Path, text: str, *more: str) -> Result:
    file = tmp_path / "question.json"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["query", "--question", str(file), "--format", "json", *more])


@pytest.fixture
def visits(engine: Engine) -> None:
    saved = {"active": True, "saved": True, "timezone": "Europe/Berlin"}
    store(engine, PbxConnection(id=1, host="pbx", **saved), PbxConnection(id=2, host="other"))
    others = {"connection_id": 2, "uniqueid": "9.9"}
    store(
        engine,
        visit(NOON, wait_s=10.0),
        visit(NOON, wait_s=20.0, queue="help"),
        visit(NOON + timedelta(minutes=5), wait_s=30.0),
        visit(NOON + timedelta(hours=1)),  # at 14:00
        visit(NOON, **others),
    )


def test_a_saved_question_is_answered_for_the_active_pbx(visits: None, tmp_path: Path) -> None:
    result = ask(tmp_path, json.dumps(QUESTION))
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == [
        {"queue": "sales", "offered": 2, "asa": 20.0, "asa_of": 2, "n": 2},
        {"queue": "help", "offered": 1, "asa": 20.0, "asa_of": 1, "n": 1},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "Invalid JSON"), ("\udcff", "can't be read"), (json.dumps(QUESTION | {"version": 2}), "newer version")],
)
def test_a_broken_question_is_refused(visits: None, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "question.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = CliRunner().invoke(app, ["query", "--question", str(file)])
    assert (result.exit_code, message in result.output) == (1, True), result.output


def test_a_statement_and_a_question_exclude_each_other(visits: None, tmp_path: Path) -> None:
    both = ask(tmp_path, json.dumps(QUESTION), "SELECT 1")
    assert (both.exit_code, "not both" in both.output) == (2, True)
    assert "belongs to a statement" in ask(tmp_path, json.dumps(QUESTION), "--param", "a=1").output
    assert CliRunner().invoke(app, ["query"]).exit_code == 2
    missing = CliRunner().invoke(app, ["query", "--question", str(tmp_path / "no.json")])
    assert (missing.exit_code, "can't be read: No such file" in missing.output) == (1, True)


def test_a_question_needs_a_pbx(engine: Engine, tmp_path: Path) -> None:
    result = ask(tmp_path, json.dumps(QUESTION))
    assert "No PBX is set up" in result.output
    assert result.exit_code > 0
