"""The demo's recorded calls: what is said in them, their sounds, and the transcripts that are ready for them.

All lies in `recordings/`: `scripts.toml` (written by hand), and for each script a sound and a timed transcript, both
made by pbx.demo.voices.
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

_PAUSE_S = 0.45  # between turns, where the script says nothing else

LineKind = Literal["caller", "agent", "hold", "ring", "beep", "pause"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One of espeak-ng's voices (with its variant), how fast it speaks and how high (0 to 99)."""

    name: str
    words_per_min: int
    pitch: int


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """Something said, or a sound of the exchange (`text` is "" then).

    `seconds`: for something said, the pause before it (negative: it cuts in); for a sound, how long it lasts.
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


def _line(told: list[Any]) -> ScriptLine:
    if isinstance(told[1], str):
        return ScriptLine(told[0], told[1], float(told[2]) if len(told) > 2 else _PAUSE_S)
    return ScriptLine(told[0], "", float(told[1]))


def _read() -> dict[str, CallScript]:
    told = tomllib.loads((FOLDER / "scripts.toml").read_text(encoding="utf-8"))["scripts"]
    return {
        one["name"]: CallScript(
            one["name"],
            one["title"],
            one["queue"],
            one["duration_s"],
            {speaker: Voice(*one[speaker]) for speaker in CHANNELS},
            tuple(_line(line) for line in one["lines"]),
        )
        for one in told
    }


_BY_NAME = _read()
SCRIPTS: tuple[str, ...] = tuple(_BY_NAME)


def script(name: str) -> CallScript:
    """The script of that name; raises KeyError for one that is none of SCRIPTS."""
    return _BY_NAME[name]


def ready_transcript(name: str) -> list[Segment]:
    """What is said in a recording, as transcribing it would give it, with the times at which the voices speak.

    In the order of their start; probabilities are 1, since nothing was guessed. Hold music and ringing stand in it as
    in a transcript of a model's: segments with no text and the flag. Raises KeyError for an unknown name.
    """
    told = json.loads((FOLDER / f"{script(name).name}.json").read_text(encoding="utf-8"))
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
        for one in told
    ]
