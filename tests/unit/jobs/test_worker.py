"""Workers as real processes: a job is done once, the killed are replaced, the stopped end tidily."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine

from pbx.jobs import worker
from pbx.settings import Settings
from pbx.store import job_queue as queue
from pbx.store.engine import open_engine
from pbx.store.pbx_connections import active_connection, save_connection
from tests.operating_systems import needs_posix
from tests.paths import ROOT
from tests.processes import StartProcess, processes
from tests.unit.jobs.job_checks import job_state, jobs_of, log_of, release_sync, wait_for


@pytest.fixture
def start() -> Iterator[StartProcess]:
    """Start a worker with the slow sync as a process; all are ended with the test."""
    script = str(Path(__file__).with_name("slow_worker.py"))
    with processes() as start:
        yield lambda *arguments: start([sys.executable, script, *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_two_workers_do_a_job_once(engine: Engine, settings: Settings, start: StartProcess) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    start()
    start()
    wait_for(lambda: log_of(settings), "begun")
    wait_for(lambda: len(list(settings.pbx_data_dir.glob("worker-*.lock"))) == 2, "two at work")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")
    assert [line.split()[1] for line in log_of(settings)] == ["begins", "ends"]
    assert jobs_of(engine)[0].result == {"new": 2}


def test_a_killed_workers_job_is_taken_up_by_another(engine: Engine, settings: Settings, start: StartProcess) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    first = start()
    wait_for(lambda: log_of(settings), "begun")
    second = start()
    wait_for(lambda: (settings.pbx_data_dir / "worker-1.lock").exists(), "the second at work")
    first.kill()
    first.wait()
    wait_for(lambda: len(log_of(settings)) == 2, "begun again")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")
    assert log_of(settings) == [f"{first.pid} begins", f"{second.pid} begins", f"{second.pid} ends"]
    assert jobs_of(engine)[0].attempts == 2


def test_a_killed_workers_job_is_taken_up_by_its_follower(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    first = start()
    wait_for(lambda: log_of(settings), "begun")
    first.kill()
    first.wait()
    release_sync(settings)
    second = start("--once")
    assert second.wait(60) == 0
    assert log_of(settings) == [f"{first.pid} begins", f"{second.pid} begins", f"{second.pid} ends"]


@needs_posix
@pytest.mark.parametrize("options", [{}, {"deaf": True}])
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_ends_and_puts_its_job_back(
    engine: Engine, settings: Settings, start: StartProcess, sign: signal.Signals, options: dict[str, bool]
) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page", options=options)
    process = start()
    wait_for(lambda: log_of(settings), "begun")
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (0 if sign == signal.SIGTERM else 130)
    assert "has ended" in said
    assert "Traceback" not in said
    assert (job_state(engine, job), jobs_of(engine)[0].attempts) == ("queued", 0)
    assert not queue.worker_alive(settings)


@needs_posix
def test_a_worker_for_once_that_is_stopped_puts_its_job_back(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    process = start("--once")
    wait_for(lambda: log_of(settings), "begun")
    process.terminate()
    assert process.wait(60) == 0
    assert [(job.state, job.attempts) for job in jobs_of(engine)] == [("queued", 0)]


def test_a_worker_whose_data_directory_is_deleted_ends(settings: Settings, start: StartProcess) -> None:
    process = start()
    assert process.stderr is not None
    assert "is at work" in process.stderr.readline()
    shutil.rmtree(settings.pbx_data_dir, ignore_errors=True)  # it may be writing
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was deleted under the worker" in said


def test_progress_is_seen_while_it_runs(engine: Engine, settings: Settings, start: StartProcess) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    start()
    wait_for(lambda: jobs_of(engine)[0].total == 2, "progress")
    assert (jobs_of(engine)[0].done, jobs_of(engine)[0].state) == (1, "running")


def test_the_first_slot_is_due_at_once(
    engine: Engine, settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEPBX_ARI_USERNAME", "ari")
    start()
    wait_for(lambda: log_of(settings), "begun")
    assert [(job.kind, job.requested_by) for job in jobs_of(engine)] == [("sync", "schedule")]


def test_a_pbx_saved_while_the_worker_waits_is_picked_up(
    settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FREEPBX_HOST")
    process = start()
    assert process.stderr is not None
    said = [process.stderr.readline(), process.stderr.readline()]
    assert "No PBX is set up yet; waiting" in said[1]
    engine = open_engine(settings)
    connection = settings.model_copy(update={"freepbx_ari_username": "ari"}).connection
    assert connection is not None
    save_connection(engine, settings, connection)
    assert "The PBX is 127.0.0.1" in process.stderr.readline()
    wait_for(lambda: log_of(settings), "begun")
    engine.dispose()


def test_a_failed_job_tells_why_and_the_worker_goes_on(engine: Engine, settings: Settings, start: StartProcess) -> None:
    # The real collect finds no PBX; the sync after it is done by the same worker.
    failing = queue.request_job(engine, settings, "collect", requested_by="page")
    start()
    wait_for(lambda: job_state(engine, failing) == "failed", "failed")
    assert len(jobs_of(engine)[0].error) > 20
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")


def test_a_job_of_a_pbx_that_is_no_longer_the_one_fails_clearly(
    engine: Engine, settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    monkeypatch.setenv("FREEPBX_HOST", "other.test")
    assert start("--once").wait(60) == 1
    assert "a different PBX" in jobs_of(engine)[0].error
    assert log_of(settings) == []


def test_json_tells_each_job_in_a_line(engine: Engine, settings: Settings, start: StartProcess) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    release_sync(settings)
    told, _ = start("--once", "--json", "--quiet").communicate(timeout=60)
    assert f'"id": "{job.id}"' in told
    assert '"state": "done"' in told
    assert told.count("\n") == 1


# The app's own worker


def test_a_worker_is_started_when_none_is_alive_and_only_then(settings: Settings) -> None:
    assert not queue.worker_alive(settings)
    try:
        for _ in range(3):
            queue.ensure_worker(settings)
            assert queue.worker_alive(settings)
        wait_for(lambda: "is at work" in (settings.pbx_data_dir / "worker.log").read_text(), "at work")
        assert len(workers_started_here()) == 1
        locks = sorted(path.name for path in settings.pbx_data_dir.glob("*.lock"))
        assert locks == ["worker-0.lock", "worker-start.lock"]
    finally:
        for process in workers_started_here():
            process.terminate()
    wait_for(lambda: not queue.worker_alive(settings), "ended")


def workers_started_here() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker" in child.cmdline()]


def test_a_killed_command_is_no_obstacle_to_the_next(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one gets the killed one's name: without a worker nobody else would put its job back."""
    monkeypatch.setitem(worker.JOBS, "collect", lambda *_: {"extensions": 1})
    pbx = active_connection(engine, settings)
    assert pbx is not None
    left = queue.start_inline(engine, "collect", pbx.id, "here-0", {})
    assert worker.run_inline(engine, settings, "collect", {}) == {"extensions": 1}
    assert {job.id == left.id: job.state for job in jobs_of(engine)} == {True: "queued", False: "done"}
