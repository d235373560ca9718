"""Phrases that models invent where nobody speaks, in any language: compiled from phantom_phrases.toml."""

import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

from pbx.speech.words import fold

_LONGEST = 300  # characters of an invented sentence, at most
_SEARCHED = 2000  # characters of a doubtful text that are searched; more than Whisper writes in a window
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)|[。！？؟।\n]+")  # not the dots in "Amara.org"
# Apostrophes join words; dotless and dotted i are the same, as in capitals.
_LEFT_OUT = re.compile(r"['’‘`´\u0307\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_ASIDE = re.compile(r"\[[^\[\]]{0,40}\]|\([^()]{0,40}\)")  # sounds other than words: [Music], (applause)
_FOLDED_ON = str.maketrans("ıς", "iσ")


def plain_text(text: str) -> str:
    """Return letters, marks and digits, folded, with one space for everything else; apostrophes join words."""
    folded = _folded(text)
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split())


def is_phantom_phrase(text: str, *, doubtful: bool) -> bool:
    """Whether a text consists of phrases that models invent; for a doubtful text, one such phrase is enough.

    Several phrases may follow one another, with ordinary thanks and goodbyes between them.
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
