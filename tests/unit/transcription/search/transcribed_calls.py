"""Creates calls with transcripts, for tests of transcripts, search and notes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session

from pbx.model.segment import Segment
from pbx.speech.transcriber import TranscriptPart
from pbx.store.models import CallRow, PbxConnection, RecordingRow, Transcript
from pbx.store.transcripts import add_part, begin_transcript, finish_transcript

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def add_call(session: Session, call_id: int, connection_id: int = 1, **columns: Any) -> RecordingRow:
    """Add a call with one recording of the same number; add its PBX if it is missing."""
    if session.get(PbxConnection, connection_id) is None:
        session.add(PbxConnection(id=connection_id, host=f"pbx-{connection_id}"))
        session.flush()
    values: dict[str, Any] = {"direction": "inbound", "started_at": NOON} | columns
    session.add(CallRow(id=call_id, connection_id=connection_id, linkedid=f"{call_id}", **values))
    session.flush()
    recording = RecordingRow(
        id=call_id, connection_id=connection_id, call_id=call_id, name=f"{call_id}", started_at=NOON
    )
    session.add(recording)
    session.flush()
    return recording


def segments(*texts: str | Segment, start_s: float = 0.0) -> tuple[Segment, ...]:
    """One segment per second, alternating between the two channels."""
    return tuple(
        text if isinstance(text, Segment) else Segment(start_s + at, start_s + at + 0.9, at % 2, text)
        for at, text in enumerate(texts)
    )


def add_transcript(
    session: Session, recording_id: int, texts: Sequence[str | Segment], direction: str = "inbound", model: str = "base"
) -> Transcript:
    """Add a complete, current transcript with two channels; in an inbound call the first text is the caller's."""
    transcript = begin_transcript(session, recording_id, "whisper", model, "abc")
    part = TranscriptPart(0, segments(*texts), done_s=len(texts), duration_s=len(texts), channels=2, is_last=True)
    add_part(session, id_of(transcript), part, direction)
    finish_transcript(session, id_of(transcript))
    return transcript


def id_of(transcript: Transcript) -> int:
    assert transcript.id is not None
    return transcript.id
