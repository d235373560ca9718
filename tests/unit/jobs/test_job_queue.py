"""Jobs are requested, scheduled, claimed once and requeued when their worker dies. (test_worker.py uses processes.)"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.errors import DataError, SettingsError
from pbx.process_lock import take_process_lock, try_process_lock
from pbx.settings import Settings, load_settings
from pbx.store import job_queue as queue
from pbx.store.engine import open_engine, writing
from pbx.store.job_rows import end_job, fail_job, start_job
from pbx.store.models import Job
from pbx.store.pbx_connections import active_connection
from pbx.store.work_queue import MAX_ATTEMPTS
from tests.unit.jobs.job_checks import job_state, jobs_of

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


# Requests and claims


def test_a_second_request_returns_the_same_job_until_it_ends(engine: Engine, settings: Settings) -> None:
    first = queue.request_job(engine, settings, "sync", requested_by="page", options={"limit": 3})
    assert queue.request_job(engine, settings, "sync", requested_by="page").id == first.id
    assert queue.request_job(engine, settings, "collect", requested_by="page").id != first.id
    claimed = queue.claim_job(engine, "sync", "worker-0")
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.worker, claimed.attempts) == (first.id, "running", "worker-0", 1)
    assert claimed.options == {"limit": 3}
    assert queue.request_job(engine, settings, "sync", requested_by="page").id == first.id
    with writing(engine) as session:
        end_job(session, "worker-0", first.id, {"new": 1})
    assert queue.request_job(engine, settings, "sync", requested_by="page").id != first.id


def test_without_a_pbx_a_request_raises_an_error_with_its_fix(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.delenv("FREEPBX_HOST")
    with pytest.raises(SettingsError) as refusal:
        queue.request_job(engine, load_settings(), "sync", requested_by="page")
    assert "Settings > FreePBX integration" in refusal.value.fix
    assert jobs_of(engine) == []


def test_only_one_of_many_workers_gets_a_job(engine: Engine, settings: Settings) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    all_ready = threading.Barrier(8)

    def claim(number: int) -> Job | None:
        own_engine = open_engine(settings)
        all_ready.wait()
        try:
            return queue.claim_job(own_engine, "sync", f"worker-{number}")
        finally:
            own_engine.dispose()

    with ThreadPoolExecutor(8) as pool:
        claimed = [job for job in pool.map(claim, range(8)) if job is not None]
    assert len(claimed) == 1
    assert jobs_of(engine)[0].worker == claimed[0].worker


def test_a_pbx_runs_one_job_of_a_kind_at_a_time(engine: Engine, settings: Settings) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    pbx = active_connection(engine, settings)
    assert pbx is not None
    inline = queue.start_inline(engine, "sync", pbx.id, "here-0", {})
    assert queue.claim_job(engine, "sync", "worker-0") is None
    with pytest.raises(DataError, match=r"^A sync started from the command line is already running"):
        queue.start_inline(engine, "sync", pbx.id, "here-1", {})
    with writing(engine) as session:
        end_job(session, "here-0", inline.id, {})
    assert queue.claim_job(engine, "sync", "worker-0") is not None


# The schedule


@pytest.fixture
def with_users(settings: Settings) -> Settings:
    return settings.model_copy(update={"freepbx_ari_username": "ari", "freepbx_ami_username": "ami"})


def schedule(engine: Engine, settings: Settings, at: datetime) -> None:
    active = active_connection(engine, settings)
    assert active is not None
    queue.schedule_jobs(engine, settings, active, at)


def finish_all(engine: Engine) -> None:
    with writing(engine) as session:
        for job in session.exec(select(Job).where(Job.state == "queued")).all():
            start_job(session, job.id, "worker-0")
            end_job(session, "worker-0", job.id, {})


def test_each_interval_has_one_job_of_a_kind(engine: Engine, with_users: Settings) -> None:
    for seconds in (0, 1, 299):
        schedule(engine, with_users, NOON + timedelta(seconds=seconds))
        finish_all(engine)
    assert sorted(job.kind for job in jobs_of(engine)) == ["collect", "sync"]
    schedule(engine, with_users, NOON + timedelta(minutes=5))
    finish_all(engine)
    schedule(engine, with_users, NOON + timedelta(minutes=10))
    assert sorted(job.kind for job in jobs_of(engine)) == ["collect"] * 3 + ["sync"] * 2
    assert {job.requested_by for job in jobs_of(engine)} == {"schedule"}


def test_a_job_that_is_queued_already_is_not_scheduled(engine: Engine, with_users: Settings) -> None:
    queue.request_job(engine, with_users, "sync", requested_by="page")
    schedule(engine, with_users, NOON)
    assert sorted((job.kind, job.requested_by) for job in jobs_of(engine)) == [
        ("collect", "schedule"),
        ("sync", "page"),
    ]


def test_jobs_are_scheduled_only_for_interfaces_with_a_user(engine: Engine, settings: Settings) -> None:
    schedule(engine, settings.model_copy(update={"freepbx_ami_username": "ami"}), NOON)
    assert [job.kind for job in jobs_of(engine)] == ["collect"]


def test_old_jobs_are_deleted(engine: Engine, with_users: Settings) -> None:
    with writing(engine) as session:
        for kind, state in (("sync", "done"), ("collect", "done"), ("collect", "failed")):
            session.add(Job(id=f"{kind} {state}", kind=kind, state=state, ended_at=NOON))

    def remaining(days: int) -> set[str]:
        schedule(engine, with_users, NOON + timedelta(days=days))
        finish_all(engine)
        return {job.id for job in jobs_of(engine) if job.ended_at == NOON}

    assert remaining(days=1) == {"sync done", "collect done", "collect failed"}
    assert remaining(days=2) == {"sync done", "collect failed"}
    assert remaining(days=30) == {"sync done", "collect failed"}
    assert remaining(days=31) == set()


# Workers that died


def test_a_running_worker_keeps_its_job_and_a_dead_one_loses_it(engine: Engine, settings: Settings) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    lock = take_process_lock(settings.pbx_data_dir, "worker")
    queue.claim_job(engine, "sync", lock.name)
    assert queue.requeue_orphaned(engine, settings.pbx_data_dir) == []
    lock.close()
    assert [left.id for left in queue.requeue_orphaned(engine, settings.pbx_data_dir)] == [job.id]
    assert job_state(engine, job) == "queued"


def test_a_job_that_kills_every_worker_fails_after_the_last_attempt(engine: Engine, settings: Settings) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    for _ in range(MAX_ATTEMPTS):
        assert queue.claim_job(engine, "sync", "worker-0") is not None
        queue.requeue_job(engine, "worker-0", died=True)
    ended = jobs_of(engine)[0]
    assert (ended.id, ended.state) == (job.id, "failed")
    assert "died 3 times" in ended.error
    assert queue.claim_job(engine, "sync", "worker-0") is None


def test_an_orderly_stop_counts_no_attempt(engine: Engine, settings: Settings) -> None:
    queue.request_job(engine, settings, "sync", requested_by="page")
    for _ in range(MAX_ATTEMPTS + 1):
        assert queue.claim_job(engine, "sync", "worker-0") is not None
        queue.requeue_job(engine, "worker-0", died=False)
    assert [(job.state, job.attempts) for job in jobs_of(engine)] == [("queued", 0)]


def test_a_worker_gets_the_lowest_free_number(tmp_path: Path) -> None:
    with take_process_lock(tmp_path, "worker") as first, take_process_lock(tmp_path, "worker") as second:
        assert (first.name, second.name) == ("worker-0", "worker-1")
        assert try_process_lock(tmp_path, "worker-0") is None
    with take_process_lock(tmp_path, "worker") as again:
        assert again.name == "worker-0"


def test_a_file_in_place_of_the_data_directory_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="can't be written to"):
        take_process_lock(tmp_path / "file", "worker")


def test_a_failed_job_keeps_its_error(engine: Engine, settings: Settings) -> None:
    job = queue.request_job(engine, settings, "sync", requested_by="page")
    with writing(engine) as session:
        start_job(session, job.id, "worker-0")
        fail_job(session, "worker-0", job.id, "No. Do this.")
    assert queue.claim_job(engine, "sync", "worker-0") is None
    assert jobs_of(engine)[0].error == "No. Do this."


# The worker


def test_a_worker_that_cannot_start_raises_a_clear_error(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir(parents=True, exist_ok=True)
    (settings.pbx_data_dir / "worker.log").mkdir()  # not even root can write to it
    with pytest.raises(DataError, match="The worker could not be started"):
        queue.ensure_worker(settings)
    assert not queue.worker_alive(settings)


def test_a_lock_file_that_disappears_counts_as_free(settings: Settings) -> None:
    settings.pbx_data_dir.mkdir(parents=True, exist_ok=True)
    (settings.pbx_data_dir / "worker-0.lock").symlink_to("gone")
    assert not queue.worker_alive(settings)
