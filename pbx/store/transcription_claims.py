"""Claims recordings from the queue `transcriptions` for a transcriber, stores its progress, and ends them.

The rules are those of pbx.store.work_queue. Each change also updates the state that the recording's call shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlmodel import Session

from pbx.formatting import count_text
from pbx.store.models import Table, now
from pbx.store.transcription_queue import queue_order, update_transcription_states
from pbx.store.work_queue import WorkQueue

_queue = Table.metadata.tables["transcriptions"]
_recordings = Table.metadata.tables["recordings"]
_calls = Table.metadata.tables["calls"]


def _died_text(attempts: int) -> str:
    return (
        f"The transcriber stopped {count_text(attempts, 'time')} while working on this recording, because it ran out "
        "of memory or made no progress. Close other programs or choose a smaller model (WHISPER_MODEL), then retry. "
        "For details, see data/worker.log."
    )


TRANSCRIPTIONS = WorkQueue(
    _queue,
    key="recording_id",
    running="transcribing",
    done="completed",
    died_text=_died_text,
    ended_values={"urgent": False},
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A recording that a worker has claimed. `attempts` includes the current one."""

    recording_id: int
    name: str
    file: str  # path below data/audio
    direction: str  # of its call
    model: str
    attempts: int


def next_model(session: Session, connection_id: int, among: Sequence[int] | None = None) -> str | None:
    """Return the model that the next recording requests ("": the model in the settings); None if the queue is empty."""
    first = select(_queue.c.model).where(_queued(connection_id, among)).order_by(*queue_order()).limit(1)
    return session.connection().scalar(first)


def claim_recordings(
    session: Session, connection_id: int, worker: str, model: str, limit: int, among: Sequence[int] | None = None
) -> list[Claim]:
    """Claim the next recordings that request `model` for a worker: at most `limit`, and only those in `among` if given.

    A recording whose worker died is claimed alone, so that it can't interrupt others if that happens again.
    """
    table = _queue.c
    columns = (table.recording_id, _recordings.c.name, _recordings.c.file, _calls.c.direction, table.model)
    query = (
        select(*columns, table.attempts)
        .join(_recordings, _recordings.c.id == table.recording_id)
        .join(_calls, _calls.c.id == _recordings.c.call_id)
        .where(_queued(connection_id, among), table.model == model)
        .order_by(*queue_order())
        .limit(limit)
    )
    found = [Claim(*row[:-1], row[-1] + 1) for row in session.connection().execute(query)]
    alone = found[:1] if found and found[0].attempts > 1 else []
    found = alone or [item for item in found if item.attempts == 1]
    ids = [item.recording_id for item in found]
    TRANSCRIPTIONS.claim(session, worker, ids)
    update_transcription_states(session, ids)
    return found


def claimed_ids(session: Session, worker: str) -> set[int]:
    """Return the ids of the recordings that a worker has claimed, except cancelled ones."""
    return set(session.connection().scalars(select(_queue.c.recording_id).where(TRANSCRIPTIONS.claimed_by(worker))))


def progress_of(session: Session, worker: str) -> list[tuple[int, float | None, int]]:
    """Return (recording id, seconds done, attempts) for each recording a worker has claimed.

    The list keeps changing as long as the worker makes progress.
    """
    claimed = select(_queue.c.recording_id, _queue.c.done_s, _queue.c.attempts)
    claimed = claimed.where(TRANSCRIPTIONS.claimed_by(worker)).order_by(_queue.c.recording_id)
    rows = session.connection().execute(claimed)
    return [(recording_id, done_s, attempts) for recording_id, done_s, attempts in rows]


def report_transcribed(session: Session, worker: str, recording_id: int, done_s: float, took_s: float) -> bool:
    """Store how many seconds of a recording are transcribed, and add `took_s` to the time it has taken.

    Returns False if the recording is no longer claimed by this worker.
    """
    took = func.coalesce(_queue.c.took_s, 0.0) + took_s
    return TRANSCRIPTIONS.report(session, worker, recording_id, done_s=done_s, took_s=took)


def complete(session: Session, worker: str, recording_id: int, total_s: float | None) -> bool:
    """Mark a recording as completed; returns False if it is no longer claimed by this worker."""
    length = {} if total_s is None else {"total_s": total_s, "done_s": total_s}
    ended = TRANSCRIPTIONS.complete(session, worker, recording_id, attempts=0, **length)
    return _update_call(session, recording_id, ended)


def fail(session: Session, worker: str, recording_id: int, error: str) -> bool:
    """Mark a recording as failed, with the reason; returns False if it is no longer claimed by this worker."""
    return _update_call(session, recording_id, TRANSCRIPTIONS.fail(session, worker, recording_id, error))


def fail_queued(session: Session, connection_id: int, model: str, error: str) -> None:
    """Fail the queued recordings that request a model that can't be loaded."""
    mine = and_(_queued(connection_id, None), _queue.c.model == model)
    ids = list(session.connection().scalars(select(_queue.c.recording_id).where(mine)))
    values = {"state": "failed", "error": error, "ended_at": now(), "urgent": False}
    session.connection().execute(update(_queue).where(mine).values(values))
    update_transcription_states(session, ids)


def requeue_transcription(session: Session, worker: str, *, died: bool) -> list[tuple[int, str]]:
    """Requeue the recordings that a worker had claimed; returns (recording id, "queued" or "failed") for each.

    A recording fails instead if its worker died during the last attempt.
    """
    requeued = TRANSCRIPTIONS.requeue(session, worker, died=died)
    update_transcription_states(session, [recording_id for recording_id, _ in requeued])
    return requeued


def _update_call(session: Session, recording_id: int, changed: bool) -> bool:
    if changed:
        update_transcription_states(session, [recording_id])
    return changed


def _queued(connection_id: int, among: Sequence[int] | None) -> ColumnElement[bool]:
    queued = and_(_queue.c.connection_id == connection_id, _queue.c.state == "queued")
    return queued if among is None else and_(queued, _queue.c.recording_id.in_(among))
