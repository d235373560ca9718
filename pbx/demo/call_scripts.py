"""The demo's recorded calls: what is said in them, their sounds, and the transcripts that are ready for them.

The folder `sample_calls` has `scripts.toml`, written by hand, and for each script a sound and a timed transcript, which
tests.simulator.make_sample_calls makes.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pbx.model.segment import Segment, Word

FOLDER = Path(__file__).parent / "sample_calls"
CHANNELS: dict[str, int] = {
    "caller": 0,
    "agent": 1,
}  # as MixMonitor records a caller's channel: what it says, what it hears

_PAUSE_S = 0.45  # between turns, unless the script has another pause

LineKind = Literal["caller", "agent", "hold", "ring", "beep", "pause"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One of espeak-ng's voices (with its variant), how fast it speaks and how high (0 to 99)."""

    name: str
    words_per_min: int
    pitch: int


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """A spoken line, or a sound of the exchange, which has no `text`.

    `seconds`: before a spoken line, the pause (negative: the speaker cuts in); of a sound, its length.
    """

    kind: LineKind
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CallScript:
    """One recorded call. `queue` is the queue's name, `duration_s` the recording's length in whole seconds."""

    name: str
    title: str
    queue: str
    duration_s: int
    voices: dict[str, Voice]  # of "caller" and "agent"
    lines: tuple[ScriptLine, ...]

    @property
    def sound(self) -> Path:
        """Stereo WAV, G.711 µ-law, 8 kHz: the caller left, the agent right."""
        return FOLDER / f"{self.name}.wav"


def _line(entry: list[Any]) -> ScriptLine:
    if isinstance(entry[1], str):
        return ScriptLine(entry[0], entry[1], float(entry[2]) if len(entry) > 2 else _PAUSE_S)
    return ScriptLine(entry[0], "", float(entry[1]))


def _read() -> dict[str, CallScript]:
    scripts = tomllib.loads((FOLDER / "scripts.toml").read_text(encoding="utf-8"))["scripts"]
    return {
        one["name"]: CallScript(
            one["name"],
            one["title"],
            one["queue"],
            one["duration_s"],
            {speaker: Voice(*one[speaker]) for speaker in CHANNELS},
            tuple(_line(line) for line in one["lines"]),
        )
        for one in scripts
    }


_BY_NAME = _read()
SCRIPT_NAMES: tuple[str, ...] = tuple(_BY_NAME)


def script(name: str) -> CallScript:
    """The script of that name. Raises KeyError if it isn't one of SCRIPT_NAMES."""
    return _BY_NAME[name]


def ready_transcript(name: str) -> list[Segment]:
    """The transcript of a recording, as a speech model would make it, with the times at which the voices speak.

    Segments are sorted by their start, and probabilities are 1. Hold music and ringing are segments without text and
    with a flag, as a model's. Raises KeyError for an unknown name.
    """
    segments = json.loads((FOLDER / f"{script(name).name}.json").read_text(encoding="utf-8"))
    return [
        Segment(
            one["start_s"],
            one["end_s"],
            CHANNELS[one["speaker"]],
            one["text"],
            tuple(Word(start_s, end_s, text, 1.0) for start_s, end_s, text in one["words"]),
            1.0 if one["text"] else 0.0,
            tuple(one["flags"]),
        )
        for one in segments
    ]
