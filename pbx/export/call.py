"""A call with what was said in it, as every file format takes it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, func, select

from pbx.errors import DataError
from pbx.formatting import DIRECTIONS, SOUNDS, SPEAKERS, duration_text, zone_text
from pbx.machine import is_device_name
from pbx.model.segment import Word
from pbx.store.models import CallRow, RecordingRow, SegmentRow, Transcript
from pbx.store.notes import get_note, tags_of
from pbx.store.transcripts import analysis_of, to_segment, transcripts_of_call

SAME_MOMENT_S = 1.5  # the two files of one call bear whole seconds
# Not allowed in XML 1.0, and of no use in a text: control characters, halves of surrogate pairs, non-characters.
_UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """One segment. Times in seconds of its recording; `text` is on one line, as edited if it was."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""  # for people; "" where it can't be told
    channel: int = 0
    confidence: float = 0.0
    flags: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()
    original_text: str | None = None  # what the model understood, where somebody has edited it


@dataclass(frozen=True, slots=True)
class RecordingTranscript:
    """A recording, where its file lies (None: not on this machine), and what was said in it.

    `offset_s`: how long after the call's first recording it began.
    """

    name: str
    audio: Path | None = None
    started_at: datetime | None = None
    offset_s: float = 0.0
    duration_s: float | None = None
    engine: str = ""
    model: str = ""
    language: str = ""
    lines: tuple[TranscriptLine, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordingGroup:
    """Recordings that began at one moment (the two sides of a call, say), their lines merged by time.

    The times of these lines are seconds since the beginning of the call's first recording.
    """

    names: tuple[str, ...]
    offset_s: float
    lines: tuple[TranscriptLine, ...]


@dataclass(frozen=True, slots=True)
class CallTranscript:
    """A call to write out: its facts for people, in the order they are shown, its recordings and its summary."""

    call_id: int
    title: str
    started_at: datetime | None = None
    zone: tzinfo = UTC
    facts: Mapping[str, str] = field(default_factory=dict)
    recordings: tuple[RecordingTranscript, ...] = ()
    summary: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """A file name for it, without extension: safe on every system, and no other call's."""
        when = f"{self.started_at.astimezone(self.zone):%Y-%m-%d %H%M} " if self.started_at else ""
        return f"{safe_name(when + self.title.replace(' → ', ' to '))} ({self.call_id})"

    def takes(self, *, doubtful: bool = False) -> list[RecordingGroup]:
        """What was said, in order; flagged lines only if `doubtful`."""
        taken: list[tuple[float, list[RecordingTranscript]]] = []
        for recording in sorted(self.recordings, key=lambda one: one.offset_s):
            if taken and recording.offset_s - taken[-1][0] <= SAME_MOMENT_S:
                taken[-1][1].append(recording)
            else:
                taken.append((recording.offset_s, [recording]))
        return [
            RecordingGroup(tuple(one.name for one in recordings), offset_s, _merged(offset_s, recordings, doubtful))
            for offset_s, recordings in taken
        ]


def load_call(session: Session, call_id: int, audio_dir: Path, zone: tzinfo) -> CallTranscript:
    """A call with its current transcripts; without any it has facts only. Raises DataError if there is no such call."""
    call = session.get(CallRow, call_id)
    if call is None:
        raise DataError("This call is no longer in the cache.", "Go back to the list and choose another.")
    note = get_note(session, call_id)
    tags = tuple(tags_of(session, call_id))
    found = transcripts_of_call(session, call_id)
    analyses = [analysis_of(session, transcript.id or 0) for _, transcript, _ in found]
    summaries = [str(row.document.get("summary") or "") for row in analyses if row]
    starts = [recording.started_at for recording, _, _ in found if recording.started_at]
    recordings: list[RecordingTranscript] = []
    end_s = 0.0
    for recording, transcript, rows in found:
        # Without a time of its own a recording is taken to follow the ones before it.
        offset_s = (recording.started_at - min(starts)).total_seconds() if recording.started_at else end_s
        made = _recording(recording, transcript, rows, audio_dir, offset_s)
        recordings.append(made)
        end_s = max(end_s, offset_s + (made.duration_s or max((line.end_s for line in made.lines), default=0.0)))
    return CallTranscript(
        call_id=call_id,
        title=clean_text(f"{call.from_number or 'Unknown'} → {call.to_number or 'Unknown'}"),
        started_at=call.started_at,
        zone=zone,
        facts=_facts(call, zone, found, tags, note.rating if note else None),
        recordings=tuple(recordings),
        summary=clean_text("\n".join(filter(None, summaries)), lines=True),
        note=clean_text(note.note, lines=True) if note else "",
        tags=tags,
    )


def audio_bytes(session: Session, call_ids: Sequence[int]) -> int:
    """How large the recordings of these calls are together."""
    query = select(func.sum(RecordingRow.size_bytes)).where(col(RecordingRow.call_id).in_(call_ids))
    return int(session.exec(query).one() or 0)


def clean_text(text: str, *, lines: bool = False) -> str:
    """Text without characters that a file can't hold; on one line unless `lines`."""
    usable = _UNUSABLE.sub("", text)
    return usable.strip() if lines else " ".join(usable.split())


def safe_name(name: str) -> str:
    """A name that any file system takes: no path, no reserved character, at most 120 bytes."""
    kept = re.sub(r'[<>:"/\\|?*\u202a-\u202e\u2066-\u2069]', "_", clean_text(name)).strip(" .")
    kept = kept.encode()[:120].decode(errors="ignore").rstrip(" .")
    return f"_{kept}" if is_device_name(kept) or not kept else kept


def _recording(
    recording: RecordingRow, transcript: Transcript, rows: Sequence[SegmentRow], audio_dir: Path, offset_s: float
) -> RecordingTranscript:
    file = (audio_dir / recording.file).resolve()
    kept = recording.file and file.is_relative_to(audio_dir.resolve()) and file.is_file()
    return RecordingTranscript(
        name=clean_text(recording.name),
        audio=file if kept else None,
        started_at=recording.started_at,
        offset_s=offset_s,
        duration_s=recording.duration_s or transcript.duration_s,
        engine=transcript.engine,
        model=transcript.model,
        language=transcript.language,
        lines=tuple(_line(row, transcript.channels) for row in rows),
    )


def _line(row: SegmentRow, channels: int) -> TranscriptLine:
    segment = to_segment(row)
    # Two channels whose sides are not known are two speakers all the same.
    speaker = SPEAKERS.get(row.speaker, f"Speaker {segment.channel + 1}" if channels > 1 else "")
    return TranscriptLine(
        start_s=segment.start_s,
        end_s=max(segment.end_s, segment.start_s),
        text=clean_text(segment.text),
        speaker=speaker,
        channel=segment.channel,
        confidence=segment.confidence,
        flags=tuple(segment.flags),
        words=segment.words,
        original_text=None if row.original_text is None else clean_text(row.original_text),
    )


def _merged(offset_s: float, recordings: Sequence[RecordingTranscript], doubtful: bool) -> tuple[TranscriptLine, ...]:
    lines = [line for recording in recordings for line in recording.lines if doubtful or not line.flags]
    moved = [_moved(line, offset_s) for line in lines if line.text or SOUNDS.keys() & set(line.flags)]
    return tuple(sorted(moved, key=lambda line: (line.start_s, line.end_s)))


def _moved(line: TranscriptLine, by_s: float) -> TranscriptLine:
    return TranscriptLine(
        start_s=line.start_s + by_s,
        end_s=line.end_s + by_s,
        text=line.text,
        speaker=line.speaker,
        channel=line.channel,
        confidence=line.confidence,
        flags=line.flags,
        words=line.words,
        original_text=line.original_text,
    )


def _facts(
    call: CallRow,
    zone: tzinfo,
    found: Sequence[tuple[RecordingRow, Transcript, Any]],
    tags: Sequence[str],
    rating: int | None,
) -> dict[str, str]:
    started = call.started_at.astimezone(zone) if call.started_at else None
    models = dict.fromkeys(f"{transcript.engine} {transcript.model}".strip() for _, transcript, _ in found)
    told = {
        "Started": f"{started:%Y-%m-%d %H:%M:%S} ({zone_text(zone, started)})" if started else "Unknown",
        "Direction": (DIRECTIONS.get(call.direction) or call.direction).lstrip("↙↗↔ "),
        "From": call.from_number,
        "To": call.to_number,
        "Queue": call.queue,
        "Agent": call.agent,
        "Length": duration_text(call.duration_s) if call.duration_s is not None else "",
        "Tags": ", ".join(tags),
        "Rating": f"{rating} of 5" if rating else "",
        "Linked ID": call.linkedid,
        "Recordings": ", ".join(recording.name for recording, _, _ in found),
        "Transcribed by": ", ".join(models),
    }
    return {name: clean_text(value) for name, value in told.items() if value}
