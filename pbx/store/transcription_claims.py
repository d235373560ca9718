"""What the speech engine does with its queue: claims, reports, ends, and takes up what another left.

Whatever is written names its worker: a recording that was cancelled or given to another meanwhile is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, literal_column, select, update
from sqlmodel import Session

from pbx.formatting import count_text
from pbx.store.models import Table, now
from pbx.store.transcription_queue import first_come, update_transcription_states

# Not a parameter: so the partial index of those at work is used.
_AT_WORK: ColumnElement[str] = literal_column("'transcribing'")
ATTEMPTS = 3  # a recording that has ended the engine so often is not tried again

_queue = Table.metadata.tables["transcriptions"]
_recordings = Table.metadata.tables["recordings"]
_calls = Table.metadata.tables["calls"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A recording to transcribe, and what is known of it. `attempts`: this one included."""

    recording_id: int
    name: str
    file: str  # path below data/audio
    direction: str  # of its call
    model: str
    attempts: int


def next_model(session: Session, connection_id: int, among: Sequence[int] | None = None) -> str | None:
    """The model that the first in the queue asks for ("": the settings' own); None when nothing is queued."""
    first = select(_queue.c.model).where(_queued(connection_id, among)).order_by(*first_come()).limit(1)
    return session.connection().scalar(first)


def claim_recordings(
    session: Session, connection_id: int, worker: str, model: str, limit: int, among: Sequence[int] | None = None
) -> list[Claim]:
    """Give the first recordings of the queue that ask for a model to a worker, at most `limit`; of some ids only.

    One that a worker died with is given alone, so that it can't take others with it again.
    """
    table = _queue.c
    columns = (table.recording_id, _recordings.c.name, _recordings.c.file, _calls.c.direction, table.model)
    query = (
        select(*columns, table.attempts)
        .join(_recordings, _recordings.c.id == table.recording_id)
        .join(_calls, _calls.c.id == _recordings.c.call_id)
        .where(_queued(connection_id, among), table.model == model)
        .order_by(*first_come())
        .limit(limit)
    )
    found = [Claim(*row[:-1], row[-1] + 1) for row in session.connection().execute(query)]
    alone = found[:1] if found and found[0].attempts > 1 else []
    found = alone or [item for item in found if item.attempts == 1]
    ids = [item.recording_id for item in found]
    values = {"state": "transcribing", "worker": worker, "started_at": now(), "attempts": table.attempts + 1}
    session.connection().execute(update(_queue).where(table.recording_id.in_(ids)).values(values))
    update_transcription_states(session, ids)
    return found


def still_claimed(session: Session, worker: str) -> set[int]:
    """The recordings that a worker is to go on with."""
    mine = select(_queue.c.recording_id).where(_claimed_by(worker))
    return set(session.connection().scalars(mine))


def progress_of(session: Session, worker: str) -> list[tuple[int, float | None, int]]:
    """How far a worker is with each recording it is at: what changes while it makes progress."""
    mine = select(_queue.c.recording_id, _queue.c.done_s, _queue.c.attempts).where(_claimed_by(worker))
    rows = session.connection().execute(mine.order_by(_queue.c.recording_id))
    return [(recording_id, done_s, attempts) for recording_id, done_s, attempts in rows]


def report_done(session: Session, worker: str, recording_id: int, done_s: float, took_s: float) -> bool:
    """Note how far a recording is and what that took; False when it is not this worker's any more."""
    took = func.coalesce(_queue.c.took_s, 0.0) + took_s
    return _change(session, worker, recording_id, done_s=done_s, took_s=took)


def complete(session: Session, worker: str, recording_id: int, total_s: float | None) -> bool:
    """Note that a recording is transcribed; False when it is not this worker's any more."""
    known = {} if total_s is None else {"total_s": total_s, "done_s": total_s}
    return _end(session, worker, recording_id, state="completed", attempts=0, error="", **known)


def fail(session: Session, worker: str, recording_id: int, error: str) -> bool:
    """Note that a recording can't be transcribed, and why; False when it is not this worker's any more."""
    return _end(session, worker, recording_id, state="failed", error=error)


def fail_queued(session: Session, connection_id: int, model: str, error: str) -> list[int]:
    """Let all that waits for one model fail, as it can't be had; returns which these were."""
    mine = and_(_queued(connection_id, None), _queue.c.model == model)
    ids = list(session.connection().scalars(select(_queue.c.recording_id).where(mine)))
    values = {"state": "failed", "error": error, "ended_at": now(), "urgent": False}
    session.connection().execute(update(_queue).where(mine).values(values))
    update_transcription_states(session, ids)
    return ids


def requeue_transcription(session: Session, worker: str, *, died: bool) -> list[tuple[int, str]]:
    """Queue again what a worker left: (recording, "queued" or "failed"). One it died with too often fails instead."""
    rows = select(_queue.c.recording_id, _queue.c.attempts).where(_claimed_by(worker))
    left = []
    for recording_id, attempts in session.connection().execute(rows).all():
        if died and attempts >= ATTEMPTS:
            fail(session, worker, recording_id, died_reason(attempts))
            left.append((recording_id, "failed"))
        else:
            _change(session, worker, recording_id, state="queued", attempts=attempts - (not died))
            left.append((recording_id, "queued"))
    update_transcription_states(session, [recording_id for recording_id, _ in left])
    return left


def died_reason(attempts: int) -> str:
    """Why a recording rests that its worker did not survive."""
    return (
        f"The transcriber stopped {count_text(attempts, 'time')} while working on this recording, because it ran out "
        "of memory or made no progress. Close other programs or choose a smaller model (WHISPER_MODEL), then retry. "
        "For details, see data/worker.log."
    )


def workers_at_it(session: Session) -> list[str]:
    """The names under which recordings are being transcribed."""
    workers = select(_queue.c.worker).where(_queue.c.state == _AT_WORK)
    return sorted(set(session.connection().scalars(workers)))


def _end(session: Session, worker: str, recording_id: int, **values: Any) -> bool:
    changed = _change(session, worker, recording_id, ended_at=now(), urgent=False, **values)
    if changed:
        update_transcription_states(session, [recording_id])
    return changed


def _change(session: Session, worker: str, recording_id: int, **values: Any) -> bool:
    mine = and_(_queue.c.recording_id == recording_id, _claimed_by(worker))
    return session.connection().execute(update(_queue).where(mine).values(values)).rowcount > 0


def _claimed_by(worker: str) -> ColumnElement[bool]:
    return and_(_queue.c.state == _AT_WORK, _queue.c.worker == worker)


def _queued(connection_id: int, among: Sequence[int] | None) -> ColumnElement[bool]:
    queued = and_(_queue.c.connection_id == connection_id, _queue.c.state == "queued")
    return queued if among is None else and_(queued, _queue.c.recording_id.in_(among))
