"""The scripts of the demo's recordings: what is said in them, and by which voices. They are in `scripts.toml`."""

import tomllib
from dataclasses import dataclass
from typing import Any, Literal

from pbx.demo.sample_recordings import CHANNELS, FOLDER

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

    `seconds`: before a spoken line, the pause (negative: the speaker interrupts); of a sound, its length.
    """

    kind: LineKind
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CallScript:
    """The script of one recording. `queue` is the queue's name in lower case, `duration_s` the recording's length."""

    name: str
    queue: str
    duration_s: int
    voices: dict[str, Voice]  # of "caller" and "agent"
    lines: tuple[ScriptLine, ...]


def _line(entry: list[Any]) -> ScriptLine:
    if isinstance(entry[1], str):
        return ScriptLine(entry[0], entry[1], float(entry[2]) if len(entry) > 2 else _PAUSE_S)
    return ScriptLine(entry[0], "", float(entry[1]))


def _read() -> dict[str, CallScript]:
    scripts = tomllib.loads((FOLDER / "scripts.toml").read_text(encoding="utf-8"))["scripts"]
    return {
        one["name"]: CallScript(
            one["name"],
            one["queue"],
            one["duration_s"],
            {speaker: Voice(*one[speaker]) for speaker in CHANNELS},
            tuple(_line(line) for line in one["lines"]),
        )
        for one in scripts
    }


CALL_SCRIPTS = _read()
