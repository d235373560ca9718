"""The facts that the command `status` shows: the cache, its jobs and the running processes."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, func, select, text

from pbx import __version__
from pbx.live.listener import listener_alive
from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.import_cursors import list_cursors
from pbx.store.job_queue import worker_alive
from pbx.store.job_rows import unfinished_jobs
from pbx.store.listening_spans import listening_since
from pbx.store.models import ImportCursorRow, Job, JobKind, RecordingRow
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.store.transcription_queue import overview

JOB_KINDS: tuple[JobKind, ...] = ("sync", "collect", "import")
MAX_IMPORT_SOURCES = 5  # number of import sources shown
_TRANSCRIPTION_FACTS = ("new", "queued", "transcribing", "completed", "failed", "paused", "blocked_reason", "left_s")


def cache_facts(engine: Engine, settings: Settings) -> dict[str, Any]:
    """Return the contents of the cache, recent jobs, progress of transcription and imports, and running processes.

    All values can be written as JSON. Raises SettingsError or DataError.
    """
    active = active_connection(engine, settings)
    by_state = (
        select(RecordingRow.state, func.count()).group_by(col(RecordingRow.state)).order_by(col(RecordingRow.state))
    )
    size = (
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        if engine.dialect.name == "sqlite"
        else "SELECT pg_database_size(current_database())"
    )
    with reading(engine) as session:
        last = {kind: _last_ended(session, kind) for kind in JOB_KINDS}
        speech = overview(session, active.id) if active else None
        return {
            "version": __version__,
            "data_dir": str(settings.pbx_data_dir.resolve()),
            "data_label": settings.data_label,
            "pbx": active and {"host": active.connection.host, "saved": active.saved},
            "worker_alive": worker_alive(settings),
            "listening": _listening(session, settings, active),
            "imports": [_import_facts(cursor) for cursor in list_cursors(session, active.id, MAX_IMPORT_SOURCES)]
            if active
            else [],
            "last": {kind: job and job.model_dump(mode="json") for kind, job in last.items()},
            "jobs": [job.model_dump(mode="json") for job in unfinished_jobs(session)],
            "recordings": dict(session.exec(by_state.where(RecordingRow.connection_id == active.id)).all())
            if active
            else {},
            "transcriptions": speech and {name: getattr(speech, name) for name in _TRANSCRIPTION_FACTS},
            "database": {
                "size_bytes": session.scalar(text(size)),
                "revision": session.scalar(text("SELECT version_num FROM alembic_version")),
            },
        }


def _listening(session: Session, settings: Settings, active: ActiveConnection | None) -> dict[str, Any]:
    """Return whether a listener is running, and since when it has listened to the PBX without a break."""
    alive = listener_alive(settings)
    since = listening_since(session, active.id) if alive and active else None
    return {"alive": alive, "since": since and since.isoformat()}


def _import_facts(cursor: ImportCursorRow) -> dict[str, Any]:
    """Return how far a source was imported: `until` (in the PBX's local time) for a database, `bytes` for a file."""
    is_file = cursor.source[:1].isdecimal()
    until = None if is_file else datetime.fromtimestamp(cursor.position, UTC).replace(tzinfo=None).isoformat()
    return {
        "kind": cursor.kind,
        "source": cursor.label,
        "rows": cursor.rows,
        "unreadable": cursor.unreadable,
        "last_import": cursor.read_at.isoformat(),
        "bytes": cursor.position if is_file else None,
        "until": until,
    }


def _last_ended(session: Session, kind: JobKind) -> Job | None:
    ended = select(Job).where(Job.kind == kind, col(Job.ended_at).is_not(None))
    return session.exec(ended.order_by(col(Job.ended_at).desc()).limit(1)).first()
