"""Word times, from the decoder's attention to the sound while it wrote each token (Whisper's alignment heads).

openai-whisper decodes a second time to get this attention, and aligns a window as one. Here the attention of the
first decoding is used, and each phrase is aligned within its own timestamps.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pbx.speech.audio_windows import RATE_HZ, WindowSamples
from pbx.speech.decoding import Decoded

if TYPE_CHECKING:
    from torch import Tensor
    from whisper.tokenizer import Tokenizer

_FRAME_S = 0.02  # seconds for each position of the encoder
_MEDIAN = 7  # positions; the width of openai-whisper's filter
_MARGIN_S = 0.2  # how far a phrase's timestamps may be wrong
_SPREAD_S, _SPREAD = 0.03, 0.03  # deviation of speech from an even pace: constant, and per second
_WEIGHT, _WEIGHT_KNOWN = 1.0, 0.1  # weight of the pace, when the heads may not follow the sound and when they do
_UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}  # as in openai-whisper's tokenizer
_PUNCTUATION = set(string.punctuation) | set("。，、！？：；」』”’…¿¡「『“‘،؛؟")


@dataclass(frozen=True)
class TimedWord:
    """A word as the model wrote it, with its leading space, and its times in the window."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class TimedPhrase:
    """The text between two timestamps."""

    start_s: float
    end_s: float
    text: str
    words: tuple[TimedWord, ...]
    avg_logprob: float
    confidence: float  # mean probability of its tokens


def read_phrases(
    decoded: Decoded, tokenizer: "Tokenizer", sound: WindowSamples, language: str | None, heads_known: bool = False
) -> list[TimedPhrase]:
    """Return the phrases of a window with this sound (16 kHz), and the times of their words, within the window.

    `heads_known`: whether the attention is of heads that openai-whisper lists as following the sound.
    """
    length_s = len(sound) / RATE_HZ
    frames = max(1, min(round(length_s / _FRAME_S), decoded.attention.shape[-1]))
    found = _text_runs(decoded.tokens, tokenizer.timestamp_begin, length_s)
    if not found:
        return []
    seen = _attention_weights(decoded.attention[..., :frames])
    loud = _loud_frames(sound, frames)
    phrases = []
    for start_s, end_s, first, after in found:
        tokens, logprobs = decoded.tokens[first:after], decoded.logprobs[first:after]
        text = tokenizer.decode(list(tokens)).strip()
        if not text:
            continue
        low = min(int(max(start_s - _MARGIN_S, 0.0) / _FRAME_S), frames - 1)
        high = max(min(int((end_s + _MARGIN_S) / _FRAME_S) + 1, frames), low + 1)
        weights = seen[first : after + 1, low:high]
        if len(weights) == len(tokens):  # it ran out of room: there is no attention after the last token
            weights = np.concatenate([weights, np.zeros_like(weights[:1])])
        letters = [len(tokenizer.decode([token]).strip()) for token in tokens]
        pace = _pace_penalty(letters, loud[low:high]) * (_WEIGHT_KNOWN if heads_known else _WEIGHT)
        starts = _align_tokens(weights - pace)
        words = _words(tokens, logprobs, [low + at for at in starts], loud, tokenizer, language)
        chances = np.exp(logprobs)
        phrases.append(TimedPhrase(start_s, end_s, text, words, float(np.mean(logprobs)), float(np.mean(chances))))
    return phrases


def _loud_frames(sound: WindowSamples, frames: int) -> npt.NDArray[np.bool_]:
    """Return which frames have sound: at most 30 dB below the loud ones."""
    size = int(_FRAME_S * RATE_HZ)
    padded = np.zeros(frames * size, np.float32)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    power = (padded.reshape(frames, size) ** 2).mean(axis=1)
    loud: npt.NDArray[np.bool_] = power > np.percentile(power, 95) * 1e-3
    return loud


