"""The result of transcription: segments of words, with the reasons to doubt them."""

from dataclasses import dataclass
from typing import Literal

# Why a segment might be wrong (the first five), or what was heard instead of speech (the last two, without text).
Flag = Literal["no_voice", "repetition", "compression", "improbable", "phantom", "music", "ringing"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in the recording and the model's probability for it (0 to 1)."""

    start_s: float
    end_s: float
    text: str  # as printed, without the space before it; a few characters in Chinese and similar scripts
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A phrase on one channel, from `start_s` to `end_s` in the recording.

    `confidence` is the mean probability of its tokens (0 to 1). A segment with flags is shown dimmed. Summaries exclude
    it, and so do searches unless they include flagged segments.
    """

    start_s: float
    end_s: float
    channel: int
    text: str
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    flags: tuple[Flag, ...] = ()
