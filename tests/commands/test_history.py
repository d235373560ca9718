"""`python -m pbx import queue-log`: exit status, words and JSON."""

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from pbx.__main__ import app
from tests.history.queue_logs import T, lines

run = CliRunner().invoke
CALL = ("0|9.1|sales|NONE|ENTERQUEUE||555|1", "3|9.1|sales|NONE|ABANDON|1|1|3", "4|NONE|sales|Eve|PAUSE|Lunch")


@pytest.fixture
def pbx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "queue_log"
    path.write_bytes(b"\n".join([*lines(*CALL), b"nonsense", *lines("5|9.1|sales|Eve|HOORAY|")]) + b"\n")
    return path


def test_it_says_what_it_read_and_what_it_could_not(pbx: None, log: Path) -> None:
    said = run(app, ["import", "queue-log", str(log)])
    assert (said.exit_code, said.stdout) == (
        0,
        "queue_log: 5 lines, 1 visit, 0 rings in vain, 1 agent change new or completed\n",
    )
    assert "HOORAY (1)" in said.stderr
    assert "line 4: 1 fields where queue_log has 5 or more" in said.stderr
    again = run(app, ["import", "queue-log", str(log)])
    assert (again.exit_code, again.stdout) == (0, "queue_log: nothing new\n")


def test_json_for_machines(pbx: None, log: Path) -> None:
    told = run(app, ["import", "queue-log", str(log), "--json"])
    (source,) = json.loads(told.stdout)["sources"]
    assert (source["rows"], source["bad"], source["visits"], source["faults"][0][0]) == (5, 1, 1, 4)
    assert told.stderr == ""


def test_a_damaged_file_is_a_failure(pbx: None, tmp_path: Path) -> None:
    broken = tmp_path / "queue_log.gz"
    broken.write_bytes(b"\x1f\x8bnot gzip at all")
    said = run(app, ["import", "queue-log", str(broken)])
    assert said.exit_code == 1
    assert "queue_log.gz is damaged" in said.stderr


def test_wrong_use(pbx: None, tmp_path: Path) -> None:
    nothing = run(app, ["import", "queue-log"])
    assert nothing.exit_code == 2
    assert "/var/log/asterisk/queue_log" in nothing.stderr
    missing = run(app, ["import", "queue-log", str(tmp_path / "nowhere")])
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "There is no file" in missing.stderr


def test_without_a_pbx_it_says_what_to_do(log: Path) -> None:
    said = run(app, ["import", "queue-log", str(log)])
    assert said.exit_code == 2
    assert "No PBX is set up yet." in said.stderr


def test_a_database_of_which_no_password_is_told(pbx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = create_engine(f"sqlite:///{tmp_path}/site.sqlite")
    with site.begin() as connection:
        names = "time, callid, queuename, agent, event, data"
        connection.execute(text(f"create table queuelog ({names})"))
        connection.execute(text(f"insert into queuelog values ('{T}', '9.1', 'sales', 'NONE', 'ENTERQUEUE', '|555|1')"))
    monkeypatch.setenv("PBX_IMPORT_URL", str(site.url))
    assert "queuelog: 1 line, 1 visit" in run(app, ["import", "queue-log"]).stdout
    site.dispose()
    for wrong in ("mysql://me:geheim@127.0.0.1:1/x", "nosql://me:geheim@h/x"):
        said = run(app, ["import", "queue-log", "--url", wrong])
        assert said.exit_code in (1, 2)
        assert "geheim" not in said.output
