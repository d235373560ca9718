"""The job queue: request jobs, schedule regular ones, claim the next one, and requeue the jobs of dead workers.

The queue follows the rules of pbx.store.work_queue. A job can be killed at any moment and completes when it runs again.
"""

import subprocess
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine
from sqlalchemy.orm import aliased
from sqlmodel import Session, and_, col, delete, exists, or_, select

from pbx.errors import DataError, SettingsError
from pbx.formatting import zone_of
from pbx.operating_system import start_command
from pbx.process_lock import anyone_alive, start_process
from pbx.settings import Settings
from pbx.store.engine import reading, writing
from pbx.store.import_source import schedule_slot
from pbx.store.job_rows import JOBS, add_job, start_job
from pbx.store.models import JOB_NAMES, Job, JobKind, PbxConnection
from pbx.store.pbx_connections import ActiveConnection, active_connection

RETENTION_DAYS = 30
SHORT_RETENTION_DAYS = 1  # because pages request a snapshot every few seconds, and a playable copy of each recording
LOG_LIMIT_BYTES = 1_000_000
_STARTED = {
    "page": "from the web app",
    "schedule": "by the schedule",
    "listener": "by the listener",
    "command line": "from the command line",
}


def required_connection(engine: Engine, settings: Settings) -> ActiveConnection:
    """Return the active PBX. Raises SettingsError if none is set up."""
    active = active_connection(engine, settings)
    if active is None:
        raise SettingsError(
            "No PBX is set up yet.",
            "Enter it in the app under Settings > FreePBX integration, or set FREEPBX_HOST and the users in .env.",
        )
    return active


def request_job(
    engine: Engine, settings: Settings, kind: JobKind, *, requested_by: str, options: dict[str, Any] | None = None
) -> Job:
    """Queue a job for the active PBX, or return the job of this kind that is already queued or running.

    "make_playable" has one job per recording, "import" one per source. Raises SettingsError if no PBX is set up.
    """
    active = required_connection(engine, settings)
    with writing(engine) as session:
        job = _unfinished(session, kind, active.id, options=_distinguishing_options(kind, options))
        if job is None:
            job = _add(session, kind, active.id, requested_by, options or {})
        return job


