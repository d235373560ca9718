"""Typical phrases of phone calls by language: reads idioms.toml and compiles its patterns."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_UNSPACED = re.compile("[\u3041-\u9fff\uac00-\ud7a3]")


@dataclass(frozen=True, slots=True)
class Idioms:
    """Words, and patterns for folded text, of one or more languages. idioms.toml explains each."""

    fillers: frozenset[str]
    openings: re.Pattern[str]
    courtesies: re.Pattern[str]
    reasons: re.Pattern[str]
    outcomes: re.Pattern[str]
    questions: re.Pattern[str]  # to match at the start
    endings: re.Pattern[str]  # to search; it is anchored at the end


@cache
def idioms_of(languages: frozenset[str]) -> Idioms:
    """Return the combined idioms of some languages (Whisper's codes); nothing matches for unknown ones."""
    known = [entry for code, entry in _read().items() if code in languages]
    endings = "|".join(_patterns(known, "endings"))
    return Idioms(
        fillers=frozenset(word for entry in known for word in entry["fillers"].split()),
        openings=_matcher(_patterns(known, "openings")),
        courtesies=_matcher(_patterns(known, "courtesies")),
        reasons=_matcher(_patterns(known, "reasons")),
        outcomes=_matcher(_patterns(known, "outcomes")),
        questions=_matcher(_patterns(known, "questions")),
        endings=re.compile(f"(?:{endings})$" if endings else r"(?!)"),
    )


@cache
def spoken_digits() -> dict[str, str]:
    """Return the words for digits in all languages, as written, with the digit of each."""
    return {
        word: str(digit)
        for entry in _read().values()
        for digit, words in enumerate(entry.get("digits", "").split())
        for word in words.split("|")
    }


def own_stop_words(language: str) -> frozenset[str]:
    """Return this file's stop words for a language; empty when the library's list is good enough."""
    return frozenset(_read().get(language, {}).get("stop_words", "").split())


def _patterns(entries: Iterable[dict[str, Any]], kind: str) -> list[str]:
    return [pattern for entry in entries for pattern in entry.get(kind, ())]


def _matcher(patterns: list[str]) -> re.Pattern[str]:
    # Complete words only, except in scripts without spaces.
    complete = [pattern if _UNSPACED.search(pattern) else rf"\b(?:{pattern})(?!\w)" for pattern in patterns]
    return re.compile("|".join(complete) or r"(?!)")


@cache
def _read() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
