"""Phrases of a window to segments of the recording: true times, no segment across a pause, and the guard's verdict."""

from collections.abc import Sequence
from typing import Protocol

from pbx.model.segment import Segment, Word
from pbx.speech.alignment import TimedPhrase, TimedWord
from pbx.speech.guard import judge
from pbx.speech.windows import Window

_PAUSE_S = 1.0  # two stretches that lie further apart are two segments


class Judged(Protocol):
    """What any engine's decoding of a window tells of its quality, as openai-whisper counts it."""

    @property
    def compression_ratio(self) -> float: ...

    @property
    def no_speech_prob(self) -> float: ...


def to_segments(window: Window, phrases: Sequence[TimedPhrase], decoded: Judged) -> list[Segment]:
    """The window's segments; the words of each lie within the stretches that they were heard in."""
    segments = []
    for phrase in phrases:
        for run in _runs(window, phrase.words):
            words = tuple(
                Word(window.time_at(w.start_s, piece), window.time_at(w.end_s, piece), w.text.strip(), w.probability)
                for piece, w in run
            )
            start_s, end_s = words[0].start_s, max(word.end_s for word in words)
            text = "".join(word.text for _, word in run).strip()
            flags = judge(
                text,
                voiced_share=_voiced_share(window, start_s, end_s),
                compression_ratio=decoded.compression_ratio,
                avg_logprob=phrase.avg_logprob,
                no_speech_prob=decoded.no_speech_prob,
                duration_s=end_s - start_s,
            )
            segments.append(Segment(start_s, end_s, window.channel, text, words, phrase.confidence, flags))
    return segments


def uncovered(window: Window, phrases: Sequence[TimedPhrase], least_s: float) -> list[Window]:
    """The stretches of at least `least_s` for which nothing was written, each in a window of its own."""
    missed = []
    for index, alone in enumerate(window.unpacked()):
        start_s, end_s = window.span_of(index)
        said_s = sum(max(0.0, min(end_s, p.end_s) - max(start_s, p.start_s)) for p in phrases)
        if end_s - start_s >= least_s and said_s < 0.2 * (end_s - start_s):
            missed.append(alone)
    return missed


def _runs(window: Window, words: Sequence[TimedWord]) -> list[list[tuple[int, TimedWord]]]:
    """Words with the pieces they lie in, parted where a pause of the recording lies between them."""
    runs: list[list[tuple[int, TimedWord]]] = []
    before = 0
    for word in words:
        piece = max(window.piece_at((word.start_s + word.end_s) / 2), before)  # never backwards
        paused = any(window.pieces[i + 1].start_s - window.pieces[i].end_s > _PAUSE_S for i in range(before, piece))
        if not runs or paused:
            runs.append([])
        runs[-1].append((piece, word))
        before = piece
    return runs


def _voiced_share(window: Window, start_s: float, end_s: float) -> float:
    voiced_s = sum(max(0.0, min(end_s, p.end_s) - max(start_s, p.start_s)) for p in window.pieces)
    return min(1.0, voiced_s / (end_s - start_s)) if end_s > start_s else 0.0
