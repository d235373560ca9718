"""Rows of jobs go from queued to running, and then to done or failed."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from pbx.store.engine import reading, writing
from pbx.store.job_rows import (
    add_job,
    end_job,
    fail_job,
    get_job,
    last_job,
    report_progress,
    start_job,
    unfinished_jobs,
)
from pbx.store.models import Job, PbxConnection, now


@pytest.fixture
def job(engine: Engine) -> str:
    with writing(engine) as session:
        session.add(PbxConnection(id=1, host="pbx"))
        session.flush()
        return add_job(session, "one", "sync", connection_id=1, requested_by="page", options={"limit": 5}).id


def read(engine: Engine, job_id: str) -> Job:
    with reading(engine) as session:
        found = get_job(session, job_id)
    assert found is not None
    return found


def test_a_new_job_is_queued(engine: Engine, job: str) -> None:
    found = read(engine, job)
    assert (found.state, found.attempts, found.options, found.requested_by) == ("queued", 0, {"limit": 5}, "page")
    assert found.requested_at.utcoffset() == timedelta(0)


def test_a_job_runs_and_is_done(engine: Engine, job: str) -> None:
    with writing(engine) as session:
        start_job(session, job, "worker-1")
        report_progress(session, "worker-1", job, 3, 7)
    found = read(engine, job)
    assert (found.state, found.worker, found.attempts, found.done, found.total) == ("running", "worker-1", 1, 3, 7)
    with writing(engine) as session:
        end_job(session, "worker-1", job, {"new": 7, "failed": []})
    found = read(engine, job)
    assert (found.state, found.result, found.error) == ("done", {"new": 7, "failed": []}, "")
    assert found.started_at is not None
    assert found.ended_at is not None
    assert found.requested_at <= found.started_at <= found.ended_at


def test_a_failed_job_keeps_its_error_and_result(engine: Engine, job: str) -> None:
    with writing(engine) as session:
        start_job(session, job, "worker-1")
        fail_job(session, "worker-1", job, "The PBX can't be reached. Check the host.", {"listed": 4})
    found = read(engine, job)
    assert (found.state, found.error) == ("failed", "The PBX can't be reached. Check the host.")
    assert found.result == {"listed": 4}


def test_unfinished_jobs_are_listed_in_the_order_of_request(engine: Engine, job: str) -> None:
    with writing(engine) as session:
        session.add(Job(id="earlier", kind="collect", requested_at=now() - timedelta(minutes=1)))
        session.add(Job(id="over", kind="sync", state="done"))
    with reading(engine) as session:
        assert [found.id for found in unfinished_jobs(session)] == ["earlier", job]


def test_the_last_job_is_found_by_kind_state_and_pbx(engine: Engine, job: str) -> None:
    with writing(engine) as session:
        session.add(Job(id="old", kind="sync", state="done", requested_at=now() - timedelta(hours=2), connection_id=1))
        session.add(Job(id="other", kind="sync", state="done", requested_at=now() - timedelta(hours=1)))
    with reading(engine) as session:
        assert [
            found.id if found else None
            for found in (
                last_job(session, "sync"),
                last_job(session, "sync", "done"),
                last_job(session, "sync", "done", connection_id=1),
                last_job(session, "sync", "failed"),
                last_job(session, "collect"),
            )
        ] == [job, "other", "old", None, None]
