"""Presents a WAV to FFmpeg with its format and sound only, without its other chunks and its own lengths.

FFmpeg allocates as much memory as a LIST chunk announces (2 GB in a file of 16 KB), and programs that write to a pipe
leave impossible lengths. So lengths are computed from the file itself.
"""

import io
import struct
from typing import Any, BinaryIO

MAGIC = (b"RIFF", b"RF64", b"BW64")
_MOST_CHUNKS = 1000  # zeros, which a crash leaves in a file, are chunks of 8 bytes without end
_MOST_FORMAT_BYTES = 1024
_UNKNOWN = 0xFFFFFFFF  # in RF64: the length is in the chunk ds64


class NoSound(ValueError):
    """A WAV contains no format or no sound."""


class WavSound(io.RawIOBase):
    """A readable file: a new header, followed by the sound of an open WAV. Closing it closes the WAV."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        fmt, self._start, sound_bytes = _find_sound(file)
        written_bytes = min(sound_bytes, _UNKNOWN)
        body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + bytes(len(fmt) % 2)
        body += b"data" + struct.pack("<I", written_bytes)
        self._head = b"RIFF" + struct.pack("<I", min(len(body) + written_bytes, _UNKNOWN)) + body
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
    """Return the content of the chunk `fmt `, the sound's offset and its length in bytes. Raises NoSound."""
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
            return fmt, at, min(length, there) if length else there  # 0: the file was still being written
        at += length + length % 2
    raise NoSound
