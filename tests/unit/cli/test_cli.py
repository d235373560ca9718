"""The command line: exit status, JSON, and words for people, without a PBX. (With one: lab/test_cli.py.)"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pbx.__main__ import app
from pbx.cli.terminal import parse_time
from pbx.errors import Unreachable
from pbx.jobs import worker
from pbx.process_lock import take_process_lock
from pbx.settings import load_settings
from pbx.store.engine import open_engine, writing
from pbx.store.job_rows import add_job, last_job, start_job
from pbx.store.pbx_connections import active_connection
from tests.paths import ROOT

SECRET = "s3cret-of-the-pbx"
SYNCED = {"listed": 5, "new": 2, "downloaded": 1, "waiting": 1, "empty": 0, "failed": []}
run = CliRunner().invoke
JobFunction = Callable[..., dict[str, Any]]


@pytest.fixture
def pbx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PBX in the environment that nobody answers for."""
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    monkeypatch.setenv("FREEPBX_ARI_PORT", "1")
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")
    for interface in ("ARI", "AMI"):
        monkeypatch.setenv(f"FREEPBX_{interface}_USERNAME", "notebook")
        monkeypatch.setenv(f"FREEPBX_{interface}_PASSWORD", SECRET)


@pytest.fixture
def does(monkeypatch: pytest.MonkeyPatch, pbx: None) -> Callable[[str, JobFunction], None]:
    """Put a function in the place of what a kind of job does."""
    return lambda kind, function: monkeypatch.setitem(worker.JOBS, kind, function)


