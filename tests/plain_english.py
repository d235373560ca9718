"""Finds words that the project doesn't use, in texts, comments, docstrings and names.

`python -m tests.plain_english [paths]` prints each place: file, line, the word, and what to write instead.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT

# A pattern in texts, comments and docstrings, and what to write instead.
WORDS = {
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again, redraw, refresh",
    r"by (itself|themselves)": "automatically",
    r"told": "reported, shown, logged: name the actor",
    r"tells? of": "reports, describes",
    r"stands?(?! for| out)|stood": "is, is up, status",
    r"in vain|let ring": "missed, ring no answer",
    r"g[ia]ven? up|gives up": "abandoned, stopped trying",
    r"in time(?! zone)": "within target, before the deadline",
    r"at once": "immediately, at the same time, concurrent",
    r"but short abandons": "calls offered, excluding short abandons",
    r"lines there are|most at once": "trunk capacity, peak concurrent calls",
    r"asked": "requested, selected; the parameter's name",
    r"whole (number|file)s?": "integer, complete file",
    r"places? (of a search|found)": "mentions",
    r"he|his|him": "they, the agent, the name",
    r"behind (this|it|a chart|the chart|a figure|the figure|a bar|a tile|them)": "the calls in this selection",
    r"stretch(es)?(?!\")": "time range, span",
    r"shel(f|ves)": "recording folder",
    r"hindrances?|hold-?ups?": "blocked reason",
    r"lies|lie in": "is in",
    r"[0-9}] ?%(?<= %)(?! \w+\()": "97.8%, without a space",
    r"number calleds": "numbers called",
}
# Parts of names (of functions, variables, classes, files) that stand for nothing a stranger knows.
NAME_PARTS = {"mend", "anew", "told", "asked", "behind", "stretch", "stretches", "shelf", "hindrance", "stands", "vain"}

_PATTERNS = [(re.compile(rf"(?<![\w’'-])({pattern})(?![\w’'])", re.IGNORECASE), say) for pattern, say in WORDS.items()]
# Spoken language, and migrations, which keep old names.
_EXCLUDED = (
    "pbx/demo/sample_calls/",
    "pbx/speech/idioms.toml",
    "pbx/speech/phantom_phrases.toml",
    "pbx/store/migrations/",
)
_TEXT_FILES = (".md", ".toml", ".html", ".css", ".js", ".example", "Makefile")


class Found(NamedTuple):
    """A word that the project doesn't use."""

    file: str
    line: int
    word: str
    instead: str


def find_words(paths: list[str]) -> Iterator[Found]:
    """Every place below `paths` (files or folders in the repository) with a word of the lists."""
    listed = subprocess.run(["git", "ls-files", "-z", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(_EXCLUDED):
            continue
        file = ROOT / name
        if name.endswith(".py"):
            for line, text in _texts_and_comments(file):
                yield from _words_in(name, line, text)
            yield from _names_in(name, file)
        elif name.endswith(_TEXT_FILES):
            for line, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                yield from _words_in(name, line, text)


def _words_in(name: str, line: int, text: str) -> Iterator[Found]:
    for pattern, instead in _PATTERNS:
        for match in pattern.finditer(text):
            yield Found(name, line + text.count("\n", 0, match.start()), match[0], instead)


def _tokens(file: Path) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline)


def _texts_and_comments(file: Path) -> Iterator[tuple[int, str]]:
    for token in _tokens(file):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield token.start[0], token.string


def _names_in(name: str, file: Path) -> Iterator[Found]:
    for token in _tokens(file):
        if token.type == tokenize.NAME and NAME_PARTS & set(re.findall("[a-z]+", _snake(token.string))):
            yield Found(name, token.start[0], token.string, "a name that a stranger understands")


def _snake(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    for found in find_words(sys.argv[1:] or ["."]):
        print(f"{found.file}:{found.line}: {found.word} ({found.instead})")
