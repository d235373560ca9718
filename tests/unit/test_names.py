"""One thing has one name, and a package's `__all__` lists what the others import from it."""

import ast
import importlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.paths import ROOT

PBX_FILES = [file for file in sorted((ROOT / "pbx").rglob("*.py")) if "migrations" not in file.parts]
APP_FILES = [*PBX_FILES, *sorted((ROOT / "pages").rglob("*.py")), ROOT / "streamlit_app.py"]
PACKAGES = [file.parent for file in PBX_FILES if file.name == "__init__.py"]


def test_no_two_classes_or_type_aliases_have_one_name() -> None:
    types = ((name, file) for file in PBX_FILES for name in _types(_tree(file)))
    assert _repeated(types) == {}


def test_no_two_functions_of_a_package_have_one_name() -> None:
    functions = (
        ((_package_of(file), node.name), file)
        for file in PBX_FILES
        for node in _tree(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name)
    )
    assert _repeated(functions) == {}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: ".".join(folder.relative_to(ROOT).parts))
def test_all_lists_what_a_package_offers(folder: Path) -> None:
    name = ".".join(folder.relative_to(ROOT).parts)
    package = importlib.import_module(name)
    offered = set(getattr(package, "__all__", ()))
    assert {one for one in offered if not hasattr(package, one)} == set()
    modules = {file.stem for file in folder.iterdir()}
    used = {one for file in APP_FILES if not file.is_relative_to(folder) for one in _imported(_tree(file), name)}
    assert used - modules - {"__version__"} <= offered


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _types(tree: ast.Module) -> Iterator[str]:
    """The public classes and type aliases: `Name = ...` in camel case."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _is_public(node.name):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper() and "TypeVar(" not in ast.unparse(node.value):
                yield name


def _package_of(file: Path) -> Path:
    return file.parent.relative_to(ROOT)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """What a file imports from a package's root, or uses of it by `from pbx import package` and `package.name`."""
    parent, _, short = package.rpartition(".")
    alias = None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == parent:
            alias = next((one.asname or one.name for one in node.names if one.name == short), alias)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == alias:
            yield node.attr


def _repeated(named: Iterable[tuple[Hashable, Path]]) -> dict[Hashable, list[str]]:
    """The names that more than one file defines, with those files."""
    files: dict[Hashable, set[str]] = defaultdict(set)
    for name, file in named:
        files[name].add(str(file.relative_to(ROOT)))
    return {name: sorted(where) for name, where in files.items() if len(where) > 1}
