"""Transcripts as TXT, SubRip, WebVTT and JSON."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from pbx.export.call import CallTranscript, TranscriptLine
from pbx.formatting import SOUNDS

MIN_CUE_S = 0.1  # players drop cues of no length
RULE = "=" * 72

OneOrMoreCalls = CallTranscript | Iterable[CallTranscript]


def iter_calls(calls: OneOrMoreCalls) -> Iterable[CallTranscript]:
    """Return the calls as an iterable, also if there is only one."""
    return [calls] if isinstance(calls, CallTranscript) else calls


def to_txt(calls: OneOrMoreCalls, *, doubtful: bool = False) -> str:
    """Return calls as text: details, summary, note, then a line per segment, `[01:23] Agent: text`."""
    return f"\n{RULE}\n\n".join(_txt(call, doubtful) for call in iter_calls(calls))


def to_srt(call: CallTranscript, *, doubtful: bool = False) -> str:
    """Return SubRip subtitles: numbered cues `HH:MM:SS,mmm --> HH:MM:SS,mmm` with the speaker before the text.

    Times are from the start of the call's first recording.
    """
    cues = []
    for number, line in enumerate(_spoken(call, doubtful), 1):
        text = line_text(line).replace("-->", "→")  # otherwise a player reads it as a time line
        cues.append(f"{number}\n{_cue_time(line, ',')}\n{text}\n")
    return "\n".join(cues)


def to_vtt(call: CallTranscript, *, doubtful: bool = False) -> str:
    """Return WebVTT subtitles (W3C): cues with the speaker as `<v Agent>`; `&`, `<` and `>` in texts are escaped."""
    cues = ["WEBVTT\n"]
    for line in _spoken(call, doubtful):
        text = _escape(line.text)
        cues.append(f"{_cue_time(line, '.')}\n{f'<v {_escape(line.speaker)}>{text}' if line.speaker else text}\n")
    return "\n".join(cues)


def to_json(calls: OneOrMoreCalls, *, doubtful: bool = False, indent: int | None = 1) -> str:
    """Return JSON: `{"calls": [{facts, summary, recordings: [{segments: [{…, words}]}]}]}`.

    Times are in seconds from the start of each recording. Edited segments have `edited: true` and `original_text`.
    """
    return json.dumps(
        {"calls": [call_data(call, doubtful) for call in iter_calls(calls)]}, ensure_ascii=False, indent=indent
    )


def call_data(call: CallTranscript, doubtful: bool = False) -> dict[str, Any]:
    """Return a call as plain data for JSON."""
    return {
        "id": call.call_id,
        "title": call.title,
        "started_at": _iso(call.started_at),
        "facts": dict(call.facts),
        "tags": list(call.tags),
        "note": call.note,
        "summary": call.summary,
        "recordings": [
            {
                "name": recording.name,
                "started_at": _iso(recording.started_at),
                "offset_s": recording.offset_s,
                "duration_s": recording.duration_s,
                "engine": recording.engine,
                "model": recording.model,
                "language": recording.language,
                "segments": [_segment(line) for line in recording.lines if doubtful or not line.flags],
            }
            for recording in call.recordings
        ],
    }


def line_text(line: TranscriptLine) -> str:
    """Return a line as text, with its speaker, and a mark if it is doubtful: `Agent (doubtful): text`."""
    sounds = [SOUNDS[flag] for flag in line.flags if flag in SOUNDS]
    if sounds and not line.text:
        return f"({', '.join(sounds)})"
    who = " ".join(filter(None, (line.speaker, "(doubtful)" if line.flags else "")))
    return f"{who}: {line.text}" if who else line.text


def clock_text(at_s: float) -> str:
    """Format a time in a call: 01:23, 1:02:03."""
    seconds = int(at_s)
    hours = f"{seconds // 3600}:" if seconds >= 3600 else ""
    return f"{hours}{seconds % 3600 // 60:02}:{seconds % 60:02}"


def _txt(call: CallTranscript, doubtful: bool) -> str:
    width = max(map(len, call.facts), default=0)
    parts = [call.title, "", *(f"{name:<{width}}  {value}" for name, value in call.facts.items())]
    for heading, text in (("Summary", call.summary), ("Note", call.note)):
        if text:
            parts += ["", heading, "", text]
    groups = call.recording_groups(doubtful=doubtful)
    for group in groups:
        if len(groups) > 1:
            parts += ["", f"Recording {', '.join(group.names)}, from {clock_text(group.offset_s)}"]
        parts += ["", *(f"[{clock_text(line.start_s)}] {line_text(line)}" for line in group.lines)]
    if not any(group.lines for group in groups):
        parts += ["", "No speech in this call." if call.recordings else "This call has no transcript."]
    return "\n".join(parts) + "\n"


def _spoken(call: CallTranscript, doubtful: bool) -> Iterator[TranscriptLine]:
    """Yield the lines with text of all recordings by start, as subtitle formats require."""
    lines = [line for group in call.recording_groups(doubtful=doubtful) for line in group.lines if line.text]
    yield from sorted(lines, key=lambda line: line.start_s)


def _cue_time(line: TranscriptLine, point: str) -> str:
    start_ms = round(line.start_s * 1000)
    end_ms = max(round(line.end_s * 1000), start_ms + round(MIN_CUE_S * 1000))
    return f"{_stamp(start_ms, point)} --> {_stamp(end_ms, point)}"


def _stamp(at_ms: int, point: str) -> str:
    seconds, ms = divmod(at_ms, 1000)
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}{point}{ms:03}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _segment(line: TranscriptLine) -> dict[str, Any]:
    edited = {} if line.original_text is None else {"edited": True, "original_text": line.original_text}
    return {
        "start_s": line.start_s,
        "end_s": line.end_s,
        "speaker": line.speaker,
        "channel": line.channel,
        "text": line.text,
        **edited,
        "confidence": line.confidence,
        "flags": list(line.flags),
        "words": [
            {"start_s": word.start_s, "end_s": word.end_s, "text": word.text, "probability": word.probability}
            for word in line.words
        ],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
