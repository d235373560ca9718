"""Fills a cache with calls and transcripts whose words and times are known, for the player's tests."""

import math
import wave
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, writing
from pbx.store.models import AnalysisRow, CallRow, RecordingRow, SegmentRow, Topic, Transcript, Transcription
from pbx.store.pbx_connections import save_connection
from pbx.store.search_index import index_transcript
from pbx.store.transcription_queue import set_paused

RATE_HZ = 8000
WORD_S = 0.4
LONG_S = 700  # the worker, not the page, makes a recording of this length playable
SPOKEN = [  # start in seconds, speaker, text, flags
    (2.0, "caller", "Hello I have a question about my invoice", ""),
    (6.0, "agent", "Of course what is the number on your invoice", ""),
    (10.5, "caller", "It is four seven one one", ""),
    (14.0, "agent", "", "music"),
    (20.0, "agent", "Thank you for watching", "phantom"),
    (24.0, "caller", "مرحبا أريد استرداد المال", ""),
    (27.0, "agent", "你好我想退款", ""),
    (30.0, "agent", "<img src=x onerror=alert(1)> is what you wrote", ""),
]


def words_of(start_s: float, text: str) -> list[list[Any]]:
    """The words of a segment as they are stored: start, end, text and probability. Each takes WORD_S."""
    tokens = list(text) if text.startswith("你") else text.split()
    return [
        [
            round(start_s + index * WORD_S, 3),
            round(start_s + (index + 1) * WORD_S, 3),
            token,
            0.31 if token == "invoice" else 0.97,
        ]
        for index, token in enumerate(tokens)
    ]


def write_sound(path: Path, seconds: int) -> None:
    """Write a stereo file with a tone whenever somebody speaks: the caller left, the agent right."""
    samples = array("h", bytes(4 * RATE_HZ * seconds))
    for start_s, speaker, text, _ in SPOKEN:
        side = int(speaker == "agent")
        length_s = len(words_of(start_s, text)) * WORD_S or 5.0
        for index in range(int(start_s * RATE_HZ), min(int((start_s + length_s) * RATE_HZ), RATE_HZ * seconds)):
            amplitude = 9000 * abs(math.sin(index / RATE_HZ / WORD_S * math.pi))
            samples[2 * index + side] = int(amplitude * math.sin(index * 0.35))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def add_call(settings: Settings, engine: Engine, pbx: int, number: str, seconds: int = 40) -> int:
    """Add a call with its recording. Return the recording's ID, which is also the call's."""
    with writing(engine) as session:
        call = CallRow(
            connection_id=pbx, linkedid=number, from_number=number, to_number="600", queue="support", agent="1001"
        )
        call.sqlmodel_update({"direction": "inbound", "state": "downloaded", "duration_s": float(seconds)})
        call.started_at = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
        session.add(call)
        session.flush()
        recording = RecordingRow(
            connection_id=pbx, call_id=call.id or 0, name=f"2026/07/01/{number}", state="downloaded"
        )
        recording.sqlmodel_update({"file": f"{number}.wav", "duration_s": float(seconds), "size_bytes": 1000})
        session.add(recording)
        session.flush()
        assert recording.id == call.id
    write_sound(settings.audio_dir / f"{number}.wav", seconds)
    return recording.id or 0


def add_transcript(engine: Engine, pbx: int, recording_id: int, rows: list[SegmentRow]) -> None:
    """Add a completed transcript with these segments, its analysis and its entry in the search index."""
    with writing(engine) as session:
        transcript = Transcript(recording_id=recording_id, engine="whisper", model="base", language="en", channels=2)
        transcript.sqlmodel_update({"complete": True, "current": True, "duration_s": 40.0, "speech_s": 18.0})
        session.add(transcript)
        session.flush()
        for row in rows:
            row.transcript_id = transcript.id or 0
        session.add_all(rows)
        session.add(Transcription(recording_id=recording_id, connection_id=pbx, state="completed"))
        question = {"start_s": 6.0, "speaker": "agent", "text": "Of course what is the number on your invoice"}
        document = {
            "summary": "Caller: I have a question about my invoice.\nAgent: What is the number on your invoice?",
            "key_phrases": ["invoice", "question about my invoice", "number"],
            "questions": [question],
            "talk_s": {"agent": 9.0, "caller": 8.0},
            "talk_ratio": 0.53,
            "longest_silence": [14.0, 6.0],
            "interruptions": 1,
            "first_response_s": 0.8,
        }
        session.add(AnalysisRow(transcript_id=transcript.id or 0, engine="local", document=document))
        session.get_one(CallRow, recording_id).transcription = "completed"
        session.flush()
        index_transcript(session, transcript.id or 0)


def segment_rows() -> list[SegmentRow]:
    """The segments of SPOKEN."""
    return [
        SegmentRow(
            transcript_id=0,
            start_s=start_s,
            end_s=start_s + (len(words_of(start_s, text)) * WORD_S or 5.0),
            channel=int(speaker == "agent"),
            speaker=speaker,
            text=text,
            flags=flags,
            words=words_of(start_s, text),
        )
        for start_s, speaker, text, flags in SPOKEN
    ]


def fill_cache(data_dir: Path) -> None:
    """Fill the cache in `data_dir` with five calls, with transcription paused.

    They are: a call with everything that the player shows, one of 100,000 words, one whose transcription failed, one
    that is queued, and a long one without a transcript.
    """
    settings = Settings(_env_file=None, pbx_data_dir=data_dir)
    engine = open_engine(settings)
    pbx = save_connection(engine, settings, Connection(host="pbx.invalid", ari_port=8088, ami_port=5038))
    with writing(engine) as session:
        set_paused(session, pbx, True)
        session.add(Topic(name="Invoices", phrases=["invoice"]))
    add_transcript(engine, pbx, add_call(settings, engine, pbx, "+4930111"), segment_rows())
    long = [
        SegmentRow(transcript_id=0, start_s=at / 100, end_s=at / 100 + 0.01, speaker="caller", text=text, words=words)
        for at in range(4000)
        for text in [" ".join(f"word{at}x{number}" for number in range(25))]
        for words in [[[at / 100, at / 100 + 0.01, word, 0.9] for word in text.split()]]
    ]
    add_transcript(engine, pbx, add_call(settings, engine, pbx, "+4930222"), long)
    for number, state, reason in (("+4930333", "failed", "The file holds no speech."), ("+4930444", "queued", "")):
        recording_id = add_call(settings, engine, pbx, number)
        with writing(engine) as session:
            row = Transcription(recording_id=recording_id, connection_id=pbx, state=state, error=reason, total_s=40.0)
            session.add(row)
            session.get_one(CallRow, recording_id).transcription = state
    add_call(settings, engine, pbx, "+4930555", seconds=LONG_S)
    engine.dispose()
