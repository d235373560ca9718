"""Stores, reads and edits transcripts. A transcript is stored part by part and becomes current when it is complete.

A recording keeps its current transcript until another one is complete. Each part and its end are stored in one
transaction, so that after a crash the next transcriber continues at `done_s` and nothing is stored twice.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

from sqlalchemy import delete, exists, insert
from sqlmodel import Session, col, select

from pbx.errors import PbxError
from pbx.model.segment import Flag, Segment, Word
from pbx.speech.transcriber import TranscriptPart
from pbx.store.models import AnalysisRow, RecordingRow, SegmentRow, Table, Transcript, now
from pbx.store.notes import clean_text
from pbx.store.search_index import index_segment, index_transcript, unindex_segment, unindex_transcript

Speaker = Literal["caller", "agent", ""]
SCRIPT_ENGINE = "script"  # the engine of transcripts that were written by hand
_ROWS = 1000  # segments in one statement
# Who speaks on the recorded channel (the audio read from it), and who on the other one.
_SIDES: dict[str, tuple[Speaker, Speaker]] = {
    "inbound": ("caller", "agent"),
    "outbound": ("agent", "caller"),
    "internal": ("caller", "agent"),
}
_segments = Table.metadata.tables["segments"]


def speaker_of(direction: str, channels: int, channel: int, leg: str = "") -> Speaker:
    """Return who speaks on a channel of a recording; "" if unknown.

    In a recording with two channels, the first is the recorded side. A file with one channel has a known speaker only
    if it is one of a pair: `leg` is "r" for the recorded side and "t" for the other one.
    """
    sides = _SIDES.get(direction)
    if sides is None:
        return ""
    if channels == 2 and channel in (0, 1):
        return sides[channel]
    if channels == 1 and leg in ("r", "t"):
        return sides["rt".index(leg)]
    return ""


def begin_transcript(session: Session, recording_id: int, engine: str, model: str, audio_sha256: str) -> Transcript:
    """Return the partial transcript that this engine and model made of the same audio, or a new, empty one.

    Other partial transcripts of the recording are deleted; complete ones stay.
    """
    partial = select(Transcript).where(Transcript.recording_id == recording_id, col(Transcript.complete).is_(False))
    wanted = (engine, model, audio_sha256)
    kept: Transcript | None = None
    for found in session.exec(partial.order_by(col(Transcript.done_s).desc(), col(Transcript.id))).all():
        if kept is None and (found.engine, found.model, found.audio_sha256) == wanted:
            kept = found
        else:
            _drop(session, found)
    if kept is None:
        kept = Transcript(recording_id=recording_id, engine=engine, model=model, audio_sha256=audio_sha256)
        session.add(kept)
        session.flush()
    return kept


def add_part(session: Session, transcript_id: int, part: TranscriptPart, direction: str, leg: str = "") -> None:
    """Store a part of a transcript, and move its `done_s` forward to `part.done_s`.

    The call's `direction` and the recording's `leg` (`pbx.asterisk.formats.recording_names.leg_of`) determine who
    speaks. Segments that start before the previous `done_s` are skipped; stored segments that start later are
    replaced. Raises PbxError if the transcript was deleted.
    """
    transcript = _get(session, transcript_id)
    known_s = transcript.done_s
    session.execute(delete(SegmentRow).where(_of(transcript_id), col(SegmentRow.start_s) >= known_s))
    rows = [
        _row(transcript_id, segment, speaker_of(direction, part.channels, segment.channel, leg))
        for segment in part.segments
        if segment.start_s >= known_s
    ]
    for first in range(0, len(rows), _ROWS):
        session.connection().execute(insert(_segments), rows[first : first + _ROWS])
    transcript.done_s = max(known_s, part.done_s)
    transcript.channels = part.channels
    transcript.speech_s += part.voiced_s
    transcript.duration_s = part.duration_s or transcript.duration_s
    transcript.language = part.language or transcript.language
    session.add(transcript)
    session.flush()


def finish_transcript(session: Session, transcript_id: int, duration_s: float | None = None) -> None:
    """Make a transcript complete and current, so that it is shown and searched.

    The previous one is deleted, or kept as not current if it was edited. Raises PbxError if the transcript was deleted.
    """
    transcript = _get(session, transcript_id)
    if transcript.current:
        return
    former = select(Transcript).where(
        Transcript.recording_id == transcript.recording_id, col(Transcript.current).is_(True)
    )
    for one in session.exec(former).all():
        if _is_edited(session, one):
            unindex_transcript(session, _id_of(one))
            one.current = False
            session.add(one)
        else:
            _drop(session, one)
    transcript.complete = transcript.current = True
    transcript.duration_s = duration_s or transcript.duration_s
    transcript.created_at = now()
    session.add(transcript)
    session.flush()
    index_transcript(session, transcript_id)


def current_transcript(session: Session, recording_id: int) -> Transcript | None:
    """Return a recording's current transcript; None before the first one is complete."""
    return session.exec(
        select(Transcript).where(Transcript.recording_id == recording_id, col(Transcript.current).is_(True))
    ).first()


