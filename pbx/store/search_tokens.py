"""Splits text into the words it is searched by, with their positions in the text.

The index and the search split text in the same way, on any database. A word is a run of letters, digits and marks. Case
and accents are ignored ("Größe" and "GRÖSSE" become "grosse"). In Chinese, Japanese, Korean, Thai and similar scripts,
each character is a word of its own because these are written without spaces, and a search term is a phrase of them.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_ASCII_WORD = re.compile(r"[0-9a-z]+")
_LONGEST = 200  # characters of a word that are indexed; PostgreSQL rejects words of more than 2046 bytes
_VOICING = "\uff9e\uff9f"  # half-width Kana voicing: marks, although Unicode classifies them as letters
_JOINERS = "\u00ad\u200c\u200d"  # soft hyphen, zero-width non-joiner and joiner: removed, but don't end a word
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # Chinese repetition mark, closing mark, zero
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31F0, 0x31FF),  # Katakana for Ainu
    (0x3400, 0x9FFF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


class Token(NamedTuple):
    """A word to search by. In the text it reaches from index `start` up to, but not including, `end`."""

    text: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """Split a text into the words it is searched by."""
    if text.isascii():
        return [Token(m[0][:_LONGEST], *m.span()) for m in _ASCII_WORD.finditer(text.lower())]
    tokens: list[Token] = []
    run: list[str] = []  # characters of the current word
    run_start = at = 0
    while at < len(text):
        end = at + 1
        if _is_letter(text[at]):
            while end < len(text) and _goes_on(text[end]):
                end += 1
            folded = _folded(text[at:end])
            if _is_unspaced(folded[:1]):
                _close(tokens, run, run_start, at)
                _close(tokens, [folded], at, end)
            else:
                run_start = run_start if run else at
                run.append(folded)
        else:
            _close(tokens, run, run_start, at)
        at = end
    _close(tokens, run, run_start, at)
    return tokens


def _close(tokens: list[Token], run: list[str], start: int, end: int) -> None:
    if word := "".join(run):
        tokens.append(Token(word[:_LONGEST], start, end))
    run.clear()


@lru_cache(4096)
def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] in "LN" or unicodedata.category(char) == "Co"


@lru_cache(4096)
def _goes_on(char: str) -> bool:
    return char in _JOINERS or char in _VOICING or unicodedata.category(char)[0] == "M"


@lru_cache(4096)
def _is_unspaced(char: str) -> bool:
    return char != "" and any(first <= ord(char) <= last for first, last in _UNSPACED)


@lru_cache(16384)
def _folded(cluster: str) -> str:
    """Remove case and accents from a letter with its marks. Marks that are vowels or change the letter are kept."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", cluster).casefold())
    kept = (char for char in plain if not _is_accent(char) and (_is_letter(char) or _goes_on(char)))
    return unicodedata.normalize("NFC", "".join(char for char in kept if char not in _JOINERS))


def _is_accent(char: str) -> bool:
    # These canonical combining classes are Hebrew and Arabic points, overlays, and marks above or below a letter.
    # Kana voicing (8), viramas (9) and South Asian vowels (0 and up to 132) are not accents.
    place = unicodedata.combining(char)
    return place == 1 or 10 <= place <= 36 or place >= 200
