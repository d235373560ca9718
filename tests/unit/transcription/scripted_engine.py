"""A speech engine that follows a script in each audio file, for faults that no recording can cause.

A file is JSON: `parts` of 10 s each with one segment "part N of FILE"; `fault` in the part `at`. Its log is the file
`log` of the data directory: "<pid> <file> from <start_s> in <language>".
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.errors import DataError, ModelError
from pbx.model.segment import Segment, Word
from pbx.settings import Settings
from pbx.speech.transcriber import TranscriptionSource, TranscriptPart
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow, RecordingRow, SegmentRow, Transcript, Transcription
from pbx.store.pbx_connections import active_connection
from pbx.store.transcription_queue import queue_recordings

PART_S = 10.0
SECRET = "the card number is four two"


class ScriptedEngine:
    """Yields the scripted parts of each source in turn."""

    engine = "whisper"
    max_batch = 4

    def __init__(self, data_dir: Path, model: str = "scripted") -> None:
        self.model = model
        self._data_dir = data_dir

    def transcribe(
        self, sources: Sequence[TranscriptionSource], stop: threading.Event | None = None
    ) -> Iterator[TranscriptPart]:
        stop = stop or threading.Event()
        for index, source in enumerate(sources):
            script = json.loads(source.path.read_text())
            with (self._data_dir / "log").open("a") as log:
                language = f" in {source.language}" if source.language else ""
                log.write(f"{os.getpid()} {source.path.stem} from {source.start_s:.0f}{language}\n")
            for part in range(int(source.start_s / PART_S), script["parts"]):
                if script.get("fault") and part == script.get("at", 0):
                    yield from self._fail(index, script["fault"], stop)
                if stop.is_set():
                    return
                if script.get("fault") == "broken":
                    break
                yield self._part(index, part, script["parts"], source)

    def _part(self, index: int, part: int, parts: int, source: TranscriptionSource) -> TranscriptPart:
        start_s = part * PART_S
        text = f"part {part} of {source.path.stem}: {SECRET}"
        segment = Segment(start_s, start_s + 5, 0, text, (Word(start_s, start_s + 1, "part", 0.9),), 0.9)
        is_last = part == parts - 1
        return TranscriptPart(
            index, (segment,), start_s + PART_S, parts * PART_S, voiced_s=5.0, language="en", is_last=is_last
        )

    def _fail(self, index: int, fault: str, stop: threading.Event) -> Iterator[TranscriptPart]:
        if fault == "broken":
            yield TranscriptPart(index, error=DataError("It holds a header and no sound.", "There is nothing to hear."))
        elif fault == "raise":
            raise ValueError(SECRET)
        elif fault == "model":
            raise ModelError("There is not enough memory for the model.", "Choose a smaller one.")
        elif fault == "kill":
            psutil.Process().kill()
        elif fault == "wait":
            while not stop.is_set() and not (self._data_dir / "go").exists():
                time.sleep(0.01)


def add_recording(engine: Engine, settings: Settings, parts: int = 2, **script: Any) -> int:
    """Add a call with a downloaded recording, a minute after the one before; return the recording's id."""
    active = active_connection(engine, settings)
    assert active is not None
    settings.audio_dir.mkdir(parents=True, exist_ok=True)
    with writing(engine) as session:
        number = len(session.exec(select(RecordingRow)).all()) + 1
        at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)
        call = CallRow(connection_id=active.id, linkedid=str(number), started_at=at, direction="inbound", queue="sales")
        session.add(call)
        session.flush()
        assert call.id is not None
        recording = RecordingRow(connection_id=active.id, call_id=call.id, name=f"r{number}", file=f"r{number}.wav")
        recording.sqlmodel_update({"id": number, "state": "downloaded", "started_at": at, "duration_s": parts * PART_S})
        session.add(recording)
    (settings.audio_dir / f"r{number}.wav").write_text(json.dumps({"parts": parts, "number": number} | script))
    return number


def request_transcription(engine: Engine, settings: Settings, *recording_ids: int, model: str = "") -> None:
    active = active_connection(engine, settings)
    assert active is not None
    with writing(engine) as session:
        queue_recordings(session, active.id, recording_ids, requested_by="page", model=model)


def row_of(engine: Engine, recording: int) -> Transcription:
    with reading(engine) as session:
        return session.get_one(Transcription, recording)


def states(engine: Engine) -> dict[int, str]:
    with reading(engine) as session:
        return {row.recording_id: row.state for row in session.exec(select(Transcription)).all()}


def transcript_parts(engine: Engine, recording: int, *, current: bool = True) -> list[str]:
    """The parts "part N" of a recording's current transcript, in order; of its partial one if not `current`."""
    with reading(engine) as session:
        of_recording = select(SegmentRow).join(Transcript).where(Transcript.recording_id == recording)
        rows = session.exec(of_recording.where(Transcript.current == current).order_by(col(SegmentRow.start_s))).all()
        return [row.text.partition(" of ")[0] for row in rows]
