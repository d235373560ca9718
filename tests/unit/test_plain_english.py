"""No text, comment, docstring or name uses the words of `tests/plain_english.py`."""

import pytest

from tests.paths import ROOT
from tests.plain_english import find_words

ROOMS = [
    *sorted(f"pbx/{path.name}" for path in (ROOT / "pbx").iterdir() if path.name != "__pycache__"),
    *("pages", "streamlit_app.py", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(".env.example", "Makefile", "pyproject.toml", "tests/browser"),
]


@pytest.mark.parametrize("room", ROOMS)
def test_the_words_are_plain_english(room: str) -> None:
    assert [f"{word.file}:{word.line}: {word.word}" for word in find_words([room])] == []
