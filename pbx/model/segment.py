"""What transcription produces: segments of words, with the reasons to doubt them."""

from dataclasses import dataclass
from typing import Literal

# Why a segment may be wrong (the first five), or what was heard instead of speech (the last two, without text).
Flag = Literal["no_voice", "repetition", "compression", "improbable", "phantom", "music", "ringing"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in the recording and the model's probability for it (0 to 1)."""

    start_s: float
    end_s: float
    text: str  # as printed, without the space before it; Chinese and the like come a few characters at a time
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A phrase on one channel, `start_s` to `end_s` in the recording.

    `confidence` is the mean probability of its tokens (0 to 1). A segment with flags is shown dimmed, and
    excluded from summaries, and from searches unless they include such segments.
    """

    start_s: float
    end_s: float
    channel: int
    text: str
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    flags: tuple[Flag, ...] = ()