def test_help_needs_nothing_heavy() -> None:
    code = "import sys, pbx.__main__; print([m for m in ('pydantic', 'sqlalchemy', 'requests') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"
    help_text = subprocess.run([sys.executable, "-m", "pbx", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert help_text.returncode == 0
    assert all(command in help_text.stdout for command in ("check", "collect", "sync", "worker", "status"))


@pytest.mark.parametrize("command", ["check", "collect", "sync"])
def test_without_a_pbx_it_says_what_to_do(command: str) -> None:
    said = run(app, [command])
    assert (said.exit_code, said.stdout) == (2, "")
    assert said.stderr.startswith("✗ No PBX is set up yet.\nEnter it in the app under Settings")
    told = run(app, [command, "--json"])
    assert (told.exit_code, told.stderr) == (2, "")
    assert json.loads(told.stdout).keys() == {"error", "fix"}


@pytest.mark.parametrize("command", ["check", "collect", "sync", "status", "worker"])
def test_a_wrong_setting_is_named_without_its_value(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_AMI_PORT", "99999-nonsense")
    said = run(app, [command, "--json"])
    assert said.exit_code == 2
    assert "FREEPBX_AMI_PORT" in json.loads(said.stdout)["error"]
    assert "99999-nonsense" not in said.output


@pytest.mark.parametrize(
    "wrong",
    [
        ["nothing"],
        ["sync", "--limit", "0"],
        ["sync", "--since", "yesterday"],
        ["sync", "--parallel", "0"],
        ["status", "x"],
    ],
)
def test_wrong_use_exits_with_2(wrong: list[str], pbx: None) -> None:
    assert run(app, wrong).exit_code == 2


def test_sync_prints_its_numbers(does: Callable[[str, JobFunction], None]) -> None:
    seen: list[dict[str, Any]] = []
    does("sync", lambda job: seen.append(job.options) or SYNCED)
    said = run(app, ["sync", "--since", "2026-01-31T08:00+01:00", "--limit", "7", "--json"])
    assert (said.exit_code, said.stderr) == (0, "")
    assert json.loads(said.stdout) == SYNCED
    assert (seen[0]["since"], seen[0]["limit"], seen[0]["parallel"]) == ("2026-01-31T08:00:00+01:00", 7, 4)
    assert "listed 5, new 2, downloaded 1" in run(app, ["sync"]).stdout


def test_a_recording_that_failed_is_named_and_exits_with_1(does: Callable[[str, JobFunction], None]) -> None:
    failed = [{"name": "2026/a[b]", "reason": "cut short"}]
    does("sync", lambda *_: SYNCED | {"failed": failed})
    said = run(app, ["sync"])
    assert said.exit_code == 1
    assert "✗ 2026/a[b]: cut short" in said.stderr
    assert "failed 1" in said.stdout
    told = run(app, ["sync", "--json"])
    assert (told.exit_code, json.loads(told.stdout)["failed"]) == (1, failed)


def test_a_job_done_here_is_recorded(does: Callable[[str, JobFunction], None]) -> None:
    does("sync", lambda *_: SYNCED | {"failed": [{"name": str(n), "reason": "x"} for n in range(500)]})
    run(app, ["sync"])
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["state"] == "done"
    assert status["last"]["sync"]["requested_by"] == "command line"
    assert len(status["last"]["sync"]["result"]["failed"]) == 100
    assert status["last"]["collect"] is None
    assert status["jobs"] == []


def test_a_dry_run_leaves_no_trace(does: Callable[[str, JobFunction], None]) -> None:
    does("sync", lambda *_: SYNCED)
    assert run(app, ["sync", "--dry-run"]).stdout.startswith("Dry run: listed 5")
    assert json.loads(run(app, ["status", "--json"]).stdout)["last"]["sync"] is None


def refuse(*_: object) -> dict[str, Any]:
    raise Unreachable("The PBX does not answer.", "Look at its network cable.")


def test_an_error_is_told_with_its_fix_and_kept(does: Callable[[str, JobFunction], None]) -> None:
    does("sync", refuse)
    said = run(app, ["sync"])
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr == "✗ The PBX does not answer.\nLook at its network cable.\n"
    told = run(app, ["sync", "--json"])
    assert (told.exit_code, told.stderr) == (1, "")
    assert json.loads(told.stdout) == {"error": "The PBX does not answer.", "fix": "Look at its network cable."}
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["error"] == "The PBX does not answer. Look at its network cable."


def test_ctrl_c_exits_with_130_and_is_recorded(does: Callable[[str, JobFunction], None]) -> None:
    def interrupted(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    does("sync", interrupted)
    said = run(app, ["sync"])
    assert (said.exit_code, said.stdout) == (130, "")
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["state"] == "failed"
    assert "stopped before it finished" in status["last"]["sync"]["error"]


def test_a_second_sync_is_refused_while_one_runs(does: Callable[[str, JobFunction], None]) -> None:
    does("sync", lambda *_: SYNCED)
    settings = load_settings()
    engine = open_engine(settings)
    active = active_connection(engine, settings)
    assert active is not None
    with take_process_lock(settings.pbx_data_dir, "worker") as slot:
        with writing(engine) as session:
            add_job(session, "running", "sync", connection_id=active.id, requested_by="page")
            start_job(session, "running", slot.name)
        said = run(app, ["sync"])
        assert said.exit_code == 1
        assert "already running (requested by page)" in said.stderr
    with writing(engine) as session:  # its worker is gone: it is queued again, and in nobody's way
        assert last_job(session, "sync", "running") is not None
    assert run(app, ["sync"]).exit_code == 0
    with writing(engine) as session:
        assert last_job(session, "sync", "queued") is not None
    engine.dispose()


def test_collect_tells_what_it_could_not_see(does: Callable[[str, JobFunction], None]) -> None:
    counts = {"collected_at": "2026-05-04T12:00:00Z", "extensions": 4, "trunks": 3, "queues": 0, "active_calls": 0}
    part = {"state": "denied", "reason": "The user lacks the right 'agent'."}
    does("collect", lambda *_: counts | {"output": "data/freepbx.json", "incomplete_parts": {"queues": part}})
    said = run(app, ["collect"])
    assert said.exit_code == 1
    assert "queues: denied. The user lacks the right 'agent'." in said.stderr
    assert "4 extensions, 3 trunks, 0 queues, 0 active calls → data/freepbx.json" in said.stdout
    absent = part | {"state": "absent"}
    does("collect", lambda *_: counts | {"output": "data/freepbx.json", "incomplete_parts": {"queues": absent}})
    assert run(app, ["collect"]).exit_code == 0


def test_check_of_a_closed_port_fails_and_never_says_the_password(pbx: None) -> None:
    said = run(app, ["check"])
    assert said.exit_code == 1
    assert "✗" in said.stdout
    told = json.loads(run(app, ["check", "--json"]).stdout)
    assert told["ok"] is False
    assert {step["state"] for step in told["steps"]} >= {"failed"}
    assert any(step["fix"] for step in told["steps"])


@pytest.mark.parametrize("command", ["check", "collect", "sync", "status"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_command_says_a_password(command: str, as_json: list[str], pbx: None) -> None:
    said = run(app, [command, *as_json])
    assert "Traceback" not in said.output
    assert SECRET not in said.output


def test_status_of_an_empty_cache(no_real_data: Path) -> None:
    said = run(app, ["status"])
    assert said.exit_code == 0
    assert "not set up yet" in said.stdout
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert (status["pbx"], status["worker_alive"], status["recordings"]) == (None, False, {})
    assert status["data_dir"] == str(no_real_data)
    assert status["database"]["size_bytes"] > 0
    assert status["database"]["revision"]


def test_a_data_directory_that_can_not_be_made_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PBX_DATA_DIR", str(tmp_path / "file" / "data"))
    for command in ("status", "worker"):
        said = run(app, [command])
        assert said.exit_code == 1
        assert "data directory" in said.stderr


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, "-m", "pbx", "status"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.stderr == b""


def test_times_without_a_zone_are_the_pbx_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_TIMEZONE", "Europe/Berlin")
    assert parse_time("2026-01-31", "--since") == "2026-01-31T00:00:00+01:00"
    assert parse_time("2026-01-31", "--until", end_of_day=True) == "2026-02-01T00:00:00+01:00"
    assert parse_time("2026-07-31T08:30", "--until", end_of_day=True) == "2026-07-31T08:30:00+02:00"
    assert parse_time("2026-07-31T08:30Z", "--since") == "2026-07-31T08:30:00+00:00"
    assert parse_time("", "--since") is None
    for beyond in ("0001-01-01", "9999-12-31", "0001-01-01T00:00+14:00", "tomorrow"):
        with pytest.raises(typer.BadParameter, match="use the format"):
            parse_time(beyond, "--until", end_of_day=beyond.startswith("9999"))
