"""Recordings as files: their path below data/audio, and what their headers show."""

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

from pbx.operating_system import is_device_name

HEADER_BYTES = 44  # a WAV header without sound; no format holds sound in so few bytes
_PLAIN_FOLDER = re.compile(r"[a-z0-9_+-]{1,60}")
_PLAIN_STEM = re.compile(r"[a-z0-9_+(=@][a-z0-9_+(=@),. -]{0,148}[a-z0-9_+)=@]|[a-z0-9]")
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,7}")  # g726-32 is one
_MAX_FOLDERS = 6
_MAX_NAME = 170  # characters with the folders: Windows allows 260 in a path, the data directory's among them
_MAX_CHUNKS = 1000  # a file full of zeros, as after a crash, looks like endless chunks of 8 bytes
# Programs that write to a pipe can't return to the header: 0x7FFFF000 (sox), 0x7FFFFFFF, 0xFFFFFFFF (lame, FFmpeg), or
# a little less, rounded down to complete frames. No recording is that long.
_UNKNOWN_LENGTH = 0x7FF00000
_UNFINISHED = "It is still being written: its header has no length yet."
_OTHER_SOUND = (b"OggS", b"fLaC", b"ID3", b".snd")  # first bytes of other formats, whatever the file's name
# Bytes per second of the formats without a header (`core show file formats`).
_RATES: dict[str, int] = {
    **dict.fromkeys(("ulaw", "ul", "mu", "ulw", "pcm", "alaw", "al", "alw", "g722"), 8000),
    **dict.fromkeys(("sln", "raw"), 16000),
    **{f"sln{khz}": khz * 2000 for khz in (12, 16, 24, 32, 48, 96, 192)},
    "sln44": 88200,
    "gsm": 1650,
    "g729": 1000,
}


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The result of checking a downloaded file. Only `downloaded` ones are kept."""

    state: Literal["downloaded", "waiting", "empty", "unreadable"]
    reason: str = ""
    duration_s: float | None = None
    suffix: str = "wav"  # of the file, by its content
    cut_short: bool = False  # the file is shorter than its header claims


def stored_path(connection_id: int, name: str, suffix: str) -> str:
    """Return the path below data/audio of an ARI recording name: the same for the same name, safe on every system.

    An ordinary name stays as it is. A name that could leave the directory, clash with another on a file system that
    ignores case or rewrites accents, name a device of Windows, or be too long is replaced by its readable part and a
    hash of all of it. The cache stores the path beside the name, so files that were stored earlier keep theirs.
    """
    *folders, stem = name.split("/")
    plain_folders = len(folders) <= _MAX_FOLDERS and len(name) <= _MAX_NAME and all(map(_is_plain, folders))
    if not plain_folders:
        folders = ["other"]
    if not plain_folders or not _PLAIN_STEM.fullmatch(stem) or is_device_name(stem):
        readable = re.sub(r"[^A-Za-z0-9+-]+", "_", stem)[:80].strip("_")
        stem = f"{readable}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"
    return "/".join((str(connection_id), *folders, f"{stem}.{suffix}"))


def _is_plain(folder: str) -> bool:
    return _PLAIN_FOLDER.fullmatch(folder) is not None and not is_device_name(folder)


def check_recording(file: BinaryIO, size_bytes: int, fmt: str) -> FileCheck:
    """Check a complete file of ARI's `format` by its size and header.

    Asterisk writes both sizes of a WAV header as 0 and fixes them when the call ends, so a size of zero means that
    it is still being written. ARI may also return a WAV for a name that it lists with another format.
    """
    if size_bytes <= HEADER_BYTES:
        return FileCheck("empty", f"The PBX's file holds no sound ({size_bytes} bytes).")
    head = file.read(12)
    named_wav = fmt.lower().startswith("wav")
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _examine_wav(file, size_bytes, int.from_bytes(head[4:8], "little"), _suffix(fmt) if named_wav else "wav")
    if named_wav:
        return FileCheck("unreadable", "It is named WAV, but its content is not WAV.")
    rate = None if head.startswith(_OTHER_SOUND) else _RATES.get(fmt)
    return FileCheck("downloaded", duration_s=size_bytes / rate if rate else None, suffix=_suffix(fmt))


def _suffix(fmt: str) -> str:
    return fmt if _SUFFIX.fullmatch(fmt) else "bin"


def _examine_wav(file: BinaryIO, size_bytes: int, riff_size: int, suffix: str) -> FileCheck:
    """Go through the chunks (LIST, fact and others may precede the data) up to the data."""
    byte_rate = 0
    offset = 12
    for _ in range(_MAX_CHUNKS):
        if offset + 8 > size_bytes:
            break
        file.seek(offset)
        name, length = struct.unpack("<4sI", file.read(8))
        offset += 8
        if name == b"fmt ":
            fields = file.read(min(length, 16))
            byte_rate = int.from_bytes(fields[8:12], "little")
        elif name == b"data":
            return _examine_data(size_bytes - offset, length, byte_rate, suffix)
        offset += length + length % 2
    if riff_size == 0:
        return FileCheck("waiting", _UNFINISHED)
    return FileCheck("unreadable", "Its WAV header is damaged: it has no data chunk.")


def _examine_data(present_bytes: int, claimed_bytes: int, byte_rate: int, suffix: str) -> FileCheck:
    if claimed_bytes == 0 and present_bytes > 1:  # one byte may pad
        return FileCheck("waiting", _UNFINISHED)
    if claimed_bytes == 0:
        return FileCheck("empty", "The PBX's file holds a header and no sound.")
    if claimed_bytes >= _UNKNOWN_LENGTH:
        claimed_bytes = min(claimed_bytes, present_bytes)
    if claimed_bytes > present_bytes:
        reason = f"It is cut short: {present_bytes} of {claimed_bytes} bytes of sound are present."
        return FileCheck("unreadable", reason, cut_short=True)
    if byte_rate == 0:
        return FileCheck("unreadable", "Its WAV header is damaged: it names no format.")
    return FileCheck("downloaded", duration_s=claimed_bytes / byte_rate, suffix=suffix)
