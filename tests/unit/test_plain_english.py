"""No text, comment, docstring or name contains a word that `tests/plain_english.py` lists."""

import pytest

from tests.paths import ROOT
from tests.plain_english import find_words

CHECKED_PATHS = [
    *sorted(f"pbx/{path.name}" for path in (ROOT / "pbx").iterdir() if path.name != "__pycache__"),
    *("pages", "streamlit_app.py", "docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(".env.example", "Makefile", "pyproject.toml", "tests/browser"),
]


@pytest.mark.parametrize("path", CHECKED_PATHS)
def test_no_forbidden_word_is_used(path: str) -> None:
    assert [f"{word.file}:{word.line}: {word.word}" for word in find_words([path])] == []
