"""Runs the tests of files that changed since main: `python -m tests.run_changed [pytest's options]`, or `make quick`.

It runs the test files that changed, and those that import or name a changed file. If these are more than MOST_FILES, it
runs only those in the folders of the changed files, and prints a message.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT

FAST = ("tests/unit", "tests/pages")  # these suites need no PBX and no browser
MOST_FILES = 20


def changed_files() -> list[str]:
    """The files that differ from main, including uncommitted and untracked files."""
    base = _git("merge-base", "HEAD", "main") or _git("merge-base", "HEAD", "origin/main") or ["HEAD"]
    return sorted({*_git("diff", "--name-only", base[0]), *_git("ls-files", "--others", "--exclude-standard")})


def tests_of(changed: list[str]) -> list[str]:
    """The test files to run for these changes: the changed ones, and at most MOST_FILES others."""
    tests = [file for folder in FAST for file in (ROOT / folder).rglob("test_*.py")]
    own = {name for name in changed if name.startswith(FAST) and Path(name).name.startswith("test_")}
    own = {name for name in own if (ROOT / name).exists()}
    patterns = [_reference(name) for name in changed if name not in own]
    found = {str(file.relative_to(ROOT)) for file in tests if any(p.search(file.read_text()) for p in patterns)} - own
    if len(found) > MOST_FILES:
        folders = {str(Path("tests/unit", *Path(name).parts[1:-1])) for name in changed if name.startswith("pbx/")}
        near = [name for name in sorted(found) if str(Path(name).parent) in folders][:MOST_FILES]
        print(f"{len(found)} test files use the changed files: running {len(near)} of them. `make test` runs all.")
        found = set(near)
    return sorted(own | found)


def _reference(name: str) -> re.Pattern[str]:
    """A pattern for how a test refers to a file: it imports the module, or names the path."""
    if not name.endswith(".py"):
        return re.compile(re.escape(Path(name).name))
    parts = Path(name).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    module, package = re.escape(".".join(parts)), re.escape(".".join(parts[:-1]))
    names = rf"from {package} import [^\n]*\b{re.escape(parts[-1])}\b" if package else module
    return re.compile(rf"\b{module}\b|{names}|{re.escape(name)}")


def _git(*arguments: str) -> list[str]:
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.split() if run.returncode == 0 else []


if __name__ == "__main__":
    selected = tests_of(changed_files())
    print(f"{len(selected)} test files")
    if selected:
        os.execv(sys.executable, [sys.executable, "-m", "pytest", "-n", "auto", *sys.argv[1:], *selected])
