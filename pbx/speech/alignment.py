"""When each word was said: by where the decoder looked in the sound while it wrote (Whisper's alignment heads).

openai-whisper decodes a second time to learn that and warps time over a whole window. Here the looks are kept from the
decoding itself, and each phrase is laid into its own time, as the timestamps around it say.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pbx.speech.decoding import Decoded
from pbx.speech.windows import RATE_HZ, WindowSamples

if TYPE_CHECKING:
    from torch import Tensor
    from whisper.tokenizer import Tokenizer

_FRAME_S = 0.02  # a position of the encoder
_MEDIAN = 7  # positions; the width of openai-whisper's filter
_MARGIN_S = 0.2  # a phrase's timestamps may be off by so much
_SPREAD_S, _SPREAD = 0.03, 0.03  # how far speech strays from an even pace: so much, and so much of a phrase's length
_WEIGHT, _WEIGHT_KNOWN = 1.0, 0.1  # of that, beside heads that may not follow the sound, and that are known to
_UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}  # as openai-whisper's tokenizer has it
_PUNCTUATION = set(string.punctuation) | set("。，、！？：；」』”’…¿¡「『“‘،؛؟")


@dataclass(frozen=True)
class TimedWord:
    """A word with its times in the window, as the model wrote it (with the space before it)."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class TimedPhrase:
    """What was written between two timestamps."""

    start_s: float
    end_s: float
    text: str
    words: tuple[TimedWord, ...]
    avg_logprob: float
    confidence: float  # mean probability of its tokens


def read_phrases(
    decoded: Decoded, tokenizer: "Tokenizer", sound: WindowSamples, language: str | None, heads_known: bool = False
) -> list[TimedPhrase]:
    """The phrases of a window with this sound (16 kHz), and the times of their words, all within the window.

    `heads_known`: whether the heads that were looked at are those that openai-whisper found to follow the sound.
    """
    length_s = len(sound) / RATE_HZ
    frames = max(1, min(round(length_s / _FRAME_S), decoded.looks.shape[-1]))
    found = _spans(decoded.tokens, tokenizer.timestamp_begin, length_s)
    if not found:
        return []
    seen = _weigh(decoded.looks[..., :frames])
    loud = _loud(sound, frames)
    phrases = []
    for start_s, end_s, first, after in found:
        tokens, logprobs = decoded.tokens[first:after], decoded.logprobs[first:after]
        text = tokenizer.decode(list(tokens)).strip()
        if not text:
            continue
        low = min(int(max(start_s - _MARGIN_S, 0.0) / _FRAME_S), frames - 1)
        high = max(min(int((end_s + _MARGIN_S) / _FRAME_S) + 1, frames), low + 1)
        weights = seen[first : after + 1, low:high]
        if len(weights) == len(tokens):  # it ran out of room: nothing was looked at behind the last token
            weights = np.concatenate([weights, np.zeros_like(weights[:1])])
        letters = [len(tokenizer.decode([token]).strip()) for token in tokens]
        pace = _surprise(letters, loud[low:high]) * (_WEIGHT_KNOWN if heads_known else _WEIGHT)
        starts = _lay(weights - pace)
        words = _words(tokens, logprobs, [low + at for at in starts], loud, tokenizer, language)
        chances = np.exp(logprobs)
        phrases.append(TimedPhrase(start_s, end_s, text, words, float(np.mean(logprobs)), float(np.mean(chances))))
    return phrases


def _loud(sound: WindowSamples, frames: int) -> npt.NDArray[np.bool_]:
    """In which frames there is sound to speak of: no more than 30 dB below the loud ones."""
    size = int(_FRAME_S * RATE_HZ)
    padded = np.zeros(frames * size, np.float32)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    power = (padded.reshape(frames, size) ** 2).mean(axis=1)
    loud: npt.NDArray[np.bool_] = power > np.percentile(power, 95) * 1e-3
    return loud


def _surprise(letters: Sequence[int], loud: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(tokens + 1, frames): how far a frame is from where the token would be if each letter took as long.

    Time is counted where there is sound. It holds a phrase together where a head looks elsewhere, as those of a
    checkpoint do of which it isn't known what they follow.
    """
    passed = np.cumsum(loud) * _FRAME_S
    whole_s = max(float(passed[-1]), _FRAME_S)
    bounds = np.append(np.concatenate([[0], np.cumsum(letters)]) / max(sum(letters), 1), 1.0) * whole_s
    begin, end = bounds[:-1, None], bounds[1:, None]  # of the closing one: both at the end
    spread_s = _SPREAD_S + _SPREAD * whole_s
    away: npt.NDArray[np.float64] = np.maximum(np.maximum(begin - passed, passed - end), 0.0) / spread_s
    return away**2


def _spans(tokens: Sequence[int], begin: int, length_s: float) -> list[tuple[float, float, int, int]]:
    """(start_s, end_s, first token, token after) of every run of text; without a closing timestamp, to the end."""
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


def _weigh(looks: "Tensor") -> npt.NDArray[np.float32]:
    """(tokens, frames): how much each token is at home in each frame, as `whisper.timing.find_alignment` counts it."""
    weights = looks.float().softmax(dim=-1)
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


def _lay(weights: npt.NDArray[np.float64]) -> list[int]:
    """The first frame of each token's own, when all frames go to the tokens in their order for the greatest sum.

    Dynamic programming over (tokens, frames); every token gets a frame at least, or, where there are fewer frames than
    tokens, its even share.
    """
    tokens, frames = weights.shape
    if frames < tokens:
        return [int(i * frames / tokens) for i in range(tokens)]
    sums = np.concatenate([np.zeros((tokens, 1)), np.cumsum(weights, axis=1, dtype=np.float64)], axis=1)
    best = sums[0].copy()  # of laying the tokens so far over the first j frames
    best[0] = -np.inf
    begun = np.zeros((tokens, frames + 1), np.intp)  # where the last of them begins for that
    for token in range(1, tokens):
        gain = best - sums[token]
        top = np.maximum.accumulate(gain)
        at = np.maximum.accumulate(np.where(gain >= top, np.arange(frames + 1), 0))
        begun[token, 1:] = at[:-1]  # a frame of its own at least
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
    """Tokens joined to words; the silence that a full stop stands for belongs to none of them."""
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
