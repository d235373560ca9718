"""The phrases that models make up where nobody speaks, in any language: phantoms.toml, made ready to match."""

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

from pbx.speech.words import fold

_LONGEST = 300  # characters of a sentence that may be one of them
_SEARCHED = 2000  # of a doubtful text; more than Whisper writes at once
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？؟।\n]+")  # not the dots in "Amara.org"
# Apostrophes join; dotless and dotted i are one, as capitals don't tell them apart.
_LEFT_OUT = re.compile(r"['’‘`´\u0307\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_ASIDE = re.compile(r"\[[^\[\]]{0,40}\]|\([^()]{0,40}\)")  # what is heard beside words: [Music], (applause)
_FOLDED_ON = str.maketrans("ıς", "iσ")


def plain_text(text: str) -> str:
    """Letters, marks and digits alone, case, accents and width folded, one space for all between; apostrophes join."""
    folded = _folded(text)
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split())


def is_made_up(text: str, *, doubtful: bool) -> bool:
    """Whether a text is nothing but what subtitles say; of a doubtful one it is enough that some of it is.

    Phrases may come several at once, among thanks and goodbyes that anybody says.
    """
    spoken = _ASIDE.sub(" ", text)
    text = spoken if plain_text(spoken) else text
    plain = plain_text(text)
    if _is_never_said(plain):
        return True
    sentences = [sentence for part in _SENTENCE_END.split(text) if (sentence := plain_text(part))]
    never = [_is_never_said(sentence) for sentence in sentences]
    known = all(said or sentence in _often() for said, sentence in zip(never, sentences, strict=True))
    if doubtful:
        return known or any(never) or bool(_within().search(plain[:_SEARCHED]))
    return known and any(never)


def _is_never_said(plain: str) -> bool:
    if not plain or len(plain) > _LONGEST:
        return False
    return any(pattern.match(plain) for pattern in _never())


@cache
def _never() -> tuple[re.Pattern[str], ...]:
    return (
        re.compile(f"(?:{_all_of('whole')})$"),
        re.compile(_all_of("credits")),
        re.compile(rf"(?:.*\b)?(?:{_all_of('names')})\b"),
    )


@cache
def _within() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{_all_of('whole')})\b")


def _all_of(kind: str) -> str:
    return "|".join(f"(?:{_folded(pattern)})" for entry in _read().values() for pattern in entry.get(kind, ()))


@cache
def _often() -> frozenset[str]:
    return frozenset(plain_text(phrase) for entry in _read().values() for phrase in entry.get("often", ()))


def _folded(text: str) -> str:
    return _LEFT_OUT.sub("", fold(text)).translate(_FOLDED_ON)


@cache
def _read() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
