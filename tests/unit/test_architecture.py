"""Rules of the project's structure, beside those that import-linter checks (pyproject.toml)."""

import re
import subprocess
import sys

from tests.paths import ROOT


def test_no_script_is_directly_in_pages() -> None:
    # Streamlit would run it by URL without running the entry script first.
    assert list((ROOT / "pages").glob("*.py")) == []


def test_files_have_at_most_700_lines() -> None:
    long_files = {
        str(file.relative_to(ROOT)): lines
        for folder in ("pbx", "pages", "tests", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 700
    }
    assert long_files == {}


def test_the_entry_script_has_less_than_80_lines() -> None:
    assert len((ROOT / "streamlit_app.py").read_text().splitlines()) < 80


def test_few_product_files_mention_the_demo() -> None:
    # Other code uses `Settings.data_label`.
    mentioning = {
        str(file.relative_to(ROOT))
        for file in (*(ROOT / "pbx").rglob("*.py"), *(ROOT / "pages").rglob("*.py"), ROOT / "streamlit_app.py")
        if ROOT / "pbx" / "demo" not in file.parents and re.search(r"demo|made_up", file.read_text(), re.IGNORECASE)
    }
    assert mentioning == {
        "pbx/__main__.py",
        "pbx/cli/demo.py",
        "pbx/settings.py",
        "pbx/ui/active_pbx.py",
        "pbx/ui/demo.py",
    }


def test_importing_pbx_never_imports_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "pbx").rglob("*.py")
        if "migrations" not in file.parts and file.name != "__main__.py"
    ]
    imported = "[m for m in ('torch', 'whisper') if m in sys.modules]"
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint({imported})"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "[]", process.stderr
