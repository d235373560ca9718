"""Files of history that were uploaded: written where a worker finds them, deleted when they were read."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pbx.errors import DataError
from pbx.machine import is_device_name
from pbx.settings import Settings

_ODD = re.compile(r"[^\w. -]")
_NAME_LENGTH = 80
_FORGOTTEN_S = 86_400  # a folder so old that no job names was left by a worker that died


def save_uploads(settings: Settings, files: Sequence[tuple[str, BinaryIO]]) -> list[Path]:
    """Write files (name, content) into a new folder of data/imports, in the order given; returns where they lie.

    Of a name only the last part counts, and of that only harmless characters. Raises DataError when there is no room.
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
    """A file's name as it may stand in a folder: no path, nothing hidden, nothing odd, and never empty."""
    last = re.split(r"[/\\]", name)[-1]
    plain = _ODD.sub("_", last).strip(". ")[-_NAME_LENGTH:].strip(". ") or "file"
    return f"_{plain}" if is_device_name(plain) else plain


def delete_uploads(settings: Settings, paths: Sequence[Path]) -> None:
    """Delete uploaded files with their folder; whatever lies elsewhere stays."""
    for folder in {path.parent.parent for path in paths}:
        if folder.parent == settings.imports_dir.resolve():
            shutil.rmtree(folder, ignore_errors=True)


def sweep_uploads(settings: Settings, wanted: set[Path]) -> None:
    """Delete what lies in data/imports for more than a day and isn't wanted by any job."""
    needed = {path.parent.parent for path in wanted}
    for folder in settings.imports_dir.resolve().glob("*"):
        if folder not in needed and time.time() - folder.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(folder, ignore_errors=True)
