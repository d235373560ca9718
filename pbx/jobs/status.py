"""How the cache and its jobs stand: what the command `status` tells."""

from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, func, select, text

from pbx import __version__
from pbx.jobs.queue import worker_alive
from pbx.settings import Settings
from pbx.store.connections import active_connection
from pbx.store.engine import reading
from pbx.store.jobs import unfinished_jobs
from pbx.store.models import Job, JobKind, Recording
from pbx.store.transcriptions import overview

KINDS: tuple[JobKind, ...] = ("sync", "collect")
_TOLD = ("new", "queued", "transcribing", "completed", "failed", "paused", "hindrance", "left_s")


def cache_facts(engine: Engine, settings: Settings) -> dict[str, Any]:
    """What is in the cache, how the last jobs went, how far the transcripts are, and whether a worker is alive.

    JSON values only. Raises SettingsError or DataError.
    """
    active = active_connection(engine, settings)
    by_state = select(Recording.state, func.count()).group_by(col(Recording.state)).order_by(col(Recording.state))
    size = (
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        if engine.dialect.name == "sqlite"
        else "SELECT pg_database_size(current_database())"
    )
    with reading(engine) as session:
        last = {kind: _last_ended(session, kind) for kind in KINDS}
        speech = overview(session, active.id) if active else None
        return {
            "version": __version__,
            "data_dir": str(settings.pbx_data_dir.resolve()),
            "demo": bool(settings.demo),
            "pbx": active and {"host": active.connection.host, "saved": active.saved},
            "worker_alive": worker_alive(settings),
            "last": {kind: job and job.model_dump(mode="json") for kind, job in last.items()},
            "jobs": [job.model_dump(mode="json") for job in unfinished_jobs(session)],
            "recordings": dict(session.exec(by_state.where(Recording.connection_id == active.id)).all())
            if active
            else {},
            "transcriptions": speech and {name: getattr(speech, name) for name in _TOLD},
            "database": {
                "size_bytes": session.scalar(text(size)),
                "revision": session.scalar(text("SELECT version_num FROM alembic_version")),
            },
        }


def _last_ended(session: Session, kind: JobKind) -> Job | None:
    ended = select(Job).where(Job.kind == kind, col(Job.ended_at).is_not(None))
    return session.exec(ended.order_by(col(Job.ended_at).desc()).limit(1)).first()
