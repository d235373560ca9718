"""The demo's recorded calls in its cache: listed as a sync would, each with its script as ready transcript."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update
from sqlmodel import Session

from pbx.asterisk.formats.recording_names import parse_name
from pbx.demo.company import ZONE, PlannedCall
from pbx.demo.recording_dir import recording_name
from pbx.demo.scripts import ready_transcript, script
from pbx.demo.story import recorded_calls
from pbx.speech.transcriber import TranscriptPart
from pbx.store.models import Table, TranscriptionRules
from pbx.store.recordings import ListedRecording, add_recordings, known_names
from pbx.store.transcription_queue import save_rules
from pbx.store.transcripts import (
    SCRIPT_ENGINE,
    add_part,
    begin_transcript,
    finish_transcript,
    save_analysis,
    segments_of,
)
from pbx.transcription.analysis.run import SpokenSegment, analyse

_RECORDINGS, _TRANSCRIPTS, _TRANSCRIPTIONS, _CALLS = (
    Table.metadata.tables[name] for name in ("recordings", "transcripts", "transcriptions", "calls")
)


def keep_recordings(session: Session, connection_id: int, now: datetime) -> int:
    """Give the recorded calls their transcripts, and add those no sync has brought yet; how many. Sounds come by sync.

    Nothing is transcribed by itself: that would fetch a model nobody asked for. Call it when the calls are there.
    """
    known = known_names(session, connection_id)
    if not known:
        save_rules(session, TranscriptionRules(connection_id=connection_id, automatic=False))
    names = {recording_name(call): call for call in recorded_calls(now)}
    add_recordings(
        session,
        connection_id,
        [ListedRecording(name, "wav", parse_name(name, ZoneInfo(ZONE))) for name in names.keys() - known],
    )
    transcribed = _transcribed(session, connection_id)
    fresh = [call for name, call in names.items() if name not in transcribed]
    _write_transcripts(session, connection_id, fresh)
    return len(fresh)


def _transcribed(session: Session, connection_id: int) -> set[str]:
    of = _RECORDINGS.c
    transcribed = select(of.name).join(_TRANSCRIPTS, _TRANSCRIPTS.c.recording_id == of.id)
    return set(session.connection().scalars(transcribed.where(of.connection_id == connection_id)))


def _write_transcripts(session: Session, connection_id: int, calls: Sequence[PlannedCall]) -> None:
    for call in calls:
        of = _RECORDINGS.c
        query = select(of.id, of.call_id).where(of.connection_id == connection_id, of.name == recording_name(call))
        recording_id, call_id = session.connection().execute(query).one()
        told = script(call.recording)
        segments = tuple(ready_transcript(call.recording))
        length_s = float(told.duration_s)
        voiced_s = sum(one.end_s - one.start_s for one in segments if one.text)
        transcript_id = begin_transcript(session, recording_id, SCRIPT_ENGINE, told.name, "").id or 0
        part = TranscriptPart(0, segments, length_s, length_s, 2, voiced_s, "en", whole=True)
        add_part(session, transcript_id, part, "inbound")
        finish_transcript(session, transcript_id, length_s)
        rows = segments_of(session, transcript_id)
        spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
        analysis = analyse(spoken, length_s)
        save_analysis(session, transcript_id, analysis.engine, analysis.to_document())
        _complete(session, connection_id, recording_id, call_id, call, length_s)


def _complete(
    session: Session, connection_id: int, recording_id: int, call_id: int, call: PlannedCall, length_s: float
) -> None:
    """As the queue of the speech engine keeps what is done; it took nobody any time."""
    row = {"recording_id": recording_id, "connection_id": connection_id, "state": "completed", "model": SCRIPT_ENGINE}
    row |= {"requested_by": "demo", "urgent": False, "recorded_at": call.started_at, "ended_at": call.ended_at}
    row |= {
        "requested_at": call.ended_at,
        "worker": "",
        "attempts": 0,
        "done_s": length_s,
        "total_s": length_s,
        "error": "",
    }
    session.connection().execute(insert(_TRANSCRIPTIONS), [row])
    session.connection().execute(update(_CALLS).where(_CALLS.c.id == call_id).values(transcription="completed"))
