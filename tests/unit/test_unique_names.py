"""Public names are unique, and a package's `__all__` lists what other packages import from it."""

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


def test_classes_and_type_aliases_have_unique_names() -> None:
    types = ((name, file) for file in PBX_FILES for name in _types(_tree(file)))
    assert _repeated(types) == {}


def test_functions_have_unique_names_in_their_package() -> None:
    functions = (
        ((_package_of(file), node.name), file)
        for file in PBX_FILES
        for node in _tree(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name)
    )
    assert _repeated(functions) == {}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: ".".join(folder.relative_to(ROOT).parts))
def test_all_lists_what_other_packages_import(folder: Path) -> None:
    name = ".".join(folder.relative_to(ROOT).parts)
    package = importlib.import_module(name)
    exported = set(getattr(package, "__all__", ()))
    assert {each for each in exported if not hasattr(package, each)} == set()
    modules = {file.stem for file in folder.iterdir()}
    used = {each for file in APP_FILES if not file.is_relative_to(folder) for each in _imported(_tree(file), name)}
    assert used - modules - {"__version__"} <= exported


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
    """The names a file imports from a package's root, or uses as `package.name` after `from pbx import package`."""
    parent, _, short = package.rpartition(".")
    alias = None
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == parent:
            alias = next((each.asname or each.name for each in node.names if each.name == short), alias)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == alias:
            yield node.attr


def _repeated(named: Iterable[tuple[Hashable, Path]]) -> dict[Hashable, list[str]]:
    """Each name that several files define, with those files."""
    files: dict[Hashable, set[str]] = defaultdict(set)
    for name, file in named:
        files[name].add(str(file.relative_to(ROOT)))
    return {name: sorted(paths) for name, paths in files.items() if len(paths) > 1}
