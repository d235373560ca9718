"""Merges calls that turn out to be the same call, without losing their recordings, legs, notes or tags."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, exists, insert, or_, select, update
from sqlmodel import Session

from pbx.store import recordings
from pbx.store import transcription_queue as transcriptions
from pbx.store.models import LegRow, Table, now
from pbx.store.search_index import index_transcript, unindex_transcript

_calls, _recordings, _notes, _tags, _transcripts = (
    Table.metadata.tables[name] for name in ("calls", "recordings", "call_notes", "call_tags", "transcripts")
)
_legs = Table.metadata.tables[str(LegRow.__tablename__)]
_COPIED = ("queue", "agent", "from_name")  # copied if the remaining call lacks them


def merge_calls(session: Session, into: Mapping[int, int]) -> None:
    """Move the recordings, legs, notes and tags of each call to another (id → id), and delete the emptied call.

    Two notes are joined into one, with the deleted call's note below. If both calls have a rating, the remaining
    call keeps its own.
    """
    for from_id, to_id in into.items():
        _move_recordings(session, from_id, to_id)
        connection = session.connection()
        connection.execute(update(_legs).where(_legs.c.call_id == from_id).values(call_id=to_id))
        _move_note_and_tags(session, from_id, to_id)
        _copy_missing_facts(session, from_id, to_id)
        connection.execute(delete(_calls).where(_calls.c.id == from_id))


def delete_empty_calls(session: Session, call_ids: set[int]) -> set[int]:
    """Delete the calls that no longer have any legs, recordings, notes or tags; returns the ids of the others."""
    holds = or_(*(exists().where(table.c.call_id == _calls.c.id) for table in (_legs, _recordings, _notes, _tags)))
    kept = set(session.connection().scalars(select(_calls.c.id).where(_calls.c.id.in_(call_ids), holds)))
    session.connection().execute(delete(_calls).where(_calls.c.id.in_(call_ids - kept)))
    return kept


def _move_recordings(session: Session, from_id: int, to_id: int) -> None:
    connection = session.connection()
    ids = list(connection.scalars(select(_recordings.c.id).where(_recordings.c.call_id == from_id)))
    if not ids:
        return
    indexed = select(_transcripts.c.id).where(_transcripts.c.recording_id.in_(ids), _transcripts.c.current.is_(True))
    transcript_ids = list(connection.scalars(indexed))
    for transcript_id in transcript_ids:  # index entries contain the call id
        unindex_transcript(session, transcript_id)
    connection.execute(update(_recordings).where(_recordings.c.id.in_(ids)).values(call_id=to_id))
    for transcript_id in transcript_ids:
        index_transcript(session, transcript_id)
    recordings.update_call_states(session, ids)
    transcriptions.update_transcription_states(session, ids)


def _move_note_and_tags(session: Session, from_id: int, to_id: int) -> None:
    connection = session.connection()
    held = {
        row.call_id: row for row in connection.execute(select(_notes).where(_notes.c.call_id.in_((from_id, to_id))))
    }
    if from_id in held and to_id in held:
        texts = [held[call_id].note for call_id in (to_id, from_id) if held[call_id].note]
        rating = held[to_id].rating if held[to_id].rating is not None else held[from_id].rating
        values = {"note": "\n\n".join(dict.fromkeys(texts)), "rating": rating, "updated_at": now()}
        connection.execute(update(_notes).where(_notes.c.call_id == to_id).values(values))
        connection.execute(delete(_notes).where(_notes.c.call_id == from_id))
    elif from_id in held:
        connection.execute(update(_notes).where(_notes.c.call_id == from_id).values(call_id=to_id))
    tags = {
        call_id: set(connection.scalars(select(_tags.c.tag).where(_tags.c.call_id == call_id)))
        for call_id in (from_id, to_id)
    }
    if more := tags[from_id] - tags[to_id]:
        connection.execute(insert(_tags), [{"call_id": to_id, "tag": tag} for tag in sorted(more)])
    connection.execute(delete(_tags).where(_tags.c.call_id == from_id))


def _copy_missing_facts(session: Session, from_id: int, to_id: int) -> None:
    columns = [_calls.c[name] for name in _COPIED]
    found = session.connection().execute(select(_calls.c.id, *columns).where(_calls.c.id.in_((from_id, to_id))))
    facts: dict[int, Any] = {row.id: row._mapping for row in found}
    missing = {name: facts[from_id][name] for name in _COPIED if not facts[to_id][name] and facts[from_id][name]}
    if missing:
        session.connection().execute(update(_calls).where(_calls.c.id == to_id).values(missing))
