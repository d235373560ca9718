"""ZIP files with transcripts and recordings, written to disk without loading recordings into memory."""

import errno
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pbx.errors import StorageFull
from pbx.export.call import CallTranscript, safe_name
from pbx.export.text import to_json, to_txt

_CHUNK_BYTES = 1 << 20


def write_zip(calls: Iterable[CallTranscript], target: Path, *, doubtful: bool = False) -> None:
    """Write a ZIP with a folder per call: its original recordings, transcript.txt and transcript.json.

    Recordings that are not on this machine are listed in `missing.txt`. Raises StorageFull, and leaves no file then.
    """
    with _new_zip(target) as archive:
        folders: set[str] = set()
        for call in calls:
            folder = _unique(call.stem, folders)
            names = {"transcript.txt", "transcript.json", "missing.txt"}
            archive.writestr(f"{folder}/transcript.txt", to_txt(call, doubtful=doubtful))
            archive.writestr(f"{folder}/transcript.json", to_json(call, doubtful=doubtful))
            missing = []
            for recording in call.recordings:
                suffix = recording.audio.suffix if recording.audio else ""
                name = _unique(safe_name(recording.name.rpartition("/")[2]), names, suffix)
                if recording.audio is None or not _add_file(archive, recording.audio, f"{folder}/{name}"):
                    missing.append(recording.name)
            if missing:
                archive.writestr(f"{folder}/missing.txt", "Not on this machine:\n" + "\n".join(missing) + "\n")


def write_each(
    calls: Iterable[CallTranscript], target: Path, extension: str, make: Callable[[CallTranscript], bytes]
) -> None:
    """Write a ZIP with one file per call. Raises StorageFull, and leaves no file then."""
    with _new_zip(target) as archive:
        names: set[str] = set()
        for call in calls:
            archive.writestr(_unique(call.stem, names, f".{extension}"), make(call))


@contextmanager
def _new_zip(target: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
            yield archive
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("Not enough disk space for the export.", "Free disk space, or export fewer calls.") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _add_file(archive: zipfile.ZipFile, file: Path, name: str) -> bool:
    """Copy a file into the archive without compression, as audio hardly shrinks; False if the file is gone."""
    try:
        source = file.open("rb")
    except FileNotFoundError:
        return False
    with source:
        entry = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
        with archive.open(entry, "w", force_zip64=True) as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
    return True


def _unique(name: str, taken: set[str], suffix: str = "") -> str:
    """Return the name, with a number if it is taken; some file systems ignore case, so this does too."""
    if suffix and name.lower().endswith(suffix.lower()):
        name = name[: -len(suffix)]
    unique, number = name + suffix, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name} ({number}){suffix}"
    taken.add(unique.lower())
    return unique
