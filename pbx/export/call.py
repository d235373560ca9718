"""A call with its transcripts, as all export formats use it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, func, select

from pbx.errors import DataError
from pbx.formatting import PLAIN_DIRECTIONS, SOUNDS, SPEAKERS, duration_text, zone_text
from pbx.model.segment import Word
from pbx.operating_system import is_device_name
from pbx.store.models import CallRow, RecordingRow, SegmentRow, Transcript
from pbx.store.notes import get_note, tags_of
from pbx.store.transcripts import analysis_of, to_segment, transcripts_of_call

SAME_START_S = 1.5  # recordings of both sides start together, but their times are cut to seconds
# Not allowed in XML 1.0: control characters, lone surrogates, non-characters.
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class TranscriptLine:
    """A segment of a transcript, edited or not. Times are in seconds from the recording's start."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""  # its label; "" if unknown
    channel: int = 0
    confidence: float = 0.0
    flags: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()
    original_text: str | None = None  # the model's text, if somebody edited it


@dataclass(frozen=True, slots=True)
class RecordingTranscript:
    """A recording and its transcript.

    `audio`: the path of its file, None if it is not on this machine. `offset_s`: how many seconds after the call's
    first recording it started.
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
    """Recordings that started together, such as those of the two sides of a call, with their lines merged by time.

    The lines' times are in seconds from the start of the call's first recording.
    """

    names: tuple[str, ...]
    offset_s: float
    lines: tuple[TranscriptLine, ...]


@dataclass(frozen=True, slots=True)
class CallTranscript:
    """A call to export: its details (label and text, in order), recordings, summary, note and tags."""

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
        """A file name without extension, unique per call and valid on every system."""
        when = f"{self.started_at.astimezone(self.zone):%Y-%m-%d %H%M} " if self.started_at else ""
        return f"{safe_name(when + self.title.replace(' → ', ' to '))} ({self.call_id})"

    def recording_groups(self, *, doubtful: bool = False) -> list[RecordingGroup]:
        """Return the transcript by recording group, in order; flagged lines only if `doubtful`."""
        groups: list[tuple[float, list[RecordingTranscript]]] = []
        for recording in sorted(self.recordings, key=lambda one: one.offset_s):
            if groups and recording.offset_s - groups[-1][0] <= SAME_START_S:
                groups[-1][1].append(recording)
            else:
                groups.append((recording.offset_s, [recording]))
        return [
            RecordingGroup(tuple(one.name for one in recordings), offset_s, _merged(offset_s, recordings, doubtful))
            for offset_s, recordings in groups
        ]


def load_call(session: Session, call_id: int, audio_dir: Path, zone: tzinfo) -> CallTranscript:
    """Return a call with its current transcripts, if it has any. Raises DataError if there is no such call."""
    call = session.get(CallRow, call_id)
    if call is None:
        raise DataError("This call no longer exists.", "Go back to the list and select another.")
    note = get_note(session, call_id)
    tags = tuple(tags_of(session, call_id))
    found = transcripts_of_call(session, call_id)
    analyses = [analysis_of(session, transcript.id or 0) for _, transcript, _ in found]
    summaries = [str(row.document.get("summary") or "") for row in analyses if row]
    starts = [recording.started_at for recording, _, _ in found if recording.started_at]
    recordings: list[RecordingTranscript] = []
    end_s = 0.0
    for recording, transcript, rows in found:
        # A recording without a start time is placed after the ones before it.
        offset_s = (recording.started_at - min(starts)).total_seconds() if recording.started_at else end_s
        exported = _recording(recording, transcript, rows, audio_dir, offset_s)
        recordings.append(exported)
        length_s = exported.duration_s or max((line.end_s for line in exported.lines), default=0.0)
        end_s = max(end_s, offset_s + length_s)
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
    """Return the total size of these calls' recordings."""
    query = select(func.sum(RecordingRow.size_bytes)).where(col(RecordingRow.call_id).in_(call_ids))
    return int(session.exec(query).one() or 0)


def clean_text(text: str, *, lines: bool = False) -> str:
    """Remove characters that files can't contain, and line breaks unless `lines`."""
    usable = _NOT_ALLOWED.sub("", text)
    return usable.strip() if lines else " ".join(usable.split())


def safe_name(name: str) -> str:
    """Return a name that is valid on every file system: no path, no reserved characters, at most 120 bytes."""
    name = re.sub(r'[<>:"/\\|?*\u202a-\u202e\u2066-\u2069]', "_", clean_text(name)).strip(" .")
    name = name.encode()[:120].decode(errors="ignore").rstrip(" .")
    return f"_{name}" if is_device_name(name) or not name else name


def _recording(
    recording: RecordingRow, transcript: Transcript, rows: Sequence[SegmentRow], audio_dir: Path, offset_s: float
) -> RecordingTranscript:
    file = (audio_dir / recording.file).resolve()
    exists = recording.file and file.is_relative_to(audio_dir.resolve()) and file.is_file()
    return RecordingTranscript(
        name=clean_text(recording.name),
        audio=file if exists else None,
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
    # With several channels, unknown speakers are numbered by channel.
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
    shifted = [_shifted(line, offset_s) for line in lines if line.text or SOUNDS.keys() & set(line.flags)]
    return tuple(sorted(shifted, key=lambda line: (line.start_s, line.end_s)))


def _shifted(line: TranscriptLine, by_s: float) -> TranscriptLine:
    return replace(line, start_s=line.start_s + by_s, end_s=line.end_s + by_s)


def _facts(
    call: CallRow,
    zone: tzinfo,
    found: Sequence[tuple[RecordingRow, Transcript, Any]],
    tags: Sequence[str],
    rating: int | None,
) -> dict[str, str]:
    started = call.started_at.astimezone(zone) if call.started_at else None
    models = dict.fromkeys(f"{transcript.engine} {transcript.model}".strip() for _, transcript, _ in found)
    facts = {
        "Started": f"{started:%Y-%m-%d %H:%M:%S} ({zone_text(zone, started)})" if started else "Unknown",
        "Direction": PLAIN_DIRECTIONS.get(call.direction) or call.direction,
        "From": call.from_number,
        "To": call.to_number,
        "Queue": call.queue,
        "Agent": call.agent,
        "Duration": duration_text(call.duration_s) if call.duration_s is not None else "",
        "Tags": ", ".join(tags),
        "Rating": f"{rating} of 5" if rating else "",
        "Call ID (linkedid)": call.linkedid,
        "Recordings": ", ".join(recording.name for recording, _, _ in found),
        "Transcribed by": ", ".join(models),
    }
    return {name: clean_text(value) for name, value in facts.items() if value}
