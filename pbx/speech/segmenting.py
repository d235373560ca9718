"""Turns a window's phrases into segments: times in the recording, split at pauses, flagged where doubtful."""

from collections.abc import Sequence
from typing import Protocol

from pbx.model.segment import Segment, Word
from pbx.speech.alignment import TimedPhrase, TimedWord
from pbx.speech.audio_windows import Window
from pbx.speech.hallucination_guard import hallucination_flags

_PAUSE_S = 1.0  # spans further apart become separate segments


class DecodingQuality(Protocol):
    """The quality of a decoded window, as openai-whisper measures it."""

    @property
    def compression_ratio(self) -> float: ...

    @property
    def no_speech_prob(self) -> float: ...


def to_segments(window: Window, phrases: Sequence[TimedPhrase], decoded: DecodingQuality) -> list[Segment]:
    """Return the window's segments. Each word stays within the span that it was heard in."""
    segments = []
    for phrase in phrases:
        for run in _runs(window, phrase.words):
            words = tuple(
                Word(window.time_at(w.start_s, piece), window.time_at(w.end_s, piece), w.text.strip(), w.probability)
                for piece, w in run
            )
            start_s, end_s = words[0].start_s, max(word.end_s for word in words)
            text = "".join(word.text for _, word in run).strip()
            flags = hallucination_flags(
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
    """Return the spans of at least `least_s` seconds without text, each in a window of its own."""
    missed = []
    for index, alone in enumerate(window.unpacked()):
        start_s, end_s = window.span_of(index)
        said_s = sum(max(0.0, min(end_s, p.end_s) - max(start_s, p.start_s)) for p in phrases)
        if end_s - start_s >= least_s and said_s < 0.2 * (end_s - start_s):
            missed.append(alone)
    return missed


def _runs(window: Window, words: Sequence[TimedWord]) -> list[list[tuple[int, TimedWord]]]:
    """Group words, with the index of their piece, at the recording's pauses."""
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