def schedule_jobs(engine: Engine, settings: Settings, active: ActiveConnection, at: datetime) -> None:
    """Queue the regular jobs that are due at a moment: one per interval, even if several workers call this.

    A sync is scheduled only with an ARI user, a snapshot only with an AMI user.
    """
    minutes = {"sync": settings.freepbx_sync_interval_minutes, "collect": settings.freepbx_collect_interval_minutes}
    slots = {kind: str(int(at.timestamp()) // (minutes[kind] * 60)) for kind in minutes}
    plan: list[tuple[JobKind, str, str]] = [
        ("sync", slots["sync"], active.connection.ari_username),
        ("collect", slots["collect"], active.connection.ami_username),
        ("import", _history_slot(engine, settings, active, at), "anybody"),
    ]
    for kind, slot, user in plan:
        job_id = f"{kind}-{active.id}-{slot}"
        if not (slot and user):
            continue
        options = _distinguishing_options(kind)
        with reading(engine) as session:
            if session.get(Job, job_id) or _unfinished(session, kind, active.id, options=options):
                continue
        with writing(engine) as session:
            if session.get(Job, job_id) is None and _unfinished(session, kind, active.id, options=options) is None:
                add_job(session, job_id, kind, connection_id=active.id, requested_by="schedule")
                _delete_old_jobs(session, at)


def claim_job(engine: Engine, kind: JobKind, worker: str) -> Job | None:
    """Give a worker the oldest queued job of a kind, and return it; None if there is none.

    A job waits while another one of its kind is running for the same PBX.
    """
    running = aliased(Job)
    same = col(running.kind) == kind, col(running.connection_id) == col(Job.connection_id)
    busy = exists().where(col(running.state) == "running", *same)
    waiting = select(Job).where(Job.kind == kind, Job.state == "queued", ~busy).order_by(col(Job.requested_at)).limit(1)
    with reading(engine) as session:  # an idle worker never takes the write lock
        if session.exec(waiting).first() is None:
            return None
    with writing(engine) as session:
        job = session.exec(waiting).first()
        if job is not None:
            start_job(session, job.id, worker)
            session.refresh(job)
        return job


def start_inline(engine: Engine, kind: JobKind, connection_id: int, worker: str, options: dict[str, Any]) -> Job:
    """Add a job that this process runs itself now. Raises DataError if one of its kind is running for this PBX."""
    with writing(engine) as session:
        running = _unfinished(session, kind, connection_id, "running")
        if running is not None:
            raise DataError(
                f"{_started_text(kind, running.requested_by)} is already running.",
                "Try again when it has finished. To see its progress, run `python -m pbx status`.",
            )
        job = _add(session, kind, connection_id, "command line", options)
        start_job(session, job.id, worker)
        session.refresh(job)
        return job


def requeue_job(engine: Engine, worker: str, *, died: bool) -> list[Job]:
    """Requeue the jobs that a worker left running, and return them. The caller must hold the worker's process lock.

    A job fails instead if its worker died during the last attempt.
    """
    with writing(engine) as session:
        job_ids = [job_id for job_id, _ in JOBS.requeue(session, worker, died=died)]
        return list(session.exec(select(Job).where(col(Job.id).in_(job_ids))).all())


def requeue_orphaned(engine: Engine, data_dir: Path) -> list[Job]:
    """Requeue the jobs that dead workers left running, and return them."""
    return [job for worker in JOBS.dead_workers(engine, data_dir) for job in requeue_job(engine, worker, died=True)]


def worker_alive(settings: Settings) -> bool:
    """Return whether a worker is running on this data directory. This is cheap: it tries one lock."""
    return anyone_alive(settings.pbx_data_dir, "worker")


def ensure_worker(settings: Settings) -> None:
    """Start a worker process if none is running. It outlives this process and logs to data/worker.log.

    If several processes call this, only one starts a worker, which counts as running immediately. Raises DataError if
    the process can't be started.
    """
    if worker_alive(settings):
        return
    try:
        worker = start_process(settings.pbx_data_dir, "worker", lambda: _start_worker(settings))
    except OSError as error:  # the disk is full, the log is not writable, or memory is short
        raise DataError(
            f"The worker could not be started: {error.strerror}.",
            f"Check free space and permissions in {settings.pbx_data_dir}, or start it yourself: python -m pbx worker.",
        ) from error
    if worker is not None:
        threading.Thread(target=worker.wait, daemon=True, name="worker reaper").start()


def _start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    log = settings.pbx_data_dir / "worker.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return start_command(
            "worker", "--only", data_dir=settings.pbx_data_dir, stdin=subprocess.DEVNULL, output=output
        )


def _unfinished(
    session: Session, kind: JobKind, connection_id: int, *states: str, options: dict[str, Any] | None = None
) -> Job | None:
    mine = select(Job).where(Job.kind == kind, Job.connection_id == connection_id)
    found = session.exec(mine.where(col(Job.state).in_(states or ("queued", "running"))))
    return next((job for job in found if options is None or job.options == options), None)


def _distinguishing_options(kind: JobKind, options: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Return the options that distinguish jobs of one kind; None for a kind that has one job at a time."""
    return (options or {}) if kind in ("make_playable", "import") else None


def _history_slot(engine: Engine, settings: Settings, active: ActiveConnection, at: datetime) -> str:
    """Return the id of the interval in which an import from the database is due; "" if none is scheduled."""
    with reading(engine) as session:
        row = session.get_one(PbxConnection, active.id)
    if row.import_schedule not in ("hour", "night") or not (row.import_url_encrypted or settings.pbx_import_url):
        return ""
    return schedule_slot(row.import_schedule, at, zone_of(active.connection.timezone, row.utc_offset_s))


def _delete_old_jobs(session: Session, at: datetime) -> None:
    taken = and_(col(Job.kind).in_(("collect", "make_playable")), col(Job.state) == "done")
    old = col(Job.ended_at) < at - timedelta(days=RETENTION_DAYS)
    session.exec(
        delete(Job).where(or_(old, and_(taken, col(Job.ended_at) < at - timedelta(days=SHORT_RETENTION_DAYS))))
    )


def _started_text(kind: JobKind, requested_by: str) -> str:
    """What is running, and what started it: A sync started from the web app."""
    name = JOB_NAMES[kind]
    started = f" started {_STARTED[requested_by]}" if requested_by in _STARTED else ""
    return f"{'An' if name[0] in 'aeiou' else 'A'} {name}{started}"


def _add(session: Session, kind: JobKind, connection_id: int, requested_by: str, options: dict[str, Any]) -> Job:
    job_id = f"{kind}-{connection_id}-{uuid4().hex}"
    return add_job(session, job_id, kind, connection_id=connection_id, requested_by=requested_by, options=options)
