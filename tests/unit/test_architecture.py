"""The house rules that a machine can hold: who may import whom, what a page may load, where scripts may stand."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

GROUND = {"charset", "settings", "errors", "timed_http", "wording"}
# A room imports from rooms to its left (a lower rank) or from the ground; its own files know one another.
RANK = {
    "ami": 1,
    "ari": 1,
    "speech": 1,
    "metrics": 1,
    "doctor": 2,
    "history": 2,
    "store": 3,
    "jobs": 4,
    "charts": 5,
    "demo": 5,
    "export": 5,
    "ui": 6,
    "commands": 6,
    "__main__": 7,
}


def modules_of(room: str) -> list[Path]:
    folder = ROOT / "pbx" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / "pbx" / f"{room}.py"]


def imports_of(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_used(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(file) if name.startswith("pbx.")} - GROUND


def test_every_room_has_a_rank() -> None:
    rooms = {path.stem for path in (ROOT / "pbx").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} - GROUND == set(RANK)


@pytest.mark.parametrize("room", RANK)
def test_a_room_imports_only_to_its_left(room: str) -> None:
    for file in modules_of(room):
        for used in rooms_used(file) - {room}:
            if used in RANK:
                assert RANK[used] < RANK[room], f"{file.relative_to(ROOT)} imports pbx.{used}"


def test_only_ui_knows_streamlit() -> None:
    for file in (ROOT / "pbx").rglob("*.py"):
        if file.relative_to(ROOT / "pbx").parts[0] != "ui":
            assert not any(name.split(".")[0] == "streamlit" for name in imports_of(file)), file


def test_no_script_stands_directly_in_pages() -> None:
    # Streamlit would run it by URL without running the entry script first.
    assert list((ROOT / "pages").glob("*.py")) == []


def test_files_stay_small() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for folder in ("pbx", "pages", "tests", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 400
    }
    assert long == {}


def test_the_entry_stays_small() -> None:
    assert len((ROOT / "streamlit_app.py").read_text().splitlines()) < 80


def test_importing_pbx_never_imports_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in (ROOT / "pbx").rglob("*.py")
        if "migrations" not in file.parts and file.name != "__main__.py"
    ]
    heavy = "[m for m in ('torch', 'whisper') if m in sys.modules]"
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint({heavy})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr
