"""The player: a recording's audio, its waveform and its transcript, word by word.

Streamlit's audio element serves the file in parts. The player hides that element, controls it, and draws the rest.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from pbx.formatting import FLAGS, SOUNDS, SPEAKERS
from pbx.store.models import SegmentRow
from pbx.ui.page_elements import UI_DIR, component

MAX_EDIT_CHARACTERS = 20_000
_TONES = ("caller", "agent")
_MERGE_PERCENT = 0.4  # of the waveform: marks closer than this become one

_component = component(
    "pbx_player",
    (UI_DIR / "player.html").read_text(encoding="utf-8"),
    "player.css",
    "elements.js",
    "player.js",
    "transcript.js",
)


@dataclass(frozen=True)
class ChannelWaveform:
    """The waveform of one audio channel: its speaker ("" if there is only one channel), colour and peaks (0 to 1)."""

    name: str
    tone: str
    peaks: Sequence[float]


@dataclass(frozen=True)
class Seek:
    """A position that the player should go to. `number` makes each request unique, even for the same position."""

    at_s: float
    number: str
    play: bool = False


@dataclass(frozen=True)
class SegmentEdit:
    """A new text for a segment, as the reader typed it."""

    segment_id: int
    text: str


@dataclass(frozen=True)
class RejectedEdit:
    """An edit that could not be saved, and why. The player opens it again. `number` makes each one unique."""

    edit: SegmentEdit
    why: str
    number: str


def player(
    *,
    key: str,
    sound: str,
    wave: str,
    lines: str,
    duration_s: float | None,
    seek: Seek | None = None,
    refused: RejectedEdit | None = None,
) -> SegmentEdit | None:
    """Draw the player and the transcript below it; returns an edit that the user just made.

    `sound`: the key of the container with the page's audio element, "" to show the transcript alone. `wave` comes from
    `waveform_json` and `lines` from `lines_json`. They are passed as text, so that the browser can compare them with
    what it already shows.
    """
    result = _component(
        key=key,
        data={
            "sound": sound,
            "wave": wave,
            "lines": lines,
            "duration_s": duration_s,
            "seek": asdict(seek) if seek else None,
            "refused": {**asdict(refused.edit), "why": refused.why, "number": refused.number} if refused else None,
        },
        on_edit_change=lambda: None,
    )
    return parse_edit(result.edit)


def parse_edit(sent: object) -> SegmentEdit | None:
    """Return the edit that the browser sent; None if the message isn't a valid edit."""
    if not isinstance(sent, Mapping):
        return None
    segment_id, text = sent.get("id"), sent.get("text")
    if type(segment_id) is not int or not isinstance(text, str) or not text.strip():
        return None
    return SegmentEdit(segment_id, text[:MAX_EDIT_CHARACTERS])


def speaker_name(speaker: str, channel: int, channels: int) -> str:
    """Return the label of a speaker; with several channels, unknown speakers are numbered by their channel."""
    return SPEAKERS.get(speaker) or (f"Speaker {channel + 1}" if channels > 1 else "")


def speaker_tone(speaker: str, channel: int, channels: int) -> str:
    """Return the CSS class with a speaker's colour."""
    if speaker in _TONES:
        return speaker
    return _TONES[channel % 2] if channels > 1 else ""


def lines_json(rows: Sequence[SegmentRow], channels: int) -> str:
    """Return segments as JSON for the player, one line each."""
    lines = [
        {
            "id": row.id,
            "at": row.start_s,
            "end": row.end_s,
            "speaker": speaker_name(row.speaker, row.channel, channels),
            "tone": speaker_tone(row.speaker, row.channel, channels),
            "text": row.text,
            "words": timed_words(row),
            "why": flags_text(row),
            "original": row.original_text,
        }
        for row in rows
    ]
    return json.dumps(lines, ensure_ascii=False, separators=(",", ":"))


def flags_text(row: SegmentRow) -> str:
    """Return why a segment is doubtful, or which sound it contains instead of speech; "" if it has no flags."""
    flags = row.flags.split()
    sounds = [SOUNDS[flag] for flag in flags if flag in SOUNDS]
    if sounds:
        return ", ".join(sounds).capitalize()
    doubts = [FLAGS.get(flag, flag) for flag in flags]
    return f"Doubtful: {', '.join(doubts)}" if doubts else ""


def timed_words(row: SegmentRow) -> list[list[Any]]:
    """Return a segment's words as [start_s, end_s, text, probability], with times for the words of an edit.

    Words that the edit didn't change keep their times. New words share the time of the words they replace, or of the
    gap between their neighbours.
    """
    if row.original_text is None:
        return row.words
    tokens, timed = row.text.split(), list(row.words)
    matcher = SequenceMatcher(None, [str(word[2]) for word in timed], tokens, autojunk=False)
    found: list[list[Any]] = []
    for kind, old, old_end, new, new_end in matcher.get_opcodes():
        if kind == "equal":
            found += timed[old:old_end]
        elif new < new_end:
            before_s = float(timed[old - 1][1]) if old else row.start_s
            after_s = float(timed[old_end][0]) if old_end < len(timed) else row.end_s
            start_s = float(timed[old][0]) if old < old_end else before_s
            end_s = float(timed[old_end - 1][1]) if old < old_end else max(after_s, before_s)
            found += _spread(tokens[new:new_end], start_s, end_s)
    return found


def _spread(tokens: Sequence[str], start_s: float, end_s: float) -> Iterator[list[Any]]:
    step_s = (end_s - start_s) / len(tokens)
    for index, token in enumerate(tokens):
        at_s = start_s + index * step_s
        yield [round(at_s, 3), round(at_s + step_s, 3), token, 1.0]  # a person wrote it, so its probability is 1


def waveform_json(lanes: Sequence[ChannelWaveform], rows: Sequence[SegmentRow], duration_s: float | None) -> str:
    """Return a waveform as JSON for the player.

    `lanes`: the channels. `spans`: marks over sounds and doubtful passages, in percent of the length.
    """
    lane_data = [
        {"name": lane.name, "tone": lane.tone, "peaks": [round(peak, 3) for peak in lane.peaks]} for lane in lanes
    ]
    marks: list[list[Any]] = []
    for row in rows:
        if not duration_s or not (why := flags_text(row)):
            continue
        tone = "sound" if set(row.flags.split()) & set(SOUNDS) else "doubted"
        start, end = (min(max(100 * at_s / duration_s, 0.0), 100.0) for at_s in (row.start_s, row.end_s))
        if marks and marks[-1][2:] == [tone, why] and start - marks[-1][1] < _MERGE_PERCENT:
            marks[-1][1] = max(round(end, 3), marks[-1][1])
        else:
            marks.append([round(start, 3), round(end, 3), tone, why])
    return json.dumps({"lanes": lane_data, "spans": marks}, ensure_ascii=False, separators=(",", ":"))
