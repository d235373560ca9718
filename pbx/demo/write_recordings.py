"""Adds the demo's recordings to its cache as a sync lists them, each with a complete transcript."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select, update
from sqlmodel import Session

from pbx.asterisk.formats.recording_names import parse_name
from pbx.demo.company import ZONE, PlannedCall
from pbx.demo.recording_dir import recording_name
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.simulated_history import recorded_calls
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


def add_transcribed_recordings(session: Session, connection_id: int, now: datetime) -> int:
    """Add the recordings that no sync has listed yet, and the missing transcripts. Returns the number of transcripts.

    A sync downloads the sounds. Automatic transcription is turned off, because it would download a speech model that
    nobody requested. The calls must be in the cache already.
    """
    listed = known_names(session, connection_id)
    if not listed:
        save_rules(session, TranscriptionRules(connection_id=connection_id, automatic=False))
    names = {recording_name(call): call for call in recorded_calls(now)}
    add_recordings(
        session,
        connection_id,
        [ListedRecording(name, "wav", parse_name(name, ZoneInfo(ZONE))) for name in names.keys() - listed],
    )
    transcribed = _transcribed(session, connection_id)
    untranscribed = [call for name, call in names.items() if name not in transcribed]
    _write_transcripts(session, connection_id, untranscribed)
    return len(untranscribed)


def _transcribed(session: Session, connection_id: int) -> set[str]:
    of = _RECORDINGS.c
    transcribed = select(of.name).join(_TRANSCRIPTS, _TRANSCRIPTS.c.recording_id == of.id)
    return set(session.connection().scalars(transcribed.where(of.connection_id == connection_id)))


def _write_transcripts(session: Session, connection_id: int, calls: Sequence[PlannedCall]) -> None:
    for call in calls:
        of = _RECORDINGS.c
        query = select(of.id, of.call_id).where(of.connection_id == connection_id, of.name == recording_name(call))
        recording_id, call_id = session.connection().execute(query).one()
        sample = SAMPLE_RECORDINGS[call.recording]
        segments, length_s = tuple(sample.transcript()), float(sample.duration_s)
        voiced_s = sum(one.end_s - one.start_s for one in segments if one.text)
        transcript_id = begin_transcript(session, recording_id, SCRIPT_ENGINE, sample.name, "").id or 0
        part = TranscriptPart(0, segments, length_s, length_s, 2, voiced_s, "en", is_last=True)
        add_part(session, transcript_id, part, "inbound")
        finish_transcript(session, transcript_id, length_s)
        rows = segments_of(session, transcript_id)
        spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
        analysis = analyse(spoken, length_s)
        save_analysis(session, transcript_id, analysis.engine, analysis.to_document())
        _mark_completed(session, connection_id, recording_id, call_id, call, length_s)


def _mark_completed(
    session: Session, connection_id: int, recording_id: int, call_id: int, call: PlannedCall, length_s: float
) -> None:
    """Store the transcription as completed, as the transcription queue does."""
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
