"""Uploaded files of history: stored for the worker, and deleted after they were imported."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pbx.errors import DataError
from pbx.operating_system import is_device_name
from pbx.settings import Settings

_UNSAFE = re.compile(r"[^\w. -]")
_NAME_LENGTH = 80
_ORPHAN_S = 86_400  # a folder this old that no job needs was left by a worker that was killed


def save_uploads(settings: Settings, files: Sequence[tuple[str, BinaryIO]]) -> list[Path]:
    """Write files (name, content) into a new folder of data/imports; returns their paths in the same order.

    Each gets a safe name, see `safe_name`. Raises DataError when there is no room.
    """
    folder = settings.imports_dir.resolve() / uuid4().hex
    paths = []
    try:
        for number, (name, content) in enumerate(files):
            path = folder / str(number) / safe_name(name)
            path.parent.mkdir(parents=True)
            with path.open("xb") as file:
                shutil.copyfileobj(content, file, 1_048_576)
            paths.append(path)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"The files can't be written: {error.strerror}.", f"Make room in {folder.parent}.") from error
    return paths


def safe_name(name: str) -> str:
    """A safe name for an uploaded file: without folders and unusual characters, not hidden, and never empty."""
    last = re.split(r"[/\\]", name)[-1]
    plain = _UNSAFE.sub("_", last).strip(". ")[-_NAME_LENGTH:].strip(". ") or "file"
    return f"_{plain}" if is_device_name(plain) else plain


def delete_uploads(settings: Settings, paths: Sequence[Path]) -> None:
    """Delete uploaded files with their folder. Files outside data/imports are left alone."""
    for folder in {path.parent.parent for path in paths}:
        if folder.parent == settings.imports_dir.resolve():
            shutil.rmtree(folder, ignore_errors=True)


def delete_orphaned_uploads(settings: Settings, needed: set[Path]) -> None:
    """Delete folders of data/imports that are older than a day and that no job needs."""
    needed_folders = {path.parent.parent for path in needed}
    for folder in settings.imports_dir.resolve().glob("*"):
        if folder not in needed_folders and time.time() - folder.stat().st_mtime > _ORPHAN_S:
            shutil.rmtree(folder, ignore_errors=True)
