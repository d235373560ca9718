"""The transcription queue: add recordings manually or by rule, cancel them, pause the queue, and report its progress.

The queue is the table `transcriptions`. Transcribers claim recordings from it with pbx.store.transcription_claims.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, and_, case, exists, func, insert, literal, or_, select, update
from sqlmodel import Session, col
from sqlmodel import select as select_rows
from sqlmodel.sql.expression import Select

from pbx.asterisk.formats.recording_names import LEG_ENDINGS
from pbx.model.recording import TranscriptionState
from pbx.store.calls import CallFilter, call_conditions, in_queue
from pbx.store.chunks import chunks
from pbx.store.models import RecordingRow, Table, Transcription, TranscriptionRules, UtcSeconds, now

QueueScope = Literal["new", "failed", "all"]

_SCOPE_STATES: dict[QueueScope, tuple[str, ...]] = {
    "new": ("new",),
    "failed": ("failed",),
    "all": ("new", "failed", "completed"),
}
_OPEN = ("queued", "transcribing")
_BY_PRECEDENCE = ("transcribing", "queued", "failed", "completed", "new")
_SPEED_SAMPLE = 20  # the speed is measured on this many of the latest recordings

_queue = Table.metadata.tables["transcriptions"]
_recordings = Table.metadata.tables["recordings"]
_calls = Table.metadata.tables["calls"]
_transcripts = Table.metadata.tables["transcripts"]


class RunningTranscription(NamedTuple):
    """A recording that is being transcribed."""

    recording_id: int
    call_id: int
    name: str
    done_s: float
    total_s: float | None
    started_at: datetime | None


@dataclass(frozen=True)
class SpeechOverview:
    """Counts, progress and speed of a PBX's transcription queue.

    `new`: downloaded recordings that were never queued. `done_s` and `total_s`: seconds of audio in queued and running
    recordings, transcribed and in total. `ended` and `ended_s`: number of recordings that ended since the oldest open
    request, and their seconds of audio. The overall progress is (`ended_s` + `done_s`) / (`ended_s` + `total_s`).
    `speed`: seconds of audio per second of work, from the latest completed recordings; None before the first one.
    `left_s`: how long the rest takes at this speed, in seconds.
    """

    new: int = 0
    queued: int = 0
    transcribing: int = 0
    completed: int = 0
    failed: int = 0
    done_s: float = 0.0
    total_s: float = 0.0
    ended: int = 0
    ended_s: float = 0.0
    speed: float | None = None
    left_s: float | None = None
    paused: bool = False
    blocked_reason: str = ""
    retry_at: datetime | None = None
    running: tuple[RunningTranscription, ...] = ()


def queue_recordings(
    session: Session,
    connection_id: int,
    recording_ids: Sequence[int],
    *,
    requested_by: str,
    model: str = "",
    urgent: bool = True,
) -> int:
    """Queue downloaded recordings of a PBX, including completed and failed ones; returns how many were queued.

    Urgent recordings move to the front, even if already queued. `model`: a name or path; "" for the model in the
    settings.
    """
    request = _QueueRequest(connection_id, requested_by, model, urgent)
    return sum(
        request.queue(session, _recordings.c.id.in_(chunk), _SCOPE_STATES["all"]) for chunk in chunks(recording_ids)
    )


def queue_calls(
    session: Session, wanted: CallFilter, *, requested_by: str, model: str = "", only: QueueScope = "new"
) -> int:
    """Queue the downloaded recordings of all calls that match a filter; returns how many were queued."""
    found = _recordings.c.call_id.in_(select(_calls.c.id).where(*call_conditions(session, wanted)))
    return _QueueRequest(wanted.connection_id, requested_by, model, urgent=True).queue(
        session, found, _SCOPE_STATES[only]
    )


def new_within_rules(session: Session, rules: TranscriptionRules) -> list[int]:
    """Return the downloaded recordings that match the rules and were never queued, newest first.

    If each side of a call was recorded separately, the mixed recording is left out because it repeats both. This reads
    every recording of the PBX, which takes seconds for a million recordings, so don't call it on every poll.
    """
    table = _recordings.c
    wanted = (
        select(table.id)
        .join(_calls, _calls.c.id == table.call_id)
        .where(table.connection_id == rules.connection_id, table.state == "downloaded", ~_has_row())
        .where(~and_(*map(_has_leg, LEG_ENDINGS.values())))
        .order_by(table.started_at.desc().nulls_last(), table.id.desc())
    )
    if rules.min_duration_s is not None:
        wanted = wanted.where(table.duration_s >= rules.min_duration_s)
    if rules.max_duration_s is not None:
        wanted = wanted.where(table.duration_s <= rules.max_duration_s)
    if rules.queues:
        wanted = wanted.where(in_queue(session, rules.connection_id, *rules.queues))
    if rules.directions:
        wanted = wanted.where(_calls.c.direction.in_(rules.directions))
    return list(session.connection().scalars(wanted))


def recordings_in(session: Session, connection_id: int, state: Literal["new", "failed", "queued"]) -> list[int]:
    """Return the ids of a PBX's downloaded recordings in a state: newest first, or in queue order for `queued`."""
    table = _recordings.c
    found = select(table.id).outerjoin(_queue, _queue.c.recording_id == table.id)
    found = found.where(table.connection_id == connection_id, table.state == "downloaded")
    found = found.where(func.coalesce(_queue.c.state, "new") == state)
    order = queue_order() if state == "queued" else (table.started_at.desc().nulls_last(), table.id.desc())
    return list(session.connection().scalars(found.order_by(*order)))


