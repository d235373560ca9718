"""The demo's twelve recordings, each with a ready transcript.

The folder `sample_calls` has the script of each, written by hand, and the sound and the timed transcript that
`make demo-recordings` makes from it.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pbx.demo.company import QUEUES
from pbx.model.segment import Segment, Word

FOLDER = Path(__file__).parent / "sample_calls"
CHANNELS: dict[str, int] = {"caller": 0, "agent": 1}  # as MixMonitor records a caller: what they say, what they hear


@dataclass(frozen=True, slots=True)
class SampleRecording:
    """One recording, made in the queue with the number `queue`. Its length is that of the call's conversation."""

    name: str
    queue: str
    duration_s: float

    @property
    def sound(self) -> Path:
        """Stereo WAV, G.711 µ-law, 8 kHz: the caller left, the agent right."""
        return FOLDER / f"{self.name}.wav"

    def transcript(self) -> list[Segment]:
        """The transcript as a speech model would make it, with the times at which the voices speak.

        Segments are sorted by their start, and probabilities are 1. Hold music and ringing are segments without text
        and with a flag, as from a model.
        """
        segments = json.loads((FOLDER / f"{self.name}.json").read_text(encoding="utf-8"))
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


def _read() -> dict[str, SampleRecording]:
    numbers = {queue.name.lower(): queue.number for queue in QUEUES}
    scripts = tomllib.loads((FOLDER / "scripts.toml").read_text(encoding="utf-8"))["scripts"]
    return {one["name"]: SampleRecording(one["name"], numbers[one["queue"]], one["duration_s"]) for one in scripts}


SAMPLE_RECORDINGS: Mapping[str, SampleRecording] = _read()
