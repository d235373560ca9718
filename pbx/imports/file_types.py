"""Recognises a file by its content, whatever its name: a queue_log, a CDR file, or a kind that can't be imported."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pbx.asterisk.formats import master_csv, queue_log
from pbx.errors import UnreadableFile
from pbx.imports.files import open_history, read_lines
from pbx.store.import_cursors import ImportCursor
from pbx.text_encoding import BOM

FileKind = Literal["queue_log", "cdr"]
_LINES_READ = 200
_NAMES: dict[FileKind, str] = {"queue_log": "a queue_log", "cdr": "a CDR file"}
_COMMANDS: dict[FileKind, str] = {"queue_log": "queue-log", "cdr": "cdr"}
_WHICH_FILES = "Import /var/log/asterisk/queue_log or /var/log/asterisk/cdr-csv/Master.csv of the PBX."
_UNPACK = "Unpack it, then import the files in it."
_USE_DATABASE = "Import from the database itself: enter its address under Settings > Data import, or use --url."
_SIGNATURES = (
    (b"PK\x03\x04", "an Excel workbook or ZIP archive", "Save the sheet as CSV with its header."),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document", "Save the sheet as CSV with its header."),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"SQLite format 3\0", "an SQLite database", "Import from it with --url sqlite:///PATH."),
    (b"%PDF", "a PDF document", _WHICH_FILES),
    (b"RIFF", "a sound file", "Recordings arrive by a sync (ARI), not by an import."),
    (b"ID3", "a sound file", "Recordings arrive by a sync (ARI), not by an import."),
    (b"OggS", "a sound file", "Recordings arrive by a sync (ARI), not by an import."),
)  # fmt: skip
_TAR_AT = 257
_EVENT = (
    "CHAN_START|CHAN_END|ANSWER|HANGUP|BRIDGE_ENTER|BRIDGE_EXIT|APP_START|APP_END|PARK_START|PARK_END|"
    "BLINDTRANSFER|ATTENDEDTRANSFER|LINKEDID_END|PICKUP|FORWARD|LOCAL_OPTIMIZE"
)
_LINES = (
    (
        rb"\[[^\]\n]{6,40}\] (?:VERBOSE|NOTICE|WARNING|ERROR|DEBUG|SECURITY|DTMF|FAX)\[",
        "one of Asterisk's general logs (full, messages)",
        _WHICH_FILES,
    ),
    (
        rb'"?(?:%b)"?,' % _EVENT.encode(),
        "channel events (CEL) as CSV",
        f"CEL is imported from a database only, together with its CDR. {_USE_DATABASE}",
    ),
    (
        rb"(?i:-- [a-z]{4,12} dump|/\*!|create table|insert into|begin transaction|drop table|set @|copy \w)",
        "a dump of a database (SQL)",
        _USE_DATABASE,
    ),
    (rb"(?i:<!doctype|<html|<\?xml)", "a web page or XML", _WHICH_FILES),
    (rb"[{\[]\s*[\"{\[]", "JSON", _WHICH_FILES),
)


def kind_of(path: Path) -> FileKind:
    """The kind of a file. Raises UnreadableFile, which names what it seems to be, when it is neither or damaged."""
    kind, foreign = _detect(path)
    if kind is None:
        what, fix = foreign or ("neither a queue_log nor a CDR file (Master.csv)", _WHICH_FILES)
        raise UnreadableFile(f"Nothing could be read from {path.name}: it is {what}.", fix)
    return kind


def refuse_other(path: Path, expected: FileKind) -> None:
    """Raise UnreadableFile when a file is recognised as something other than expected."""
    kind, foreign = _detect(path)
    if kind is not None and kind != expected:
        foreign = (
            f"{_NAMES[kind]}, not {_NAMES[expected]}",
            f"Import it with `python -m pbx import {_COMMANDS[kind]}`.",
        )
    if foreign is not None and not is_empty(path):
        raise UnreadableFile(f"Nothing could be read from {path.name}: it is {foreign[0]}.", foreign[1])


def check_read(path: Path, cursor: ImportCursor, expected: FileKind) -> None:
    """Raise UnreadableFile when a file has lines and none of them could be understood."""
    if cursor.rows and cursor.rows == cursor.unreadable:
        line, why = cursor.errors[0]
        raise UnreadableFile(
            f"Nothing could be read from {path.name}, which doesn't look like {_NAMES[expected]}. Line {line}: {why}.",
            _WHICH_FILES,
        )


def is_empty(path: Path) -> bool:
    """Whether a file is empty, as a log is right after its rotation."""
    with open_history(path) as (stream, _):
        return not stream.read(1)


def check_not_empty(paths: Sequence[Path]) -> None:
    """Raise UnreadableFile when all of these files are empty."""
    try:
        empty = bool(paths) and all(map(is_empty, paths))
    except UnreadableFile:
        return  # its own import reports it; the other files are still read
    if empty:
        raise UnreadableFile(f"Nothing could be read from {paths[0].name}: it is empty.", _WHICH_FILES)


def _detect(path: Path) -> tuple[FileKind | None, tuple[str, str] | None]:
    """A file's kind by its first lines, or else what it seems to be and what to do about it; None where unknown."""
    with open_history(path) as (stream, _):
        lines = next(read_lines(stream, 0, to_the_end=True), ([], 0))[0]
    layout = master_csv.layout_of(lines[0] if lines else b"")
    if layout.missing:
        what = f"a CSV file without the column {layout.missing}, which an import needs"
        return None, (what, "Export the columns uniqueid and calldate too, or import from the database itself.")
    found: dict[FileKind, int] = {"queue_log": 0, "cdr": 0}
    for number, line in enumerate(lines):
        found["queue_log"] += _is_event(line)
        found["cdr"] += master_csv.is_row(line, layout)
        if number > _LINES_READ and any(found.values()):
            break
    if any(found.values()):
        return max(found, key=lambda kind: found[kind]), None
    return None, _foreign_kind(lines)


def _foreign_kind(lines: Sequence[bytes]) -> tuple[str, str] | None:
    """What a file seems to be whose lines could not be understood, and what to do about it; None where unknown."""
    head = b"\n".join(lines[:5])
    if not head.strip(b"\0\r\n\t "):
        return "empty", _WHICH_FILES
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive", _UNPACK
    for signature, what, fix in _SIGNATURES:
        if head.startswith(signature):
            return what, fix
    text = [line.removeprefix(BOM).lstrip() for line in lines[:_LINES_READ]]
    return next(((what, fix) for pattern, what, fix in _LINES if any(re.match(pattern, line) for line in text)), None)


def _is_event(line: bytes) -> bool:
    try:
        return queue_log.parse_queue_log_line(line) is not None
    except queue_log.UnreadableLine:
        return False
