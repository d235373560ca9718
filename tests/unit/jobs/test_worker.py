"""Worker processes run a job once, continue the jobs of killed workers, and stop in an orderly way."""

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
    """Starts slow_worker.py as a process; the fixture ends all of them after the test."""
    script = str(Path(__file__).with_name("slow_worker.py"))
    with processes() as start:
        yield lambda *arguments: start([sys.executable, script, *arguments], env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_two_workers_run_a_job_once(engine: Engine, settings: Settings, start: StartProcess) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    start()
    start()
    wait_for(lambda: log_of(settings), "started")
    wait_for(lambda: len(list(settings.pbx_data_dir.glob("worker-*.lock"))) == 2, "two workers running")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")
    assert [line.split()[1] for line in log_of(settings)] == ["begins", "ends"]
    assert jobs_of(engine)[0].result == {"new": 2}


def test_another_worker_continues_the_job_of_a_killed_worker(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    first = start()
    wait_for(lambda: log_of(settings), "started")
    second = start()
    wait_for(lambda: (settings.pbx_data_dir / "worker-1.lock").exists(), "the second worker running")
    first.kill()
    first.wait()
    wait_for(lambda: len(log_of(settings)) == 2, "started again")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")
    assert log_of(settings) == [f"{first.pid} begins", f"{second.pid} begins", f"{second.pid} ends"]
    assert jobs_of(engine)[0].attempts == 2


def test_a_worker_started_later_continues_the_job_of_a_killed_worker(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    first = start()
    wait_for(lambda: log_of(settings), "started")
    first.kill()
    first.wait()
    release_sync(settings)
    second = start("--once")
    assert second.wait(60) == 0
    assert log_of(settings) == [f"{first.pid} begins", f"{second.pid} begins", f"{second.pid} ends"]


@needs_posix
@pytest.mark.parametrize("options", [{}, {"ignore_stop": True}])
@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_ends_and_requeues_its_job(
    engine: Engine, settings: Settings, start: StartProcess, signal_sent: signal.Signals, options: dict[str, bool]
) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page", options=options)
    process = start()
    wait_for(lambda: log_of(settings), "started")
    process.send_signal(signal_sent)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (0 if signal_sent == signal.SIGTERM else 130)
    assert "has ended" in stderr
    assert "Traceback" not in stderr
    assert (job_state(engine, job), jobs_of(engine)[0].attempts) == ("queued", 0)
    assert not queue.worker_alive(settings)


@needs_posix
def test_a_worker_with_once_that_is_stopped_requeues_its_job(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    process = start("--once")
    wait_for(lambda: log_of(settings), "started")
    process.terminate()
    assert process.wait(60) == 0
    assert [(job.state, job.attempts) for job in jobs_of(engine)] == [("queued", 0)]


def test_a_worker_whose_data_directory_is_deleted_ends(settings: Settings, start: StartProcess) -> None:
    process = start()
    assert process.stderr is not None
    assert "is at work" in process.stderr.readline()
    shutil.rmtree(settings.pbx_data_dir, ignore_errors=True)  # the worker may be writing to it
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was deleted under the worker" in stderr


def test_the_progress_of_a_running_job_is_stored(engine: Engine, settings: Settings, start: StartProcess) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    start()
    wait_for(lambda: jobs_of(engine)[0].total == 2, "progress")
    assert (jobs_of(engine)[0].done, jobs_of(engine)[0].state) == (1, "running")


def test_a_new_worker_schedules_jobs_immediately(
    engine: Engine, settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEPBX_ARI_USERNAME", "ari")
    start()
    wait_for(lambda: log_of(settings), "started")
    assert [(job.kind, job.requested_by) for job in jobs_of(engine)] == [("sync", "schedule")]


def test_a_waiting_worker_uses_a_pbx_that_is_saved_later(
    settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FREEPBX_HOST")
    process = start()
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert "No PBX is set up yet; waiting" in lines[1]
    engine = open_engine(settings)
    connection = settings.model_copy(update={"freepbx_ari_username": "ari"}).connection
    assert connection is not None
    save_connection(engine, settings, connection)
    assert "The PBX is 127.0.0.1" in process.stderr.readline()
    wait_for(lambda: log_of(settings), "started")
    engine.dispose()


def test_a_failed_job_has_an_error_and_the_worker_continues(
    engine: Engine, settings: Settings, start: StartProcess
) -> None:
    # The real collect finds no PBX; the same worker then runs the sync.
    failed_job = queue.request_job(engine, settings, "collect", requested_by="page")
    start()
    wait_for(lambda: job_state(engine, failed_job) == "failed", "failed")
    assert len(jobs_of(engine)[0].error) > 20
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    release_sync(settings)
    wait_for(lambda: job_state(engine, job) == "done", "done")


def test_a_job_for_a_pbx_that_is_no_longer_active_fails_with_a_clear_error(
    engine: Engine, settings: Settings, start: StartProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    monkeypatch.setenv("FREEPBX_HOST", "other.test")
    assert start("--once").wait(60) == 1
    assert "a different PBX" in jobs_of(engine)[0].error
    assert log_of(settings) == []


def test_json_prints_one_line_per_job(engine: Engine, settings: Settings, start: StartProcess) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    release_sync(settings)
    stdout, _ = start("--once", "--json", "--quiet").communicate(timeout=60)
    assert f'"id": "{job.id}"' in stdout
    assert '"state": "done"' in stdout
    assert stdout.count("\n") == 1


# The worker that the app starts


def test_a_worker_is_started_only_if_none_is_running(settings: Settings) -> None:
    assert not queue.worker_alive(settings)
    try:
        for _ in range(3):
            queue.ensure_worker(settings)
            assert queue.worker_alive(settings)
        wait_for(lambda: "is at work" in (settings.pbx_data_dir / "worker.log").read_text(), "running")
        assert len(workers_of_this_process()) == 1
        locks = sorted(path.name for path in settings.pbx_data_dir.glob("*.lock"))
        assert locks == ["worker-0.lock", "worker-start.lock"]
    finally:
        for process in workers_of_this_process():
            process.terminate()
    wait_for(lambda: not queue.worker_alive(settings), "ended")


def workers_of_this_process() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker" in child.cmdline()]


def test_a_command_requeues_the_job_of_a_killed_command(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command gets the name of the killed one: without a worker, nothing else would requeue its job."""
    monkeypatch.setitem(worker.JOBS, "collect", lambda *_: {"extensions": 1})
    pbx = active_connection(engine, settings)
    assert pbx is not None
    orphaned = queue.start_inline(engine, "collect", pbx.id, "here-0", {})
    assert worker.run_inline(engine, settings, "collect", {}) == {"extensions": 1}
    assert {job.id == orphaned.id: job.state for job in jobs_of(engine)} == {True: "queued", False: "done"}
