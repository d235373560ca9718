"""A job that exceeds its limit fails and closes its connections, and the next job of its kind runs."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.errors import DataError, JobOverdue
from pbx.jobs import limits, worker
from pbx.jobs.limits import LIMITS, JobLimit, run_limited
from pbx.jobs.worker import Worker, run_inline
from pbx.process_lock import ProcessLock, take_process_lock
from pbx.progress import Progress, Stop
from pbx.settings import Settings
from pbx.store import job_queue as queue
from pbx.store.models import JOB_NAMES
from pbx.store.pbx_connections import save_connection
from tests.unit.asterisk.ami.replay_server import Session, replay
from tests.unit.jobs.job_checks import job_state, jobs_of, wait_for


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of half a second."""
    monkeypatch.setattr(limits, "STOP_TIMEOUT_S", 0.5)
    monkeypatch.setattr(worker, "POLL_S", 0.05)
    for kind, limit in list(LIMITS.items()):
        monkeypatch.setitem(LIMITS, kind, JobLimit(0.5, limit.of_no_progress))


@pytest.fixture
def lock(settings: Settings) -> Iterator[ProcessLock]:
    with take_process_lock(settings.pbx_data_dir, "worker") as held:
        yield held


def ignore_progress(done: int, total: int | None) -> None: ...


@pytest.mark.parametrize("kind", LIMITS)
def test_a_job_that_hangs_fails_with_a_clear_error(kind: Any) -> None:
    closed = threading.Event()

    def hang(progress: Progress, stop: Stop) -> dict[str, Any]:
        with stop.closing(closed.set):
            closed.wait(20)
        return {}

    started = time.monotonic()
    with pytest.raises(JobOverdue, match=f"The {JOB_NAMES[kind]} (took longer than|made no progress for)") as caught:
        run_limited(kind, hang, ignore_progress, threading.Event())
    assert time.monotonic() - started < 10
    assert "pbx check" in caught.value.fix
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == f"{kind} job"], "ended")


@pytest.mark.parametrize(
    ("kind", "fails_at_limit"), [("sync", False), ("import", False), ("collect", True), ("make_playable", True)]
)
def test_progress_extends_only_jobs_of_unknown_length(kind: Any, fails_at_limit: bool) -> None:
    def slow(progress: Progress, stop: Stop) -> dict[str, Any]:
        for done in range(12):
            progress(done, 12)
            if stop.wait(0.1):
                return {}
        return {"new": 12}

    if fails_at_limit:
        with pytest.raises(JobOverdue):
            run_limited(kind, slow, ignore_progress, threading.Event())
    else:
        assert run_limited(kind, slow, ignore_progress, threading.Event()) == {"new": 12}


def test_repeating_the_same_progress_counts_as_no_progress() -> None:
    def loop(progress: Progress, stop: Stop) -> dict[str, Any]:
        while not stop.wait(0.05):
            progress(3, 9)
        return {}

    with pytest.raises(JobOverdue):
        run_limited("sync", loop, ignore_progress, threading.Event())


def test_a_job_receives_the_stop_and_its_errors_are_raised() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()

    def stops(progress: Progress, job_stop: Stop) -> dict[str, Any]:
        job_stop.wait(20)
        return {"new": 0}

    assert run_limited("sync", stops, ignore_progress, stop) == {"new": 0}

    def raises(progress: Progress, job_stop: Stop) -> dict[str, Any]:
        raise DataError("So it is.")

    with pytest.raises(DataError, match="So it is"):
        run_limited("sync", raises, ignore_progress, threading.Event())


def test_a_collect_that_hangs_at_the_pbx_fails_and_the_next_one_succeeds(
    engine: Engine, settings: Settings, lock: ProcessLock
) -> None:
    """At first the PBX answers nothing; later it works again."""

    def silent(session: Session) -> None:
        session.log_in()
        for _ in session.actions():
            session.send(b"Event: Alive\r\n\r\n")

    with replay(silent, Session.serve) as server:
        save_connection(engine, settings, server.connection())
        worker_of_test = Worker(engine, settings, lock, threading.Event(), None)
        first = queue.request_job(engine, settings, "collect", requested_by="page")
        worker_of_test._run_next("collect")
        assert job_state(engine, first) == "failed"
        assert "took longer than" in jobs_of(engine)[0].error
        wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("ami-")], "closed")
        second = queue.request_job(engine, settings, "collect", requested_by="page")
        LIMITS["collect"] = JobLimit(60)
        worker_of_test._run_next("collect")
        assert job_state(engine, second) == "done"


def test_a_worker_continues_when_a_job_never_returns(
    engine: Engine, settings: Settings, lock: ProcessLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    never = threading.Event()

    def hang_once(*_: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 1:
            never.wait(60)
        return {"new": len(calls)}

    monkeypatch.setitem(worker.JOBS, "sync", hang_once)
    stop = threading.Event()
    thread = threading.Thread(target=Worker(engine, settings, lock, stop, None).work)
    first = queue.request_job(engine, settings, "sync", requested_by="page")
    thread.start()
    wait_for(lambda: job_state(engine, first) == "failed", "failed")
    second = queue.request_job(engine, settings, "sync", requested_by="page")
    wait_for(lambda: job_state(engine, second) == "done", "done")
    stop.set()
    thread.join(20)
    never.set()
    assert not thread.is_alive()
    assert "made no progress" in jobs_of(engine)[0].error


def test_a_command_that_hangs_fails_too(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(job: worker.JobRun) -> dict[str, Any]:
        job.stop.wait(60)
        return {}

    monkeypatch.setitem(worker.JOBS, "collect", hang)
    with pytest.raises(JobOverdue):
        run_inline(engine, settings, "collect", {})
    assert [(job.state, "took longer" in job.error) for job in jobs_of(engine)] == [("failed", True)]
