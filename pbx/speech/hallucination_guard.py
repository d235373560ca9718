"""The hallucination guard: flags segments of a transcript that nobody said, or probably nobody said.

Whisper was trained on subtitles. Where nobody speaks it writes credits and thanks for watching, or repeats itself in a
loop. The guard drops nothing: it flags doubtful segments, and the reader decides.
"""

import math
import re
from collections.abc import Sequence

from pbx.model.segment import Flag
from pbx.speech.decoding import MAX_COMPRESSION_RATIO, MAX_NO_SPEECH_PROB, MIN_AVG_LOGPROB
from pbx.speech.phantom_phrases import is_phantom_phrase, plain_text

# This project's limit; the fastest speech has about 25 letters a second (300 words a minute).
MAX_LETTERS_PER_S = 45.0
_RATE_LETTERS = 24  # the times of shorter texts are too coarse
_MIN_VOICED_SHARE = 0.05  # below this nobody spoke, in a segment of any length
_LITTLE_VOICED_SHARE = 0.3
_DOUBTFUL_LOGPROB = -0.8
# (letters in the repeated block, repetitions that are too many): digits and spelled names repeat single characters, and
# people say "no no no no" or "Can you hear me?" three times.
_LOOPS = ((1, 16), (6, 8), (20, 5), (math.inf, 4))
_MAX_PERIOD = 40  # tokens; Whisper writes at most 224 per window

# Scripts of one character per word, or without spaces: a character counts for about three letters.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED_WEIGHT = 3
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_SOUND_NAMED = re.compile(
    r"\s*(\[[^\[\]]*\]|\([^()]*\)|\*[^*]*\*|【[^【】]*】|（[^（）]*）)[\s.]*"
)  # "[Music]", "(applause)"


def hallucination_flags(
    text: str,
    *,
    voiced_share: float,
    compression_ratio: float,
    avg_logprob: float,
    no_speech_prob: float,
    duration_s: float,
) -> tuple[Flag, ...]:
    """Return why a segment is doubtful, in the order of `Flag`; nothing for a trustworthy or empty one.

    `voiced_share` (0 to 1): the share of the segment that voice detection found voiced. `compression_ratio`,
    `avg_logprob` (natural, per token) and `no_speech_prob` are openai-whisper's. The thresholds of these three are
    openai-whisper's too (`compression_ratio_threshold`, `logprob_threshold`, `no_speech_threshold` of
    `whisper.transcribe`; Radford et al. 2022, section 4.5); those for voice, loops and speed are this project's.
    """
    if not text.strip():
        return ()
    plain = plain_text(text)
    improbable = not avg_logprob >= MIN_AVG_LOGPROB  # also for NaN, from a failed decoding
    silent = no_speech_prob > MAX_NO_SPEECH_PROB
    doubtful = voiced_share < _LITTLE_VOICED_SHARE or silent or not avg_logprob >= _DOUBTFUL_LOGPROB
    found: dict[Flag, bool] = {
        "no_voice": _voiceless(plain, voiced_share, duration_s) or (silent and improbable),  # openai-whisper's rule
        "repetition": _loops(plain) or _is_too_fast(plain, duration_s),
        "compression": compression_ratio > MAX_COMPRESSION_RATIO,
        "improbable": improbable,
        "phantom": not plain or bool(_SOUND_NAMED.fullmatch(text)) or is_phantom_phrase(text, doubtful=doubtful),
    }
    return tuple(flag for flag, holds in found.items() if holds)


def _letters(plain: str) -> int:
    """Return the length of a text, spoken, in letters."""
    spaces = plain.count(" ")
    return len(plain) - spaces + (_UNSPACED_WEIGHT - 1) * len(_UNSPACED_CHARACTER.findall(plain))


def _voiceless(plain: str, voiced_share: float, duration_s: float) -> bool:
    """Whether nobody spoke, or too briefly to say this text."""
    if voiced_share < _MIN_VOICED_SHARE:
        return True
    return voiced_share < _LITTLE_VOICED_SHARE and _letters(plain) > MAX_LETTERS_PER_S * voiced_share * duration_s


def _is_too_fast(plain: str, duration_s: float) -> bool:
    letters = _letters(plain)
    return letters >= _RATE_LETTERS and letters > MAX_LETTERS_PER_S * duration_s


def _loops(plain: str) -> bool:
    """Whether a block of words, or of characters in scripts without spaces, repeats too often in a row."""
    words: list[str] = _TOKEN.findall(plain)
    longest = max(words, key=len, default="")
    return _has_loop(words) or (len(longest) >= _LOOPS[0][1] and _has_loop(longest))


def _has_loop(tokens: Sequence[str]) -> bool:
    for period in range(1, min(_MAX_PERIOD, len(tokens) // 2) + 1):
        same = 0  # tokens in a row that equal the ones a period before
        for at in range(period, len(tokens)):
            same = same + 1 if tokens[at] == tokens[at - period] else 0
            if same >= period:
                block = "".join(tokens[at - period + 1 : at + 1])
                limit = next(times for letters, times in _LOOPS if _letters(block) <= letters)
                if same // period + 1 >= limit:
                    return True
    return False