def queue_new(session: Session, connection_id: int, recording_ids: Sequence[int]) -> int:
    """Queue recordings by rule, except those that were ever queued before; returns how many were queued."""
    request = _QueueRequest(connection_id, "rule", "", urgent=False)
    return sum(request.queue(session, _recordings.c.id.in_(chunk), ()) for chunk in chunks(recording_ids))


def cancel(session: Session, connection_id: int, recording_ids: Sequence[int] | None) -> int:
    """Cancel recordings that are queued or being transcribed; None cancels all of them. Returns how many.

    Recordings with a complete transcript become completed again, the others new. Rules don't requeue them.
    """
    if recording_ids is None:
        return _cancel(session, connection_id, col(Transcription.connection_id) == connection_id)
    return sum(_cancel(session, connection_id, _queue.c.recording_id.in_(chunk)) for chunk in chunks(recording_ids))


def rules_of(session: Session, connection_id: int) -> TranscriptionRules:
    """Return the transcription rules of a PBX, or the defaults if none are saved."""
    return session.get(TranscriptionRules, connection_id) or TranscriptionRules(connection_id=connection_id)


def save_rules(session: Session, rules: TranscriptionRules) -> None:
    """Save which recordings are transcribed automatically. The pause and the blocked reason are not changed."""
    known = rules_of(session, rules.connection_id)
    wanted = rules.model_dump(exclude={"connection_id", "paused", "blocked_reason", "retry_at"})
    session.add(known.sqlmodel_update(wanted))
    session.flush()


def set_paused(session: Session, connection_id: int, paused: bool) -> None:
    """Pause or resume all transcription. A pause requeues running recordings, which keep what is transcribed so far."""
    session.add(rules_of(session, connection_id).sqlmodel_update({"paused": paused}))
    session.flush()


def set_blocked_reason(session: Session, connection_id: int, why: str, retry_at: datetime | None = None) -> None:
    """Save why transcription is blocked and when it will be retried; "" once it continues."""
    session.add(rules_of(session, connection_id).sqlmodel_update({"blocked_reason": why, "retry_at": retry_at}))
    session.flush()


def state_of(session: Session, recording_id: int) -> Transcription | None:
    """Return a recording's row in the queue; None if it was never queued."""
    return session.get(Transcription, recording_id)


def failed_transcriptions(
    session: Session, connection_id: int, *, offset: int, limit: int
) -> list[tuple[Transcription, RecordingRow]]:
    """Return a page of the failed recordings, latest failure first."""
    mine = _with_recording(connection_id, "failed").order_by(col(Transcription.ended_at).desc())
    return list(session.exec(mine.offset(offset).limit(limit)).all())


def next_transcriptions(session: Session, connection_id: int, limit: int) -> list[tuple[Transcription, RecordingRow]]:
    """Return the next recordings to transcribe, in order."""
    return list(session.exec(_with_recording(connection_id, "queued").order_by(*queue_order()).limit(limit)).all())


