"""Jobs and how far they are."""

from typing import Any

from sqlmodel import Session, col, select, update

from pbx.store.models import Job, JobKind, JobState, now


def add_job(
    session: Session,
    job_id: str,
    kind: JobKind,
    *,
    connection_id: int | None,
    requested_by: str,
    options: dict[str, Any] | None = None,
) -> Job:
    """Note a job that is asked for."""
    job = Job(id=job_id, kind=kind, connection_id=connection_id, requested_by=requested_by, options=options or {})
    session.add(job)
    session.flush()
    return job


def start_job(session: Session, job_id: str, worker: str) -> None:
    """Note that a worker has begun; again, when the one before it died."""
    _change(session, job_id, state="running", worker=worker, started_at=now(), attempts=col(Job.attempts) + 1)


def report_progress(session: Session, job_id: str, done: int, total: int | None) -> None:
    """Note how many of how many are done; `total` is None while nobody knows."""
    _change(session, job_id, done=done, total=total)


def end_job(session: Session, job_id: str, result: dict[str, Any]) -> None:
    """Note that a job is done, with its numbers."""
    _change(session, job_id, state="done", ended_at=now(), result=result, error="")


def fail_job(session: Session, job_id: str, error: str, result: dict[str, Any] | None = None) -> None:
    """Note that a job failed; `error` is for people and says what to do next."""
    _change(session, job_id, state="failed", ended_at=now(), result=result or {}, error=error)


def get_job(session: Session, job_id: str) -> Job | None:
    return session.get(Job, job_id)


def last_job(
    session: Session, kind: JobKind, state: JobState | None = None, *, connection_id: int | None = None
) -> Job | None:
    """The job of a kind that was asked for last, of all PBXes unless one is given."""
    query = select(Job).where(Job.kind == kind).order_by(col(Job.requested_at).desc(), col(Job.id).desc())
    if state is not None:
        query = query.where(Job.state == state)
    if connection_id is not None:
        query = query.where(Job.connection_id == connection_id)
    return session.exec(query.limit(1)).first()


def ended_jobs(session: Session, kind: JobKind, connection_id: int, limit: int) -> list[Job]:
    """The jobs of a kind that ended last, the latest first."""
    mine = select(Job).where(Job.kind == kind, Job.connection_id == connection_id, col(Job.ended_at).is_not(None))
    return list(session.exec(mine.order_by(col(Job.ended_at).desc(), col(Job.id)).limit(limit)))


def unfinished_jobs(session: Session) -> list[Job]:
    """The jobs queued or running, in the order they were asked for."""
    query = select(Job).where(col(Job.state).in_(("queued", "running"))).order_by(col(Job.requested_at), col(Job.id))
    return list(session.exec(query).all())


def _change(session: Session, job_id: str, **values: Any) -> None:
    session.exec(update(Job).where(col(Job.id) == job_id).values(**values))
