"""The queue: the table `jobs`. A job is asked for, claimed by one worker in one transaction, and ended by it.

A worker that dies leaves its job `running` under a name whose slot is free: any other puts it back. The jobs
themselves complete after being killed at any moment, so doing one again is right.
"""

import os
import subprocess
import sys
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
from pbx.machine import detached
from pbx.process_lock import anyone_alive, start_process
from pbx.settings import Settings
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import reading, writing
from pbx.store.import_source import slot_of
from pbx.store.job_rows import JOBS, add_job, start_job
from pbx.store.models import Job, JobKind, PbxConnection

KEPT_DAYS = 30
KEPT_SNAPSHOTS_DAYS = 1  # of what pages ask for: a snapshot every few seconds, a recording to be heard
LOG_LIMIT_BYTES = 1_000_000


def needed_connection(engine: Engine, settings: Settings) -> ActiveConnection:
    """The PBX to work with; SettingsError, with what to do, when none is set up."""
    active = active_connection(engine, settings)
    if active is None:
        raise SettingsError(
            "No PBX is set up yet.",
            "Enter it in the app under Settings > FreePBX Integration, or set FREEPBX_HOST and the users in .env.",
        )
    return active


def request_job(
    engine: Engine, settings: Settings, kind: JobKind, *, requested_by: str, options: dict[str, Any] | None = None
) -> Job:
    """Queue a job for the active PBX, or return the one of its kind that is already queued or running.

    "make_playable" has one job for each recording, "import" one for each source. Raises SettingsError without a PBX.
    """
    active = needed_connection(engine, settings)
    with writing(engine) as session:
        job = _unfinished(session, kind, active.id, options=_told_apart(kind, options))
        if job is None:
            job = _add(session, kind, active.id, requested_by, options or {})
        return job


def schedule_jobs(engine: Engine, settings: Settings, active: ActiveConnection, at: datetime) -> None:
    """Queue what is due at a moment. A slot of time has one job, whoever asks and however many ask.

    Only what the PBX has a user for is scheduled.
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
        options = _told_apart(kind)
        with reading(engine) as session:
            if session.get(Job, job_id) or _unfinished(session, kind, active.id, options=options):
                continue
        with writing(engine) as session:
            if session.get(Job, job_id) is None and _unfinished(session, kind, active.id, options=options) is None:
                add_job(session, job_id, kind, connection_id=active.id, requested_by="schedule")
                _forget_old(session, at)


def claim_job(engine: Engine, kind: JobKind, worker: str) -> Job | None:
    """Give the oldest queued job of a kind to a worker, unless one of its kind is running for the same PBX."""
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
    """Record a job that this process does itself, now. Raises DataError while one of its kind is running."""
    with writing(engine) as session:
        running = _unfinished(session, kind, connection_id, "running")
        if running is not None:
            raise DataError(
                f"A {kind} is already running (asked for by {running.requested_by}).",
                "Wait for it to end; `python -m pbx status` shows it.",
            )
        job = _add(session, kind, connection_id, "command line", options)
        start_job(session, job.id, worker)
        session.refresh(job)
        return job


def requeue_job(engine: Engine, worker: str, *, died: bool) -> list[Job]:
    """Queue again the jobs that a worker left running, and return them. The caller holds the worker's process lock.

    A job fails instead when its worker died during the last attempt.
    """
    with writing(engine) as session:
        job_ids = [job_id for job_id, _ in JOBS.requeue(session, worker, died=died)]
        return list(session.exec(select(Job).where(col(Job.id).in_(job_ids))).all())


def requeue_orphaned(engine: Engine, data_dir: Path) -> list[Job]:
    """Queue again the jobs that dead workers left running, and return them."""
    return [job for worker in JOBS.dead_workers(engine, data_dir) for job in requeue_job(engine, worker, died=True)]


def worker_alive(settings: Settings) -> bool:
    """Whether a worker runs on this data directory. Cheap: one lock is asked."""
    return anyone_alive(settings.pbx_data_dir, "worker")


def ensure_worker(settings: Settings) -> None:
    """Start a worker when none is alive; it outlives this process and logs to data/worker.log. Raises DataError.

    Of several callers only one starts it, and it counts as alive at once.
    """
    if worker_alive(settings):
        return
    try:
        worker = start_process(settings.pbx_data_dir, "worker", lambda: _start_worker(settings))
    except OSError as error:  # no room, no right to the log, or no memory for another process
        raise DataError(
            f"No worker can be started: {error.strerror}.",
            f"Look at the room and the rights in {settings.pbx_data_dir}, or start one: python -m pbx worker.",
        ) from error
    if worker is not None:
        threading.Thread(target=worker.wait, daemon=True, name="worker reaper").start()


def _start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    log = settings.pbx_data_dir / "worker.log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pbx", "worker", "--only"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PBX_DATA_DIR": str(settings.pbx_data_dir.resolve())},
            **detached(),
        )


def _unfinished(
    session: Session, kind: JobKind, connection_id: int, *states: str, options: dict[str, Any] | None = None
) -> Job | None:
    mine = select(Job).where(Job.kind == kind, Job.connection_id == connection_id)
    found = session.exec(mine.where(col(Job.state).in_(states or ("queued", "running"))))
    return next((job for job in found if options is None or job.options == options), None)


def _told_apart(kind: JobKind, options: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """What makes two jobs of a kind two: their options, or None where there is one at a time."""
    return (options or {}) if kind in ("make_playable", "import") else None


def _history_slot(engine: Engine, settings: Settings, active: ActiveConnection, at: datetime) -> str:
    """The slot of time in which the PBX's database is to be read by itself; "" when it isn't."""
    with reading(engine) as session:
        row = session.get_one(PbxConnection, active.id)
    if row.import_schedule not in ("hour", "night") or not (row.import_url_encrypted or settings.pbx_import_url):
        return ""
    return slot_of(row.import_schedule, at, zone_of(active.connection.timezone, row.utc_offset_s))


def _forget_old(session: Session, at: datetime) -> None:
    taken = and_(col(Job.kind).in_(("collect", "make_playable")), col(Job.state) == "done")
    old = col(Job.ended_at) < at - timedelta(days=KEPT_DAYS)
    session.exec(delete(Job).where(or_(old, and_(taken, col(Job.ended_at) < at - timedelta(days=KEPT_SNAPSHOTS_DAYS)))))


def _add(session: Session, kind: JobKind, connection_id: int, requested_by: str, options: dict[str, Any]) -> Job:
    job_id = f"{kind}-{connection_id}-{uuid4().hex}"
    return add_job(session, job_id, kind, connection_id=connection_id, requested_by=requested_by, options=options)