def _with_recording(connection_id: int, state: TranscriptionState) -> Select[Transcription, RecordingRow]:
    both = select_rows(Transcription, RecordingRow).join(
        RecordingRow, col(RecordingRow.id) == col(Transcription.recording_id)
    )
    return both.where(Transcription.connection_id == connection_id, Transcription.state == state)


def queue_order() -> tuple[ColumnElement[Any], ...]:
    """Return the queue's order: urgent recordings first, then the newest."""
    table = _queue.c
    return table.urgent.desc(), table.recorded_at.desc().nulls_last(), table.recording_id.desc()


def overview(session: Session, connection_id: int) -> SpeechOverview:
    """Return counts, progress and speed of a PBX's queue."""
    table = _queue.c
    mine = table.connection_id == connection_id
    by_state = select(table.state, func.count()).where(mine).group_by(table.state)
    counts: dict[str, int] = {row[0]: row[1] for row in session.connection().execute(by_state)}
    sums = select(func.sum(table.done_s), func.sum(table.total_s), func.min(table.requested_at))
    done_s, total_s, since = session.connection().execute(sums.where(mine, table.state.in_(_OPEN))).one()
    done_s, total_s = done_s or 0.0, total_s or 0.0
    over = select(func.count(), func.sum(table.total_s)).where(mine, table.state.in_(("completed", "failed")))
    ended, ended_s = session.connection().execute(over.where(table.ended_at >= since)).one() if since else (0, 0.0)
    downloaded = select(func.count()).select_from(_recordings)
    downloaded = downloaded.where(_recordings.c.connection_id == connection_id, _recordings.c.state == "downloaded")
    known = sum(count for state, count in counts.items() if state != "new")
    speed, rules = _speed(session, connection_id), rules_of(session, connection_id)
    return SpeechOverview(
        new=max((session.connection().scalar(downloaded) or 0) - known, 0),
        queued=counts.get("queued", 0),
        transcribing=counts.get("transcribing", 0),
        completed=counts.get("completed", 0),
        failed=counts.get("failed", 0),
        done_s=done_s,
        total_s=total_s,
        ended=ended,
        ended_s=ended_s or 0.0,
        speed=speed,
        left_s=max(total_s - done_s, 0.0) / speed if speed else None,
        paused=rules.paused,
        blocked_reason=rules.blocked_reason,
        retry_at=rules.retry_at,
        running=_running(session, connection_id),
    )


def _running(session: Session, connection_id: int) -> tuple[RunningTranscription, ...]:
    columns = (_queue.c.recording_id, _recordings.c.call_id, _recordings.c.name, _queue.c.done_s, _queue.c.total_s)
    query = select(*columns, _queue.c.started_at).join(_recordings, _recordings.c.id == _queue.c.recording_id)
    mine = query.where(_queue.c.connection_id == connection_id, _queue.c.state == "transcribing")
    return tuple(RunningTranscription(*row) for row in session.connection().execute(mine.order_by(*queue_order())))


def _speed(session: Session, connection_id: int) -> float | None:
    table = _queue.c
    last = (
        select(table.total_s, table.took_s)
        .where(table.connection_id == connection_id, table.ended_at.is_not(None))
        .where(table.state == "completed", table.took_s > 0, table.total_s > 0)
        .order_by(table.ended_at.desc())
        .limit(_SPEED_SAMPLE)
    )
    rows = session.connection().execute(last).all()
    return sum(row.total_s for row in rows) / sum(row.took_s for row in rows) if rows else None


