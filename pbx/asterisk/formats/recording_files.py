"""A recording as a file: where it is kept below data/audio, and what its first bytes say about it."""

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, Literal

from pbx.machine import is_device_name

HEADER_BYTES = 44  # a WAV header without sound; no format says anything in so few bytes
_PLAIN_FOLDER = re.compile(r"[a-z0-9_+-]{1,60}")
_PLAIN_STEM = re.compile(r"[a-z0-9_+(=@][a-z0-9_+(=@),. -]{0,148}[a-z0-9_+)=@]|[a-z0-9]")
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,7}")  # g726-32 is one
_MAX_FOLDERS = 6
_MAX_NAME = 170  # characters with the folders: Windows allows 260 in a path, the data directory's among them
_MOST_CHUNKS = 1000  # zeros, which a crash leaves in a file, are chunks of 8 bytes without end
# Programs that write to a pipe can't return to the header: 0x7FFFF000 (sox), 0x7FFFFFFF, 0xFFFFFFFF (lame, FFmpeg), or
# a little less, as a whole number of frames fits in. No recording is as long as that.
_UNKNOWN_LENGTH = 0x7FF00000
_UNFINISHED = "It is still being written: its header has no length yet."
_OTHER_SOUND = (b"OggS", b"fLaC", b"ID3", b".snd")  # how files of other formats begin, whatever they are named
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
    """What a downloaded file is: only `downloaded` ones are kept."""

    state: Literal["downloaded", "waiting", "empty", "unreadable"]
    reason: str = ""
    duration_s: float | None = None
    suffix: str = "wav"  # of the file, by what it holds
    cut_short: bool = False  # its header promises more than there is


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


def examine(file: BinaryIO, size_bytes: int, fmt: str) -> FileCheck:
    """Judge a whole file of ARI's `format` by its size and header.

    Asterisk writes both sizes of a WAV header as 0 and fixes them when the call ends, so a zero size means that it is
    still being written; ARI may also hand out a WAV under a name that is listed with another format.
    """
    if size_bytes <= HEADER_BYTES:
        return FileCheck("empty", f"The PBX's file holds no sound ({size_bytes} bytes).")
    head = file.read(12)
    named_wav = fmt.lower().startswith("wav")
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _examine_wav(file, size_bytes, int.from_bytes(head[4:8], "little"), _suffix(fmt) if named_wav else "wav")
    if named_wav:
        return FileCheck("unreadable", "It is named WAV, but what it holds is not.")
    rate = None if head.startswith(_OTHER_SOUND) else _RATES.get(fmt)
    return FileCheck("downloaded", duration_s=size_bytes / rate if rate else None, suffix=_suffix(fmt))


def _suffix(fmt: str) -> str:
    return fmt if _SUFFIX.fullmatch(fmt) else "bin"


def _examine_wav(file: BinaryIO, size_bytes: int, riff_size: int, suffix: str) -> FileCheck:
    """Walk the chunks (LIST, fact and others may stand before the data) up to the data's."""
    byte_rate = 0
    offset = 12
    for _ in range(_MOST_CHUNKS):
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
    return FileCheck("unreadable", "Its WAV header is damaged: no sound is announced in it.")


def _examine_data(present_bytes: int, announced_bytes: int, byte_rate: int, suffix: str) -> FileCheck:
    if announced_bytes == 0 and present_bytes > 1:  # one byte may pad
        return FileCheck("waiting", _UNFINISHED)
    if announced_bytes == 0:
        return FileCheck("empty", "The PBX's file holds a header and no sound.")
    if announced_bytes >= _UNKNOWN_LENGTH:
        announced_bytes = min(announced_bytes, present_bytes)
    if announced_bytes > present_bytes:
        reason = f"It is cut short: {present_bytes} of {announced_bytes} bytes of sound are there."
        return FileCheck("unreadable", reason, cut_short=True)
    if byte_rate == 0:
        return FileCheck("unreadable", "Its WAV header is damaged: it names no format.")
    return FileCheck("downloaded", duration_s=announced_bytes / byte_rate, suffix=suffix)
