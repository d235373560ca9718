"""Files, functions, make targets and commands that the documents mention exist."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pbx.analytics.formulas import agents, callbacks, queues, registration, trunks
from pbx.analytics.formulas.ratio import Ratio
from tests.paths import ROOT
from tests.unit.test_readme import command_names

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FOLDERS = ("pbx/", "pages/", "tests/", "docs/", "benchmarks/", ".ci/")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)


@every_document
def test_the_files_a_document_names_exist(document: Path) -> None:
    named = [code for code in _code(document) if code.startswith(FOLDERS) or re.fullmatch(r"\w+\.(py|toml|txt)", code)]
    assert [name for name in named if not (ROOT / name.split()[0]).exists()] == []


@every_document
def test_the_links_of_a_document_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^):]+)\)", re.sub(r"`[^`]*`", "", document.read_text(encoding="utf-8")))
    assert [link for link in links if not _target_exists(document, *link.partition("#")[::2])] == []


@every_document
def test_the_code_a_document_names_exists(document: Path) -> None:
    assert [name for name in _code(document) if re.fullmatch(r"pbx(\.\w+)+", name) and not _exists(name)] == []


@every_document
def test_the_commands_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    lines = re.findall(r"(?:^|`)make ([a-z -]+?)\s*(?:#|`|$)", text, re.MULTILINE)
    assert {word for line in lines for word in line.split()} <= targets
    commands = command_names()
    used = re.findall(r"python -m pbx ([a-z]+(?: (?:queue-log|cdr)\b)?)", text)
    assert {name for name in used if not any(f"{known} ".startswith(f"{name} ") for known in commands)} == set()


def test_every_formula_is_documented() -> None:
    classes = (
        *(queues.QueueFigures, agents.AgentFigures, trunks.TrunkFigures),
        *(callbacks.CallbackFigures, registration.Registration),
    )
    ratios = [
        f"{kind.__module__}.{kind.__name__}.{name}"
        for kind in classes
        for name, member in vars(kind).items()
        if isinstance(member, property) and member.fget and member.fget.__annotations__.get("return") is Ratio
    ]
    assert len(ratios) > 15
    assert [name for name in ratios if f"`{name}`" not in METRICS] == []


def _target_exists(document: Path, path: str, heading: str) -> bool:
    """Whether the file of a link exists, and the heading in it, if the link has one."""
    file = document.parent / path if path else document
    if not file.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
    return not heading or heading in {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in headings}


def test_every_headline_figure_is_documented() -> None:
    files = ("pbx/ui/queue_figures.py", "pbx/ui/trunks.py", "pages/live/agents.py", "pages/calls/explore.py")
    labels = {label for file in files for label in _tile_labels(ROOT / file)}
    assert len(labels) > 20
    assert [label for label in sorted(labels) if f"| {label}" not in METRICS and f"({label}" not in METRICS] == []


def _tile_labels(file: Path) -> Iterator[str]:
    """The first argument of each call of `tile` or `figure_tile` that is a text constant."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("tile", "figure_tile"):
            continue
        first = node.args[0]
        while isinstance(first, ast.Starred | ast.Tuple):
            first = first.value if isinstance(first, ast.Starred) else first.elts[0]
        if isinstance(first, ast.Constant):
            yield str(first.value)


def _code(document: Path) -> list[str]:
    """The inline code of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or a function, class or attribute in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = getattr(found, "__annotations__", {})
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, None)
        return True
    return False