def transcripts_of_call(session: Session, call_id: int) -> list[tuple[RecordingRow, Transcript, list[SegmentRow]]]:
    """Return a call's recordings that have a current transcript, sorted by start, each with its segments."""
    query = (
        select(RecordingRow, Transcript)
        .join(Transcript, col(Transcript.recording_id) == RecordingRow.id)
        .where(RecordingRow.call_id == call_id, col(Transcript.current).is_(True))
        .order_by(col(RecordingRow.started_at), col(RecordingRow.id))
    )
    return [(recording, found, segments_of(session, _id_of(found))) for recording, found in session.exec(query).all()]


def segments_of(session: Session, transcript_id: int) -> list[SegmentRow]:
    """Return a transcript's segments, sorted by start."""
    query = select(SegmentRow).where(_of(transcript_id))
    return list(session.exec(query.order_by(col(SegmentRow.start_s), col(SegmentRow.id))).all())


def edit_segment(session: Session, segment_id: int, text: str) -> SegmentRow:
    """Change the text of a segment. A search finds the new text immediately.

    The model's text is kept; restoring it removes the mark of an edit. The words with times remain the model's.

    Raises PbxError if the segment no longer exists because its recording was transcribed again.
    """
    row = session.get(SegmentRow, segment_id)
    if row is None:
        raise PbxError(
            "This part of the transcript is no longer there; the recording was transcribed again.",
            "Open the call again and edit the new text.",
        )
    unindex_segment(session, segment_id)
    original = row.text if row.original_text is None else row.original_text
    text = clean_text(text).strip()
    restored = text == original.strip()
    row.text = original if restored else text
    row.original_text = None if restored else original
    row.edited_at = None if restored else now()
    session.add(row)
    session.flush()
    index_segment(session, segment_id)
    return row


def save_analysis(
    session: Session,
    transcript_id: int,
    engine: str,
    document: dict[str, Any],
    fallback_reason: str = "",
    attempts: int = 0,
) -> None:
    """Store the analysis of a transcript, replacing any earlier one. Raises PbxError if the transcript was deleted."""
    _get(session, transcript_id)
    row = session.get(AnalysisRow, transcript_id) or AnalysisRow(transcript_id=transcript_id, engine=engine)
    row.engine, row.document, row.created_at = engine, document, now()
    row.fallback_reason, row.attempts = fallback_reason, attempts
    session.add(row)
    session.flush()


def analysis_of(session: Session, transcript_id: int) -> AnalysisRow | None:
    """Return the analysis of a transcript; None if it has not been analysed."""
    return session.get(AnalysisRow, transcript_id)


def summaries_of(session: Session, call_ids: Sequence[int]) -> dict[int, str]:
    """Return {call id: summary}; the summaries of several recordings are joined."""
    query = (
        select(RecordingRow.call_id, AnalysisRow.document)
        .join(Transcript, col(Transcript.recording_id) == RecordingRow.id)
        .join(AnalysisRow, col(AnalysisRow.transcript_id) == Transcript.id)
        .where(col(RecordingRow.call_id).in_(call_ids), col(Transcript.current).is_(True))
        .order_by(col(RecordingRow.started_at), col(RecordingRow.id))
    )
    found: dict[int, str] = {}
    for call_id, document in session.exec(query).all():
        found[call_id] = f"{found.get(call_id, '')} {document.get('summary') or ''}".strip()
    return found


def to_segment(row: SegmentRow) -> Segment:
    """Convert a stored segment. An edited segment has the edited text, but the model's words."""
    words = tuple(Word(start_s, end_s, text, probability) for start_s, end_s, text, probability in row.words)
    flags = cast(tuple[Flag, ...], tuple(row.flags.split()))  # only flags are stored
    return Segment(row.start_s, row.end_s, row.channel, row.text, words, row.confidence, flags)


def _row(transcript_id: int, segment: Segment, speaker: Speaker) -> dict[str, Any]:
    return {
        "transcript_id": transcript_id,
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "channel": segment.channel,
        "speaker": speaker,
        "text": clean_text(segment.text),
        "confidence": round(segment.confidence, 4),
        "flags": " ".join(segment.flags),
        "words": [_word(word) for word in segment.words],
    }


def _word(word: Word) -> Sequence[object]:
    return [round(word.start_s, 3), round(word.end_s, 3), clean_text(word.text), round(word.probability, 3)]


def _of(transcript_id: int) -> Any:
    return col(SegmentRow.transcript_id) == transcript_id


def _get(session: Session, transcript_id: int) -> Transcript:
    transcript = session.get(Transcript, transcript_id)
    if transcript is None:
        raise PbxError("This transcript is no longer there.", "Have the recording transcribed again.")
    return transcript


def _id_of(transcript: Transcript) -> int:
    return cast(int, transcript.id)  # set for every stored row


def _is_edited(session: Session, transcript: Transcript) -> bool:
    edited = exists().where(_of(_id_of(transcript)), col(SegmentRow.original_text).is_not(None))
    return bool(session.connection().execute(select(edited)).scalar())


def _drop(session: Session, transcript: Transcript) -> None:
    """Delete a transcript with its segments, analysis and index entries."""
    transcript_id = _id_of(transcript)
    unindex_transcript(session, transcript_id)
    session.execute(delete(AnalysisRow).where(col(AnalysisRow.transcript_id) == transcript_id))
    session.execute(delete(SegmentRow).where(_of(transcript_id)))
    session.delete(transcript)
    session.flush()
