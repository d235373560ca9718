"""Commands without a PBX: exit status, JSON and text for people. (With a PBX: lab/test_cli.py.)"""

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
    """The environment names a PBX that doesn't answer."""
    monkeypatch.setenv("FREEPBX_HOST", "127.0.0.1")
    monkeypatch.setenv("FREEPBX_ARI_PORT", "1")
    monkeypatch.setenv("FREEPBX_AMI_PORT", "1")
    for interface in ("ARI", "AMI"):
        monkeypatch.setenv(f"FREEPBX_{interface}_USERNAME", "notebook")
        monkeypatch.setenv(f"FREEPBX_{interface}_PASSWORD", SECRET)


@pytest.fixture
def replace_job(monkeypatch: pytest.MonkeyPatch, pbx: None) -> Callable[[str, JobFunction], None]:
    """Returns a function that replaces what a kind of job does."""
    return lambda kind, function: monkeypatch.setitem(worker.JOBS, kind, function)


def test_help_imports_no_large_libraries() -> None:
    code = "import sys, pbx.__main__; print([m for m in ('pydantic', 'sqlalchemy', 'requests') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"
    help_text = subprocess.run([sys.executable, "-m", "pbx", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert help_text.returncode == 0
    assert all(command in help_text.stdout for command in ("check", "collect", "sync", "worker", "status"))


@pytest.mark.parametrize("command", ["check", "collect", "sync"])
def test_without_a_pbx_the_error_says_what_to_do(command: str) -> None:
    result = run(app, [command])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("✗ No PBX is set up yet.\nEnter it in the app under Settings")
    json_result = run(app, [command, "--json"])
    assert (json_result.exit_code, json_result.stderr) == (2, "")
    assert json.loads(json_result.stdout).keys() == {"error", "fix"}


@pytest.mark.parametrize("command", ["check", "collect", "sync", "status", "worker"])
def test_the_error_names_a_wrong_setting_without_its_value(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_AMI_PORT", "99999-nonsense")
    result = run(app, [command, "--json"])
    assert result.exit_code == 2
    assert "FREEPBX_AMI_PORT" in json.loads(result.stdout)["error"]
    assert "99999-nonsense" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["sync", "--limit", "0"],
        ["sync", "--since", "yesterday"],
        ["sync", "--parallel", "0"],
        ["status", "x"],
    ],
)
def test_invalid_arguments_exit_with_2(arguments: list[str], pbx: None) -> None:
    assert run(app, arguments).exit_code == 2


def test_sync_prints_its_counts(replace_job: Callable[[str, JobFunction], None]) -> None:
    options: list[dict[str, Any]] = []
    replace_job("sync", lambda job: options.append(job.options) or SYNCED)
    result = run(app, ["sync", "--since", "2026-01-31T08:00+01:00", "--limit", "7", "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == SYNCED
    assert (options[0]["since"], options[0]["limit"], options[0]["parallel"]) == ("2026-01-31T08:00:00+01:00", 7, 4)
    assert "listed 5, new 2, downloaded 1" in run(app, ["sync"]).stdout


def test_sync_names_a_failed_recording_and_exits_with_1(replace_job: Callable[[str, JobFunction], None]) -> None:
    failed = [{"name": "2026/a[b]", "reason": "cut short"}]
    replace_job("sync", lambda *_: SYNCED | {"failed": failed})
    result = run(app, ["sync"])
    assert result.exit_code == 1
    assert "✗ 2026/a[b]: cut short" in result.stderr
    assert "failed 1" in result.stdout
    json_result = run(app, ["sync", "--json"])
    assert (json_result.exit_code, json.loads(json_result.stdout)["failed"]) == (1, failed)


def test_a_job_of_a_command_is_stored(replace_job: Callable[[str, JobFunction], None]) -> None:
    replace_job("sync", lambda *_: SYNCED | {"failed": [{"name": str(n), "reason": "x"} for n in range(500)]})
    run(app, ["sync"])
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["state"] == "done"
    assert status["last"]["sync"]["requested_by"] == "command line"
    assert len(status["last"]["sync"]["result"]["failed"]) == 100
    assert status["last"]["collect"] is None
    assert status["jobs"] == []


def test_a_dry_run_is_not_stored(replace_job: Callable[[str, JobFunction], None]) -> None:
    replace_job("sync", lambda *_: SYNCED)
    assert run(app, ["sync", "--dry-run"]).stdout.startswith("Dry run: listed 5")
    assert json.loads(run(app, ["status", "--json"]).stdout)["last"]["sync"] is None


def fail(*_: object) -> dict[str, Any]:
    raise Unreachable("The PBX does not answer.", "Look at its network cable.")


def test_an_error_is_printed_with_its_fix_and_stored(replace_job: Callable[[str, JobFunction], None]) -> None:
    replace_job("sync", fail)
    result = run(app, ["sync"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "✗ The PBX does not answer.\nLook at its network cable.\n"
    json_result = run(app, ["sync", "--json"])
    assert (json_result.exit_code, json_result.stderr) == (1, "")
    assert json.loads(json_result.stdout) == {"error": "The PBX does not answer.", "fix": "Look at its network cable."}
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["error"] == "The PBX does not answer. Look at its network cable."


def test_ctrl_c_exits_with_130_and_is_stored(replace_job: Callable[[str, JobFunction], None]) -> None:
    def interrupt(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    replace_job("sync", interrupt)
    result = run(app, ["sync"])
    assert (result.exit_code, result.stdout) == (130, "")
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert status["last"]["sync"]["state"] == "failed"
    assert "stopped before it finished" in status["last"]["sync"]["error"]


def test_a_second_sync_is_refused_while_one_runs(replace_job: Callable[[str, JobFunction], None]) -> None:
    replace_job("sync", lambda *_: SYNCED)
    settings = load_settings()
    engine = open_engine(settings)
    active = active_connection(engine, settings)
    assert active is not None
    with take_process_lock(settings.pbx_data_dir, "worker") as lock:
        with writing(engine) as session:
            add_job(session, "running", "sync", connection_id=active.id, requested_by="page")
            start_job(session, "running", lock.name)
        result = run(app, ["sync"])
        assert result.exit_code == 1
        text = "A sync started from the web app is already running. Try again when it has finished."
        assert text in " ".join(result.stderr.split())
    with writing(engine) as session:  # its worker has ended: the job is queued again and blocks no other
        assert last_job(session, "sync", "running") is not None
    assert run(app, ["sync"]).exit_code == 0
    with writing(engine) as session:
        assert last_job(session, "sync", "queued") is not None
    engine.dispose()


def test_collect_reports_parts_it_could_not_read(replace_job: Callable[[str, JobFunction], None]) -> None:
    counts = {"collected_at": "2026-05-04T12:00:00Z", "extensions": 4, "trunks": 3, "queues": 0, "active_calls": 0}
    part = {"state": "denied", "reason": "The user lacks the right 'agent'."}
    replace_job("collect", lambda *_: counts | {"output": "data/freepbx.json", "incomplete_parts": {"queues": part}})
    result = run(app, ["collect"])
    assert result.exit_code == 1
    assert "queues: denied. The user lacks the right 'agent'." in result.stderr
    assert "4 extensions, 3 trunks, 0 queues, 0 active calls → data/freepbx.json" in result.stdout
    absent = part | {"state": "absent"}
    replace_job("collect", lambda *_: counts | {"output": "data/freepbx.json", "incomplete_parts": {"queues": absent}})
    assert run(app, ["collect"]).exit_code == 0


def test_check_of_a_closed_port_fails_with_a_fix(pbx: None) -> None:
    result = run(app, ["check"])
    assert result.exit_code == 1
    assert "✗" in result.stdout
    json_result = json.loads(run(app, ["check", "--json"]).stdout)
    assert json_result["ok"] is False
    assert {step["state"] for step in json_result["steps"]} >= {"failed"}
    assert any(step["fix"] for step in json_result["steps"])


@pytest.mark.parametrize("command", ["check", "collect", "sync", "status"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_command_prints_a_password(command: str, as_json: list[str], pbx: None) -> None:
    result = run(app, [command, *as_json])
    assert "Traceback" not in result.output
    assert SECRET not in result.output


def test_status_works_with_an_empty_database(no_real_data: Path) -> None:
    result = run(app, ["status"])
    assert result.exit_code == 0
    assert "not set up yet" in result.stdout
    status = json.loads(run(app, ["status", "--json"]).stdout)
    assert (status["pbx"], status["worker_alive"], status["recordings"]) == (None, False, {})
    assert status["data_dir"] == str(no_real_data)
    assert status["database"]["size_bytes"] > 0
    assert status["database"]["revision"]


def test_a_data_directory_that_cannot_be_created_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PBX_DATA_DIR", str(tmp_path / "file" / "data"))
    for command in ("status", "worker"):
        result = run(app, [command])
        assert result.exit_code == 1
        assert "data directory" in result.stderr


def test_a_closed_pipe_prints_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run([sys.executable, "-m", "pbx", "status"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.stderr == b""


def test_times_without_a_zone_are_in_the_pbxs_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEPBX_TIMEZONE", "Europe/Berlin")
    assert parse_time("2026-01-31", "--since") == "2026-01-31T00:00:00+01:00"
    assert parse_time("2026-01-31", "--until", end_of_day=True) == "2026-02-01T00:00:00+01:00"
    assert parse_time("2026-07-31T08:30", "--until", end_of_day=True) == "2026-07-31T08:30:00+02:00"
    assert parse_time("2026-07-31T08:30Z", "--since") == "2026-07-31T08:30:00+00:00"
    assert parse_time("", "--since") is None
    for invalid in ("0001-01-01", "9999-12-31", "0001-01-01T00:00+14:00", "tomorrow"):
        with pytest.raises(typer.BadParameter, match="use the format"):
            parse_time(invalid, "--until", end_of_day=invalid.startswith("9999"))
