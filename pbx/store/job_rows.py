"""Rows of the table `jobs`: add a job, report its progress, end it, and find jobs by kind and state."""

from typing import Any

from sqlmodel import Session, col, select

from pbx.formatting import count_text
from pbx.store.models import Job, JobKind, JobState, Table
from pbx.store.work_queue import WorkQueue


def _died_text(attempts: int) -> str:
    return (
        f"The worker died {count_text(attempts, 'time')} while running this job. See data/worker.log for the reason, "
        "then free memory or disk space."
    )


JOBS = WorkQueue(Table.metadata.tables["jobs"], key="id", running="running", done="done", died_text=_died_text)


def add_job(
    session: Session,
    job_id: str,
    kind: JobKind,
    *,
    connection_id: int | None,
    requested_by: str,
    options: dict[str, Any] | None = None,
) -> Job:
    """Add a queued job and return it."""
    job = Job(id=job_id, kind=kind, connection_id=connection_id, requested_by=requested_by, options=options or {})
    session.add(job)
    session.flush()
    return job


def start_job(session: Session, job_id: str, worker: str) -> bool:
    """Give a queued job to a worker. Returns False if it is no longer queued."""
    return JOBS.claim(session, worker, [job_id]) > 0


def report_progress(session: Session, worker: str, job_id: str, done: int, total: int | None) -> bool:
    """Store how many steps are done; `total` is None if unknown. Returns False if the job isn't this worker's."""
    return JOBS.report(session, worker, job_id, done=done, total=total)


def end_job(session: Session, worker: str, job_id: str, result: dict[str, Any]) -> bool:
    """End a job as done, with its result. Returns False if the job isn't this worker's."""
    return JOBS.complete(session, worker, job_id, result=result)


def fail_job(session: Session, worker: str, job_id: str, error: str, result: dict[str, Any] | None = None) -> bool:
    """End a job as failed. Returns False if the job isn't this worker's.

    `error` is shown to the user: the reason, and what to do next.
    """
    return JOBS.fail(session, worker, job_id, error, result=result or {})


def get_job(session: Session, job_id: str) -> Job | None:
    """Return a job, or None if it doesn't exist."""
    return session.get(Job, job_id)


def last_job(
    session: Session, kind: JobKind, state: JobState | None = None, *, connection_id: int | None = None
) -> Job | None:
    """Return the most recently requested job of a kind, or None. Without `connection_id`, all PBXs count."""
    query = select(Job).where(Job.kind == kind).order_by(col(Job.requested_at).desc(), col(Job.id).desc())
    if state is not None:
        query = query.where(Job.state == state)
    if connection_id is not None:
        query = query.where(Job.connection_id == connection_id)
    return session.exec(query.limit(1)).first()


def ended_jobs(session: Session, kind: JobKind, connection_id: int, limit: int) -> list[Job]:
    """Return up to `limit` ended jobs of a kind, the most recently ended first."""
    mine = select(Job).where(Job.kind == kind, Job.connection_id == connection_id, col(Job.ended_at).is_not(None))
    return list(session.exec(mine.order_by(col(Job.ended_at).desc(), col(Job.id)).limit(limit)))


def unfinished_jobs(session: Session) -> list[Job]:
    """Return the queued and running jobs of all PBXs, in the order they were requested."""
    query = select(Job).where(col(Job.state).in_(("queued", "running"))).order_by(col(Job.requested_at), col(Job.id))
    return list(session.exec(query).all())
