"""Reads files of history from a PBX: plain or gzip, growing, rotated, renamed, or in UTF-16.

A file is recognised by its first bytes, not by its name or inode: `queue_log`, rotated to `queue_log.1` and compressed
to `queue_log.2.gz`, is the same file. Positions count uncompressed bytes. UTF-16, which Windows writes when output is
redirected to a file, is converted to UTF-8 first, and positions count bytes of that.
"""

import codecs
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from pbx.errors import SettingsError, UnreadableFile
from pbx.store.import_cursors import ImportCursor

BLOCK_BYTES = 1_048_576
HEAD_BYTES = 1024
_GZIP = b"\x1f\x8b"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


@contextmanager
def open_history(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file; yields its uncompressed bytes, and the file on the disk, whose position shows the progress.

    Raises SettingsError when there is no such file, UnreadableFile when it can't be read or is a damaged gzip file.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if compressed else nullcontext(raw) as opened:
                stream = cast(BinaryIO, opened)
                encoding = _utf16(stream.read(HEAD_BYTES))
                stream.seek(0)
                yield (
                    cast(BinaryIO, io.BufferedReader(_AsUtf8(stream, encoding), BLOCK_BYTES)) if encoding else stream,
                    raw,
                )
    except FileNotFoundError as error:
        raise _missing(path) from error
    except _DAMAGED as error:
        fix = "Everything before the damage was read. Fetch the file from the PBX again, then import it again."
        raise UnreadableFile(f"The file {path} is damaged: {error}.", fix) from error
    except OSError as error:
        raise UnreadableFile(f"The file {path} can't be read: {error.strerror}.", "Let this user read it.") from error


def check_exists(path: Path) -> None:
    """Raise SettingsError when there is no such file."""
    if not path.exists():
        raise _missing(path)


def _missing(path: Path) -> SettingsError:
    return SettingsError(f"There is no file {path}.", "Check its name; a PBX has /var/log/asterisk.")


def is_finished(path: Path) -> bool:
    """Whether a file no longer grows, so its last line needs no line end: gzip, with a byte order mark, or UTF-16."""
    with path.open("rb") as raw:
        head = raw.read(HEAD_BYTES)
    return head.startswith((_GZIP, codecs.BOM_UTF8)) or bool(_utf16(head))


def _utf16(head: bytes) -> str:
    """The UTF-16 encoding of a file that begins with `head`, "" for none; without a mark every other byte is 0."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark):
            return encoding
    even, odd = head[::2], head[1::2]
    few = len(head) // 16
    if even.count(0) <= few and odd.count(0) > len(odd) // 2:
        return "utf-16-le"
    return "utf-16-be" if odd.count(0) <= few and even.count(0) > len(even) // 2 else ""


class _AsUtf8(io.RawIOBase):
    """Converts a stream of UTF-16 to UTF-8. Like gzip's stream, it seeks by reading."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._rewind()

    def _rewind(self) -> None:
        self._stream.seek(0)
        self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        self._ready, self._at = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._stream.read(BLOCK_BYTES)
            self._ready = self._decoder.decode(block, final=not block).encode()
            if not block:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        self._at += count
        return count

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            position += self._at
        elif whence != io.SEEK_SET:
            raise io.UnsupportedOperation("seek from the end")
        if position < self._at:
            self._rewind()
        while self._at < position and self.read(min(position - self._at, BLOCK_BYTES)):
            pass
        return self._at


def find_cursor(head: bytes, cursors: Sequence[ImportCursor]) -> ImportCursor | None:
    """The cursor of the file that begins with `head`, by the longest fingerprint that matches; None for a new file."""
    known = {cursor.source: cursor for cursor in cursors if cursor.source[:1].isdecimal()}  # the others are tables
    sizes = {int(source.partition(":")[0]) for source in known}
    for size in sorted(sizes - {0}, reverse=True):  # 0: a file without a complete line could be any file
        if size <= len(head) and (found := known.get(_fingerprint(head[:size]))):
            return found
    return None


def fingerprint_of(head: bytes, *, complete: bool = False) -> str:
    """What a file is recognised by: how many bytes its first lines have within a kilobyte, and their digest.

    The last line is left out while it may still be written, because the fingerprint would change once it is finished;
    a `complete` file has no such line.
    """
    head = head[:HEAD_BYTES]
    return _fingerprint(head if complete or len(head) == HEAD_BYTES else head[: head.rfind(b"\n") + 1])


def skip_to(stream: BinaryIO, position: int) -> bool:
    """Seek to the start of a line; returns False and goes back to the start of the file where no line starts there."""
    if position <= 0:
        return position == 0
    stream.seek(position - 1)
    before = stream.read(1)
    if before == b"\n" or (before and not stream.read(1)):  # a compressed file's last line may have no end
        return True
    stream.seek(0)
    return False


def read_lines(stream: BinaryIO, position: int, *, to_the_end: bool) -> Iterator[tuple[list[bytes], int]]:
    """Blocks of complete lines from `position` on, without their line ends, each with the position after the block.

    An unfinished last line is left for the next import, unless `to_the_end`. A line that is longer than a block is cut
    to its first block, so memory stays small whatever the file contains. A damaged file yields the lines before the
    damage, then raises.
    """
    rest, skipping = b"", False
    for block in _blocks(stream):
        if skipping:
            passed, end, block = block.partition(b"\n")
            position += len(passed) + len(end)
            skipping = not end
        *lines, rest = (rest + block).split(b"\n")
        position += sum(map(len, lines)) + len(lines)
        if len(rest) > BLOCK_BYTES:
            lines.append(rest)
            position += len(rest)
            rest, skipping = b"", True
        if lines:
            yield lines, position
    if rest and to_the_end:
        yield [rest], position + len(rest)


def leave_out_blank(cursor: ImportCursor, lines: Sequence[bytes]) -> None:
    """Subtract the blank lines just counted, where nothing else in the file could be read."""
    if cursor.unreadable:
        blank = sum(not line.strip(b"\0\r\t ") for line in lines)
        cursor.rows = cursor.unreadable if cursor.rows - blank == cursor.unreadable else cursor.rows


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """A file's bytes, block by block; where the file is damaged, all bytes before the damage come first."""
    ended = False
    while not ended:
        pieces: list[bytes] = []
        damage: Exception | None = None
        try:
            left = BLOCK_BYTES
            while left and (piece := cast(BufferedIOBase, stream).read1(left)):
                pieces.append(piece)
                left -= len(piece)
            ended = left > 0
        except _DAMAGED as error:
            damage = error
        if pieces:
            yield b"".join(pieces)
        if damage is not None:
            raise damage


def _fingerprint(head: bytes) -> str:
    return f"{len(head)}:{hashlib.sha256(head).hexdigest()[:32]}"
