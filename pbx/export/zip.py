"""Transcripts with their recordings in one ZIP, written straight to a file: no recording is held in memory."""

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
    """A folder per call: its original recordings, transcript.txt and transcript.json.

    A recording that is not on this machine is named in `missing.txt`. Raises StorageFull; then nothing is left behind.
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
    """A ZIP with a file per call. Raises StorageFull; then nothing is left behind."""
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
        raise StorageFull(
            "There is no room left for the export.", "Free some space on the disk, or export fewer calls at once."
        ) from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _add_file(archive: zipfile.ZipFile, file: Path, name: str) -> bool:
    """Copy a file in as it is, as audio hardly shrinks; False when it is no longer there."""
    try:
        source = file.open("rb")
    except FileNotFoundError:
        return False
    with source:
        entry = zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)
        with archive.open(entry, "w", force_zip64=True) as place:
            shutil.copyfileobj(source, place, _CHUNK_BYTES)
    return True


def _unique(name: str, taken: set[str], suffix: str = "") -> str:
    """The name, numbered where it is taken already; upper and lower case are one on some systems."""
    if suffix and name.lower().endswith(suffix.lower()):
        name = name[: -len(suffix)]
    made, number = name + suffix, 1
    while made.lower() in taken:
        number += 1
        made = f"{name} ({number}){suffix}"
    taken.add(made.lower())
    return made
