"""A WAV as FFmpeg gets it: its format and its sound, without the other chunks and without its own lengths.

FFmpeg takes as much memory as a LIST chunk announces (2 GB in a file of 16 KB), and programs that write to a pipe
leave lengths that no file has. What the file itself holds is all that is believed.
"""

import io
import struct
from typing import Any, BinaryIO

MAGIC = (b"RIFF", b"RF64", b"BW64")
_MOST_CHUNKS = 1000  # zeros, which a crash leaves in a file, are chunks of 8 bytes without end
_MOST_FORMAT_BYTES = 1024
_UNKNOWN = 0xFFFFFFFF  # in RF64: the length is in the chunk ds64


class NoSound(ValueError):
    """There is no format or no sound in a WAV."""


class WavSound(io.RawIOBase):
    """The sound of an open WAV behind a header of our own, as a file to read; closing it closes the WAV."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        fmt, self._start, sound_bytes = _find_sound(file)
        told_bytes = min(sound_bytes, _UNKNOWN)
        body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + bytes(len(fmt) % 2)
        body += b"data" + struct.pack("<I", told_bytes)
        self._head = b"RIFF" + struct.pack("<I", min(len(body) + told_bytes, _UNKNOWN)) + body
        self._size = len(self._head) + sound_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max({io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset, 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        wanted = min(len(view), max(self._size - self._at, 0))
        if self._at < len(self._head):
            data = self._head[self._at : self._at + wanted]
        else:
            self._file.seek(self._start + self._at - len(self._head))
            data = self._file.read(wanted)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _find_sound(file: BinaryIO) -> tuple[bytes, int, int]:
    """The content of the chunk `fmt `, where the sound begins, and how many bytes of it there are. Raises NoSound."""
    file_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(12)[8:] != b"WAVE":
        raise NoSound
    fmt, long_bytes, at = b"", 0, 12
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        at += 8
        if name == b"fmt " and length <= _MOST_FORMAT_BYTES:
            fmt = file.read(length)
        elif name == b"ds64":
            long_bytes = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"data":
            if len(fmt) < 14:
                break
            there = file_bytes - at
            if length == _UNKNOWN:
                length = long_bytes
            return fmt, at, min(length, there) if length else there  # 0: it was still being written
        at += length + length % 2
    raise NoSound
