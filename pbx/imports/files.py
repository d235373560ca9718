"""Files of history as they lie on a PBX, or were copied from one: plain or gzip, growing, rotated, renamed, UTF-16.

A file is known by its first bytes, not by its name or inode: `queue_log`, rotated to `queue_log.1` and packed to
`queue_log.2.gz`, is the same file. Positions are in uncompressed bytes; of UTF-16, which Windows makes of what is
redirected to a file, in those of the same text as UTF-8.
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
    """A file's uncompressed bytes, and the file itself, whose position tells how far that is.

    Raises SettingsError when there is no such file, UnreadableFile when it can't be read or is a damaged gzip file.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else nullcontext(raw) as opened:
                stream = cast(BinaryIO, opened)
                encoding = _utf16(stream.read(HEAD_BYTES))
                stream.seek(0)
                yield (
                    cast(BinaryIO, io.BufferedReader(_AsUtf8(stream, encoding), BLOCK_BYTES)) if encoding else stream,
                    raw,
                )
    except FileNotFoundError as error:
        raise SettingsError(f"There is no file {path}.", "Check its name; a PBX has /var/log/asterisk.") from error
    except _DAMAGED as error:
        fix = "What stands before that was read. Fetch the file from the PBX again, then import it once more."
        raise UnreadableFile(f"The file {path} is damaged: {error}.", fix) from error
    except OSError as error:
        raise UnreadableFile(f"The file {path} can't be read: {error.strerror}.", "Let this user read it.") from error


def is_finished(path: Path) -> bool:
    """Whether a file doesn't grow, so its last line needs no line end: gzip, a byte order mark, UTF-16."""
    with path.open("rb") as raw:
        head = raw.read(HEAD_BYTES)
    return head.startswith((_GZIP, codecs.BOM_UTF8)) or bool(_utf16(head))


def _utf16(head: bytes) -> str:
    """Which UTF-16 a file is that begins so, "" for none; without a mark every other byte is 0."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark):
            return encoding
    even, odd = head[::2], head[1::2]
    few = len(head) // 16
    if even.count(0) <= few and odd.count(0) > len(odd) // 2:
        return "utf-16-le"
    return "utf-16-be" if odd.count(0) <= few and even.count(0) > len(even) // 2 else ""


class _AsUtf8(io.RawIOBase):
    """A stream of UTF-16 as UTF-8. It seeks as gzip's stream does, by reading."""

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


def mark_of(head: bytes, marks: Sequence[ImportCursor]) -> ImportCursor | None:
    """The mark of the file that begins with `head`: the one that knows most of its first bytes; None for a new file."""
    known = {mark.source: mark for mark in marks if mark.source[:1].isdecimal()}  # the others are databases
    sizes = {int(source.partition(":")[0]) for source in known}
    for size in sorted(sizes - {0}, reverse=True):  # a file without a whole line could be any
        if size <= len(head) and (found := known.get(_fingerprint(head[:size]))):
            return found
    return None


def source_of(head: bytes, *, whole: bool = False) -> str:
    """What a file is known by: the digest of its first whole lines within a kilobyte, and how many bytes they are.

    The line that is still being written is left out, or the file would be another one once it is whole; a packed file
    is `whole`.
    """
    head = head[:HEAD_BYTES]
    return _fingerprint(head if whole or len(head) == HEAD_BYTES else head[: head.rfind(b"\n") + 1])


def skip_to(stream: BinaryIO, position: int) -> bool:
    """Go to a position, which is the beginning of a line; False, and at the start, when the file isn't so."""
    if position <= 0:
        return position == 0
    stream.seek(position - 1)
    before = stream.read(1)
    if before == b"\n" or (before and not stream.read(1)):  # of a packed file the last line may have no end
        return True
    stream.seek(0)
    return False


def read_lines(stream: BinaryIO, position: int, *, to_the_end: bool) -> Iterator[tuple[list[bytes], int]]:
    """Blocks of whole lines, without their ends, and the position behind each block, from `position` on.

    A line that isn't finished is left, unless `to_the_end`. Of one that is longer than a block only the first block
    is given: memory stays small whatever the file holds. A damaged file gives what stands before the damage.
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


def leave_out_blank(mark: ImportCursor, lines: Sequence[bytes]) -> None:
    """Take the blank ones of the lines just counted from the count, where nothing else in the file could be read."""
    if mark.bad:
        blank = sum(not line.strip(b"\0\r\t ") for line in lines)
        mark.rows = mark.bad if mark.rows - blank == mark.bad else mark.rows


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """A file's bytes, block by block; what raises does so after all that could be read was given."""
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
