"""A job that is past its limit ends, closes what it waited for, and the next of its kind is done."""

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
from pbx.store.pbx_connections import save_connection
from tests.unit.asterisk.ami.replay_server import Session, replay
from tests.unit.jobs.job_checks import job_state, jobs_of, wait_for


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of half a second."""
    monkeypatch.setattr(limits, "STOP_TIMEOUT_S", 0.5)
    monkeypatch.setattr(worker, "POLL_S", 0.05)
    for kind, limit in list(LIMITS.items()):
        monkeypatch.setitem(LIMITS, kind, JobLimit(0.5, limit.of_no_progress))


@pytest.fixture
def slot(settings: Settings) -> Iterator[ProcessLock]:
    with take_process_lock(settings.pbx_data_dir, "worker") as held:
        yield held


def nobody(done: int, total: int | None) -> None: ...


@pytest.mark.parametrize("kind", LIMITS)
def test_a_job_that_hangs_is_ended_with_a_clear_sentence(kind: Any) -> None:
    closed = threading.Event()

    def hang(progress: Progress, stop: Stop) -> dict[str, Any]:
        with stop.closing(closed.set):
            closed.wait(20)
        return {}

    begun = time.monotonic()
    with pytest.raises(JobOverdue, match=f"The {kind} (took longer than|made no progress for)") as caught:
        run_limited(kind, hang, nobody, threading.Event())
    assert time.monotonic() - begun < 10
    assert "pbx check" in caught.value.fix
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == f"{kind} job"], "ended")


@pytest.mark.parametrize(
    ("kind", "ends"), [("sync", False), ("import", False), ("collect", True), ("make_playable", True)]
)
def test_progress_keeps_a_job_of_unknown_length_going_and_no_other(kind: Any, ends: bool) -> None:
    def slow(progress: Progress, stop: Stop) -> dict[str, Any]:
        for done in range(12):
            progress(done, 12)
            if stop.wait(0.1):
                return {}
        return {"new": 12}

    if ends:
        with pytest.raises(JobOverdue):
            run_limited(kind, slow, nobody, threading.Event())
    else:
        assert run_limited(kind, slow, nobody, threading.Event()) == {"new": 12}


def test_the_same_progress_again_and_again_is_none() -> None:
    def loop(progress: Progress, stop: Stop) -> dict[str, Any]:
        while not stop.wait(0.05):
            progress(3, 9)
        return {}

    with pytest.raises(JobOverdue):
        run_limited("sync", loop, nobody, threading.Event())


def test_a_job_that_is_stopped_is_told_and_what_it_raises_is_raised() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()

    def obeys(progress: Progress, own: Stop) -> dict[str, Any]:
        own.wait(20)
        return {"new": 0}

    assert run_limited("sync", obeys, nobody, stop) == {"new": 0}

    def fails(progress: Progress, own: Stop) -> dict[str, Any]:
        raise DataError("So it is.")

    with pytest.raises(DataError, match="So it is"):
        run_limited("sync", fails, nobody, threading.Event())


def test_a_collect_that_hangs_at_the_pbx_fails_and_the_next_is_done(
    engine: Engine, settings: Settings, slot: ProcessLock
) -> None:
    """The PBX answers nothing at first, and is healthy again afterwards."""

    def deaf(session: Session) -> None:
        session.log_in()
        for _ in session.actions():
            session.send(b"Event: Alive\r\n\r\n")

    with replay(deaf, Session.serve) as server:
        save_connection(engine, settings, server.connection())
        one = Worker(engine, settings, slot, threading.Event(), None)
        first = queue.request_job(engine, settings, "collect", requested_by="page")
        one._run_next("collect")
        assert job_state(engine, first) == "failed"
        assert "took longer than" in jobs_of(engine)[0].error
        wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("ami-")], "closed")
        second = queue.request_job(engine, settings, "collect", requested_by="page")
        LIMITS["collect"] = JobLimit(60)
        one._run_next("collect")
        assert job_state(engine, second) == "done"


def test_a_worker_goes_on_though_a_job_never_returns(
    engine: Engine, settings: Settings, slot: ProcessLock, monkeypatch: pytest.MonkeyPatch
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
    thread = threading.Thread(target=Worker(engine, settings, slot, stop, None).work)
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


def test_a_command_that_hangs_ends_too(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(job: worker.JobRun) -> dict[str, Any]:
        job.stop.wait(60)
        return {}

    monkeypatch.setitem(worker.JOBS, "collect", hang)
    with pytest.raises(JobOverdue):
        run_inline(engine, settings, "collect", {})
    assert [(job.state, "took longer" in job.error) for job in jobs_of(engine)] == [("failed", True)]
