"""Jobs and transcriptions follow the same rules for claimed rows."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, Row, select
from sqlmodel import Session

from pbx.process_lock import take_process_lock
from pbx.settings import Settings
from pbx.store.engine import writing
from pbx.store.job_rows import JOBS, add_job
from pbx.store.models import CallRow, PbxConnection, RecordingRow, Transcription
from pbx.store.transcription_claims import TRANSCRIPTIONS
from pbx.store.work_queue import MAX_ATTEMPTS, WorkQueue

Work = tuple[WorkQueue, Any]  # a queue, and the key of its one queued row


@pytest.fixture(autouse=True)
def _add_queued_rows(engine: Engine) -> None:
    """Add a queued job and a queued transcription."""
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))
        session.flush()
        session.add(CallRow(id=1, connection_id=1, linkedid="1"))
        session.flush()
        session.add(RecordingRow(id=7, connection_id=1, call_id=1, name="r7", state="downloaded"))
        session.flush()
        session.add(Transcription(recording_id=7, connection_id=1))
        add_job(session, "sync-7", "sync", connection_id=1, requested_by="page")


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with writing(engine) as session:
        yield session


@pytest.fixture(params=["jobs", "transcriptions"])
def work(request: pytest.FixtureRequest) -> Work:
    return (JOBS, "sync-7") if request.param == "jobs" else (TRANSCRIPTIONS, 7)


def row(session: Session, work: Work) -> Row[Any]:
    queue, key = work
    return session.connection().execute(select(queue.table).where(queue.table.c[queue.key] == key)).one()


def test_only_one_worker_claims_a_row(session: Session, work: Work) -> None:
    queue, key = work
    assert queue.workers(session) == []
    assert queue.claim(session, "worker-1", [key]) == 1
    assert queue.claim(session, "worker-2", [key]) == 0
    found = row(session, work)
    assert (found.state, found.worker, found.attempts) == (queue.running, "worker-1", 1)
    assert found.started_at is not None
    assert queue.workers(session) == ["worker-1"]


@pytest.mark.parametrize("ending", ["complete", "fail"])
def test_only_its_worker_ends_a_row_and_only_once(session: Session, work: Work, ending: str) -> None:
    queue, key = work

    def end(worker: str) -> bool:
        if ending == "complete":
            return queue.complete(session, worker, key)
        return queue.fail(session, worker, key, "It broke.")

    assert not end("worker-1")
    queue.claim(session, "worker-1", [key])
    assert not queue.report(session, "worker-2", key, attempts=9)
    assert not end("worker-2")
    assert row(session, work).state == queue.running
    assert row(session, work).attempts == 1
    assert end("worker-1")
    assert not end("worker-1")
    assert not queue.report(session, "worker-1", key, attempts=9)
    assert queue.claim(session, "worker-2", [key]) == 0
    found = row(session, work)
    assert (found.state, found.error) == ((queue.done, "") if ending == "complete" else ("failed", "It broke."))
    assert found.ended_at is not None


def test_a_row_that_kills_every_worker_fails_after_three_attempts(session: Session, work: Work) -> None:
    queue, key = work
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert queue.claim(session, "worker-1", [key]) == 1
        assert queue.requeue(session, "worker-2", died=True) == []
        state = "queued" if attempt < MAX_ATTEMPTS else "failed"
        assert queue.requeue(session, "worker-1", died=True) == [(key, state)]
    found = row(session, work)
    assert (found.state, found.error) == ("failed", queue.died_text(3))
    assert "3 times" in found.error


def test_an_orderly_stop_counts_no_attempt(session: Session, work: Work) -> None:
    queue, key = work
    for _ in range(MAX_ATTEMPTS + 1):
        assert queue.claim(session, "worker-1", [key]) == 1
        assert queue.requeue(session, "worker-1", died=False) == [(key, "queued")]
    assert row(session, work).attempts == 0


def test_a_worker_is_dead_when_its_process_lock_is_free(engine: Engine, settings: Settings, work: Work) -> None:
    queue, key = work
    with take_process_lock(settings.pbx_data_dir, "worker") as lock:
        with writing(engine) as session:
            queue.claim(session, lock.name, [key])
        assert list(queue.dead_workers(engine, settings.pbx_data_dir)) == []
    assert list(queue.dead_workers(engine, settings.pbx_data_dir)) == [lock.name]