@dataclass(frozen=True)
class _QueueRequest:
    """A request to transcribe recordings."""

    connection_id: int
    requested_by: str
    model: str
    urgent: bool

    def queue(self, session: Session, these: ColumnElement[bool], again: Sequence[str]) -> int:
        """Queue the downloaded ones of `these` recordings that are new or in the states `again`; returns how many."""
        mine = and_(these, _recordings.c.connection_id == self.connection_id, _recordings.c.state == "downloaded")
        queued = self._add(session, mine) if again != _SCOPE_STATES["failed"] else 0
        if again:
            queued += self._queue_again(session, mine, again)
        if queued:
            call_ids = select(_recordings.c.call_id).join(_queue, _queue.c.recording_id == _recordings.c.id)
            call_ids = call_ids.where(mine, _queue.c.state == "queued")
            lower = _calls.c.transcription.not_in(_OPEN)  # only "transcribing" takes precedence over "queued"
            statement = update(_calls).where(_calls.c.id.in_(call_ids), lower)
            session.connection().execute(statement.values(transcription="queued"))
        return queued

    def _queue_again(self, session: Session, mine: ColumnElement[bool], again: Sequence[str]) -> int:
        table = _queue.c
        waits = and_(table.state == "queued", or_(table.urgent != self.urgent, table.model != self.model))
        states: ColumnElement[bool] = table.state.in_(again)
        if self.urgent and "new" in again:
            states = or_(states, waits)
        statement = (
            update(_queue)
            .where(table.recording_id.in_(select(_recordings.c.id).where(mine)), states)
            .values(self._initial_values() | {"started_at": None, "ended_at": None})
        )
        return session.connection().execute(statement).rowcount

    def _add(self, session: Session, mine: ColumnElement[bool]) -> int:
        table = _recordings.c
        initial = {
            name: literal(value, UtcSeconds() if isinstance(value, datetime) else None)
            for name, value in self._initial_values().items()
            if value is not None
        }
        row = {
            "recording_id": table.id,
            "connection_id": table.connection_id,
            "recorded_at": table.started_at,
            "total_s": table.duration_s,
        } | initial
        rows = select(*row.values()).where(mine, ~_has_row())
        added = insert(_queue).from_select(list(row), rows).execution_options(preserve_rowcount=True)
        return session.connection().execute(added).rowcount

    def _initial_values(self) -> dict[str, Any]:
        return {
            "state": "queued",
            "model": self.model,
            "requested_by": self.requested_by,
            "urgent": self.urgent,
            "requested_at": now(),
            "worker": "",
            "attempts": 0,
            "done_s": 0.0,
            "took_s": None,
            "error": "",
        }


def update_transcription_states(session: Session, recording_ids: Sequence[int]) -> None:
    """Set the transcription state of these recordings' calls, by precedence if a call has several recordings."""
    for chunk in chunks(recording_ids):
        call_ids = select(_recordings.c.call_id).where(_recordings.c.id.in_(chunk))
        _roll_up(session, _calls.c.id.in_(call_ids))


def _roll_up(session: Session, these: ColumnElement[bool]) -> None:
    rank = case({state: at for at, state in enumerate(_BY_PRECEDENCE)}, value=_queue.c.state)
    first_state = (
        select(_queue.c.state)
        .join(_recordings, _recordings.c.id == _queue.c.recording_id)
        .where(_recordings.c.call_id == _calls.c.id)
        .order_by(rank)
        .limit(1)
        .scalar_subquery()
    )
    session.connection().execute(update(_calls).where(these).values(transcription=func.coalesce(first_state, "new")))


def _cancel(session: Session, connection_id: int, these: ColumnElement[bool]) -> int:
    table = _queue.c
    has_complete = exists().where(_transcripts.c.recording_id == table.recording_id, _transcripts.c.complete)
    mine = and_(these, table.connection_id == connection_id, table.state.in_(_OPEN))
    ids = select(_recordings.c.call_id).join(_queue, table.recording_id == _recordings.c.id).where(mine)
    call_ids = list(session.connection().scalars(ids))
    values = {"state": case((has_complete, "completed"), else_="new"), "worker": "", "attempts": 0, "error": ""}
    cancelled = session.connection().execute(update(_queue).where(mine).values(values)).rowcount
    for chunk in chunks(call_ids):
        _roll_up(session, _calls.c.id.in_(chunk))
    return cancelled


def _has_leg(endings: Sequence[str]) -> ColumnElement[bool]:
    leg, table = _recordings.alias(), _recordings.c
    named = leg.c.name.in_([table.name + ending for ending in endings])
    return exists().where(leg.c.call_id == table.call_id, named).correlate(_recordings)


def _has_row() -> ColumnElement[bool]:
    return exists().where(_queue.c.recording_id == _recordings.c.id).correlate(_recordings)
