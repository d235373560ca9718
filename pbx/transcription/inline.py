"""Transcribes recordings in this process, for the command line. If it is killed, a worker transcribes the rest."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from pbx.errors import DataError, PbxError
from pbx.process_lock import take_process_lock
from pbx.settings import Settings
from pbx.store import transcription_claims as claims
from pbx.store.engine import reading, writing
from pbx.store.job_queue import required_connection
from pbx.store.models import RecordingRow, Transcription
from pbx.store.transcription_queue import queue_recordings, recordings_in
from pbx.transcription.supervisor import requeue_orphaned_transcriptions
from pbx.transcription.transcriber_process import QueueWorker

CHUNK = 500  # recordings queued at a time, so that an interrupted command leaves few of them queued
POLL_S = 1.0

TranscriptionProgress = Callable[[float, float], None]  # seconds of audio done, and in total


@dataclass(frozen=True)
class RecordingSelection:
    """Which recordings to transcribe: those with given names, all new ones or failed ones; by default, queued ones."""

    names: Sequence[str] = ()
    all_new: bool = False
    failed: bool = False
    model: str = ""
    limit: int | None = None


def transcribe_inline(
    engine: Engine, settings: Settings, wanted: RecordingSelection, progress: TranscriptionProgress | None = None
) -> dict[str, Any]:
    """Transcribe recordings in this process, even if transcription is paused.

    Waits for recordings that another process has claimed. Returns the numbers of requested and completed recordings,
    the failed ones with their reasons, and the seconds of audio and of work. Raises SettingsError if no PBX is set up,
    DataError for an unknown name or a recording that isn't downloaded, and ModelError if the model can't be loaded; the
    recordings then stay queued.
    """
    active = required_connection(engine, settings)
    with reading(engine) as session:
        ids = _selected_ids(session, active.id, wanted)[: wanted.limit]
    started_at = time.monotonic()
    stop = threading.Event()
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        with writing(engine) as session:  # left by a dead process that held this lock
            claims.requeue_transcription(session, slot.name, died=True)
        worker = QueueWorker(engine, settings, slot, stop)
        for first in range(0, len(ids), CHUNK):
            chunk = ids[first : first + CHUNK]
            with writing(engine) as session:
                queue_recordings(session, active.id, chunk, requested_by="command line", model=wanted.model)
            with _progress_reports(engine, ids, progress):
                _transcribe_all(engine, settings, worker, chunk)
    return _summary(engine, ids) | {"took_s": round(time.monotonic() - started_at, 1)}


def _transcribe_all(engine: Engine, settings: Settings, worker: QueueWorker, ids: Sequence[int]) -> None:
    worker.among = ids
    while True:
        requeue_orphaned_transcriptions(engine, settings)
        worker.work(idle_s=0.0)
        if worker.model_error is not None:
            raise worker.model_error
        with reading(engine) as session:
            if not any(row.state in ("queued", "transcribing") for row in _rows(session, ids)):
                return
        time.sleep(POLL_S)


def _selected_ids(session: Session, connection_id: int, wanted: RecordingSelection) -> list[int]:
    selected: list[int] = []
    for name in wanted.names:
        row = session.exec(
            select(RecordingRow).where(RecordingRow.connection_id == connection_id, RecordingRow.name == name)
        ).one_or_none()
        if row is None or row.id is None:
            raise DataError(
                f"There is no recording {name} in the cache.", "Write its name as the app shows it, or sync."
            )
        if row.state != "downloaded":
            raise DataError(f"The recording {name} is {row.state}: there is nothing to transcribe.", "Sync again.")
        selected.append(row.id)
    if wanted.all_new:
        selected += recordings_in(session, connection_id, "new")
    if wanted.failed:
        selected += recordings_in(session, connection_id, "failed")
    if not (wanted.names or wanted.all_new or wanted.failed):
        selected = recordings_in(session, connection_id, "queued")
    return list(dict.fromkeys(selected))


def _rows(session: Session, ids: Sequence[int]) -> list[Transcription]:
    found: list[Transcription] = []
    for first in range(0, len(ids), CHUNK):
        in_chunk = col(Transcription.recording_id).in_(ids[first : first + CHUNK])
        found += session.exec(select(Transcription).where(in_chunk)).all()
    return found


def _summary(engine: Engine, ids: Sequence[int]) -> dict[str, Any]:
    with reading(engine) as session:
        rows = _rows(session, ids)
        failed = [row for row in rows if row.state == "failed"]
        named = {row.recording_id: session.get_one(RecordingRow, row.recording_id).name for row in failed}
    return {
        "requested": len(ids),
        "completed": sum(row.state == "completed" for row in rows),
        "failed": [{"name": named[row.recording_id], "reason": row.error} for row in failed],
        "audio_s": round(sum(row.total_s or 0.0 for row in rows if row.state == "completed"), 1),
    }


@contextmanager
def _progress_reports(engine: Engine, ids: Sequence[int], progress: TranscriptionProgress | None) -> Iterator[None]:
    """Report the progress of the recordings every second, no matter which process transcribes them."""
    over = threading.Event()

    def report() -> None:
        while progress is not None and not over.wait(POLL_S):
            with suppress(PbxError), reading(engine) as session:
                progress(*_audio_seconds(_rows(session, ids)))

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _audio_seconds(rows: Sequence[Transcription]) -> tuple[float, float]:
    """Return the seconds of audio transcribed so far and in total."""
    done_s = sum((row.total_s or 0.0) if row.state in ("completed", "failed") else row.done_s for row in rows)
    return done_s, sum(row.total_s or 0.0 for row in rows)
