"""Loading a call from the cache for an export: facts, transcript, notes, recordings and offsets."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.errors import DataError
from pbx.export import audio_bytes, load_call
from pbx.model.segment import Segment, Word
from pbx.settings import load_settings
from pbx.speech.transcriber import TranscriptPart
from pbx.store import transcripts
from pbx.store.engine import open_engine, writing
from pbx.store.models import CallRow, PbxConnection, RecordingRow
from pbx.store.notes import save_note, save_rating, set_tags
from tests.unit.export.samples import STARTED_AT

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def session() -> Iterator[Session]:
    engine: Engine = open_engine(load_settings())
    with writing(engine) as opened:
        yield opened
    engine.dispose()


def add_call(session: Session) -> int:
    pbx = PbxConnection(host="pbx.example.com")
    session.add(pbx)
    session.flush()
    call = CallRow(
        connection_id=pbx.id or 0, linkedid="1.1", started_at=STARTED_AT, from_number="+4930123", to_number="600"
    )
    call.sqlmodel_update({"queue": "600", "direction": "inbound", "duration_s": 83.0})
    session.add(call)
    session.flush()
    return call.id or 0


def add_recording(session: Session, call_id: int, *segments: Segment, file: str = "", later_s: int = 0) -> int:
    call = session.get_one(CallRow, call_id)
    recording = RecordingRow(
        connection_id=call.connection_id, call_id=call_id, name=f"in-600-{later_s}-{file}", file=file
    )
    recording.started_at, recording.size_bytes = STARTED_AT + timedelta(seconds=later_s), 500
    session.add(recording)
    session.flush()
    transcript = transcripts.begin_transcript(session, recording.id or 0, "whisper", "base", "abc")
    transcripts.add_part(
        session, transcript.id or 0, TranscriptPart(0, segments, 60.0, 60.0, 2, is_last=True), "inbound"
    )
    transcripts.finish_transcript(session, transcript.id or 0)
    return transcript.id or 0


def segment(start_s: float, text: str, channel: int = 0, *flags) -> Segment:
    return Segment(start_s, start_s + 2, channel, text, (Word(start_s, start_s + 1, text, 0.8),), 0.8, flags)


def test_a_call_has_its_facts_transcript_summary_note_tags_and_rating(session: Session, tmp_path: Path) -> None:
    call_id = add_call(session)
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    transcript_id = add_recording(
        session,
        call_id,
        segment(1, "Helo\n there."),
        segment(4, "Support.", 1),
        segment(7, "x", 1, "phantom"),
        file="a.wav",
    )
    transcripts.edit_segment(session, transcripts.segments_of(session, transcript_id)[0].id or 0, "Hello there.")
    transcripts.save_analysis(session, transcript_id, "local", {"summary": "They greeted."})
    save_note(session, call_id, "Check\nagain")
    save_rating(session, call_id, 4)
    set_tags(session, call_id, ["vip"])
    call = load_call(session, call_id, tmp_path, BERLIN)
    assert call.title == "+4930123 → 600"
    assert call.stem == "2026-07-01 0914 +4930123 to 600 (1)"
    assert call.facts["Started"] == "2026-07-01 09:14:05 (Europe/Berlin)"
    assert [call.facts[name] for name in ("Direction", "Queue", "Duration", "Tags", "Rating", "Transcribed by")] == [
        "Inbound",
        "600",
        "1 min 23 s",
        "vip",
        "4 of 5",
        "whisper base",
    ]
    assert (call.summary, call.note) == ("They greeted.", "Check\nagain")
    (recording,) = call.recordings
    assert recording.audio == (tmp_path / "a.wav").resolve()
    assert [(line.speaker, line.text, line.flags) for line in recording.lines] == [
        ("Caller", "Hello there.", ()),
        ("Agent", "Support.", ()),
        ("Agent", "x", ("phantom",)),
    ]
    assert (recording.lines[0].original_text, recording.lines[1].original_text) == ("Helo there.", None)
    assert recording.lines[1].words[0].probability == 0.8


def test_recordings_have_their_offset(session: Session, tmp_path: Path) -> None:
    call_id = add_call(session)
    add_recording(session, call_id, segment(1, "Second."), later_s=40)
    add_recording(session, call_id, segment(1, "First."))
    call = load_call(session, call_id, tmp_path, BERLIN)
    assert [(group.offset_s, group.lines[0].start_s, group.lines[0].text) for group in call.recording_groups()] == [
        (0, 1, "First."),
        (40, 41, "Second."),
    ]
    assert audio_bytes(session, [call_id]) == 1000
    assert audio_bytes(session, []) == 0


@pytest.mark.parametrize("file", ["", "../outside.wav", "gone.wav", "/etc/hostname"])
def test_only_files_in_the_audio_folder_are_exported(session: Session, tmp_path: Path, file: str) -> None:
    (tmp_path / "outside.wav").write_bytes(b"secret")
    audio = tmp_path / "audio"
    audio.mkdir()
    call_id = add_call(session)
    add_recording(session, call_id, file=file)
    assert load_call(session, call_id, audio, BERLIN).recordings[0].audio is None


def test_missing_call_raises_a_readable_error(session: Session, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no longer exists"):
        load_call(session, 404, tmp_path, BERLIN)