def _pace_penalty(letters: Sequence[int], loud: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (tokens + 1, frames): how far each frame is from the token's place at an even pace of letters.

    Only time with sound counts. This keeps a phrase together where a head attends to something else, as unknown heads
    of a checkpoint do.
    """
    passed = np.cumsum(loud) * _FRAME_S
    whole_s = max(float(passed[-1]), _FRAME_S)
    bounds = np.append(np.concatenate([[0], np.cumsum(letters)]) / max(sum(letters), 1), 1.0) * whole_s
    begin, end = bounds[:-1, None], bounds[1:, None]  # for the closing token, both are the end
    spread_s = _SPREAD_S + _SPREAD * whole_s
    away: npt.NDArray[np.float64] = np.maximum(np.maximum(begin - passed, passed - end), 0.0) / spread_s
    return away**2


def _text_runs(tokens: Sequence[int], begin: int, length_s: float) -> list[tuple[float, float, int, int]]:
    """Return (start_s, end_s, first token, token after) of each run of text, to the end if no timestamp closes it."""
    spans: list[tuple[float, float, int, int]] = []
    stamp_s, first = 0.0, None
    for index, token in enumerate([*tokens, begin + round(length_s / _FRAME_S)]):
        if token < begin:
            first = index if first is None else first
            continue
        at_s = min((token - begin) * _FRAME_S, length_s)
        if first is not None:
            spans.append((min(stamp_s, at_s), at_s, first, index))
            first = None
        stamp_s = at_s
    return spans


def _attention_weights(attention: "Tensor") -> npt.NDArray[np.float32]:
    """Return (tokens, frames): the weight of each token in each frame, as in `whisper.timing.find_alignment`."""
    weights = attention.float().softmax(dim=-1)
    if len(weights) > 1:
        weights = (weights - weights.mean(dim=0)) / (weights.std(dim=0, unbiased=False) + 1e-8)
    half = _MEDIAN // 2
    if weights.shape[-1] > half:
        padded = weights.new_empty(*weights.shape[:-1], weights.shape[-1] + 2 * half)
        padded[..., half:-half] = weights
        padded[..., :half] = weights[..., 1 : half + 1].flip(-1)
        padded[..., -half:] = weights[..., -half - 1 : -1].flip(-1)
        weights = padded.unfold(-1, _MEDIAN, 1).median(dim=-1).values
    mean: npt.NDArray[np.float32] = weights.mean(dim=1).cpu().numpy()
    return mean


def _align_tokens(weights: npt.NDArray[np.float64]) -> list[int]:
    """Return each token's first frame, when frames are assigned to the tokens in order for the greatest sum.

    Dynamic programming over (tokens, frames). Every token gets at least one frame; with fewer frames than tokens, the
    tokens are spread evenly.
    """
    tokens, frames = weights.shape
    if frames < tokens:
        return [int(i * frames / tokens) for i in range(tokens)]
    sums = np.concatenate([np.zeros((tokens, 1)), np.cumsum(weights, axis=1, dtype=np.float64)], axis=1)
    best = sums[0].copy()  # best sum of the tokens so far over the first j frames
    best[0] = -np.inf
    begun = np.zeros((tokens, frames + 1), np.intp)  # first frame of the last of these tokens
    for token in range(1, tokens):
        gain = best - sums[token]
        top = np.maximum.accumulate(gain)
        at = np.maximum.accumulate(np.where(gain >= top, np.arange(frames + 1), 0))
        begun[token, 1:] = at[:-1]  # at least one frame
        best = np.concatenate([[-np.inf], (sums[token] + np.concatenate([[-np.inf], top[:-1]]))[1:]])
    starts, end = [0] * tokens, frames
    for token in range(tokens - 1, 0, -1):
        starts[token] = end = int(begun[token, end])
    return starts


def _words(
    tokens: Sequence[int],
    logprobs: Sequence[float],
    frames: Sequence[int],
    loud: npt.NDArray[np.bool_],
    tokenizer: "Tokenizer",
    language: str | None,
) -> tuple[TimedWord, ...]:
    """Join tokens into words. The silence after a full stop belongs to no word."""
    pieces, groups = tokenizer.split_tokens_on_unicode(list(tokens))
    words: list[tuple[str, int, int, int]] = []  # text, first token, token after its letters, token after
    at = 0
    for piece, group in zip(pieces, groups, strict=True):
        after = at + len(group)
        bare = piece.strip()
        mark = all(c in _PUNCTUATION for c in bare)
        joined = mark and not piece.startswith(" ") if language in _UNSPACED else not piece.startswith(" ")
        if words and (joined or not bare):
            text, first, letters, _ = words[-1]
            words[-1] = (text + piece, first, letters if mark else after, after)
        else:
            words.append((piece, at, after, after))
        at = after
    timed = []
    for text, first, letters, _ in words:
        if not text.strip():
            continue
        start, end = frames[first], max(frames[letters], frames[first] + 1)
        sounding = np.flatnonzero(loud[start:end])
        if len(sounding):
            start, end = start + int(sounding[0]), start + int(sounding[-1]) + 1
        probability = float(np.mean(np.exp(logprobs[first:letters])))
        timed.append(TimedWord(text, start * _FRAME_S, end * _FRAME_S, probability))
    return tuple(timed)
