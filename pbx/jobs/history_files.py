"""Files of history as they lie on a PBX: plain or gzip, growing, rotated, renamed.

A file is known by its first bytes, not by its name or inode: `queue_log`, rotated to `queue_log.1` and packed to
`queue_log.2.gz`, is the same file. Positions are in uncompressed bytes.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

from pbx.errors import SettingsError, UnreadableFile
from pbx.store.marks import Mark

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
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield cast(BinaryIO, stream), raw
            else:
                yield raw, raw
    except FileNotFoundError as error:
        raise SettingsError(f"There is no file {path}.", "Check its name; a PBX has /var/log/asterisk.") from error
    except _DAMAGED as error:
        mend = "What stands before that was read. Fetch the file from the PBX again, then import it once more."
        raise UnreadableFile(f"The file {path} is damaged: {error}.", mend) from error
    except OSError as error:
        raise UnreadableFile(f"The file {path} can't be read: {error.strerror}.", "Let this user read it.") from error


def is_packed(path: Path) -> bool:
    """Whether a file is gzip's: then it has an end, and its last line needs no line end."""
    with path.open("rb") as raw:
        return raw.read(2) == _GZIP


def mark_of(head: bytes, marks: Sequence[Mark]) -> Mark | None:
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
