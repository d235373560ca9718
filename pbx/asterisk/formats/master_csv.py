"""Reads CDR files: `cdr-csv/Master.csv`, `cdr-custom/Master.csv`, and exports with a header. Pure: lines in, rows out.

cdr-csv has accountcode, src, dst, dcontext, clid, channel, dstchannel, lastapp, lastdata, start, answer, end, duration,
billsec, disposition, amaflags; then uniqueid and userfield if cdr.conf enables them, and with `newcdrcolumns`
peeraccount, linkedid and sequence (Asterisk's cdr_csv.c). It doesn't escape line breaks, so a row may span several
lines. cdr-custom has the columns of cdr_custom.conf.sample. FreePBX's CDR report and exports of its table have a
header. A file without linkedid doesn't show which rows belong to one call: see `link_legs`.
"""

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pbx.asterisk.formats.cdr import COLUMNS, UnreadableRow, local_moment
from pbx.asterisk.formats.recording_names import epoch_of
from pbx.model.history import Leg
from pbx.text_encoding import BOM, decode_fields

_FIXED = tuple(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec
    disposition amaflags""".split()  # noqa: SIM905
)
_NEW = ("peeraccount", "linkedid", "sequence")
_CUSTOM = tuple(
    """clid src dst dcontext channel dstchannel lastapp lastdata start answer end duration billsec disposition amaflags
    accountcode uniqueid userfield sequence linkedid""".split()  # noqa: SIM905
)
_BILLSEC, _CUSTOM_START = _FIXED.index("billsec"), _CUSTOM.index("start")
_HEADER_NAMES = 4  # a line with this many names of COLUMNS is a header
_MAX_ROW_BYTES = 65_536
_HALF = re.compile(r";[12]$")
_SERIAL = re.compile(r"-[0-9a-f]{8}$")
_SLACK = timedelta(seconds=2)


class CsvLayout(NamedTuple):
    """The format of a file: the columns of its header, () without one, and the delimiter."""

    columns: tuple[str, ...] = ()
    delimiter: str = ","

    @property
    def missing(self) -> str:
        """The required column that the header lacks; "" when none is missing."""
        if not self.columns or ("uniqueid" in self.columns and {"calldate", "start"} & {*self.columns}):
            return ""
        return "calldate" if "uniqueid" in self.columns else "uniqueid"


ASTERISK_LAYOUT = CsvLayout()


def layout_of(first_line: bytes) -> CsvLayout:
    """The layout of a file, from its first line."""
    text = _text(first_line).lower()
    for delimiter in ",;\t":
        columns = tuple(name.strip(' "') for name in text.split(delimiter))
        if len({*columns} & {*COLUMNS}) >= _HEADER_NAMES:
            return CsvLayout(columns, delimiter)
    return ASTERISK_LAYOUT


def join_lines(lines: Sequence[bytes], layout: CsvLayout = ASTERISK_LAYOUT) -> tuple[list[bytes], list[bytes]]:
    """Joins lines to rows; returns the rows, and the lines of an incomplete last row.

    A line break within quotes belongs to the row. A row whose quotes don't end stops before the next complete row.
    """
    if layout.delimiter == "\t":
        return list(lines), []
    rows: list[bytes] = []
    unfinished: list[bytes] = []
    size = 0
    for line in lines:
        if unfinished and (size > _MAX_ROW_BYTES or is_row(line, layout)):
            rows.append(b"\n".join(unfinished))
            unfinished, size = [], 0
        unfinished.append(line)
        size += len(line)
        odd = line.count(b'"') % 2
        if odd == (len(unfinished) > 1) or len(line) > _MAX_ROW_BYTES:
            rows.append(b"\n".join(unfinished))
            unfinished, size = [], 0
    return rows, unfinished


def parse_master_csv_line(line: bytes, layout: CsvLayout = ASTERISK_LAYOUT) -> dict[str, str] | None:
    """A row as a dict by column names; None for an empty line and for the header. Raises UnreadableRow."""
    text = _text(line)
    if not text:
        return None
    quoting: Literal[0, 3] = csv.QUOTE_NONE if layout.delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        values = next(csv.reader([text], strict=True, delimiter=layout.delimiter, quoting=quoting))
    except csv.Error as error:
        raise UnreadableRow(f"it is not CSV: {error}") from None
    if layout.columns:
        if len(values) != len(layout.columns):
            raise UnreadableRow(f"it has {len(values)} columns, but the header has {len(layout.columns)}")
        if layout.columns == tuple(value.strip().lower() for value in values):
            return None
        return dict(zip(layout.columns, ("" if value == "NULL" else value for value in values), strict=True))
    if len(values) < len(_FIXED):
        raise UnreadableRow(f"it has {len(values)} columns, not {len(_FIXED)} or more")
    if local_moment(values[_CUSTOM_START]) is not None and not values[_BILLSEC].isdecimal():
        row = dict(zip(_CUSTOM, values, strict=False))
        if epoch_of(row.get("linkedid", "")) is None:
            row.pop("linkedid", None)
        return row
    row = dict(zip(_FIXED, values, strict=False))
    more = values[len(_FIXED) :]
    if len(more) >= len(_NEW) and more[-1].isdecimal() and epoch_of(more[-2]) is not None:
        row |= dict(zip(_NEW, more[-len(_NEW) :], strict=True))
        more = more[: -len(_NEW)]
    if more and epoch_of(more[0]) is not None:
        row["uniqueid"] = more.pop(0)
    return row | {"userfield": more[0] if more else ""}


def is_row(line: bytes, layout: CsvLayout) -> bool:
    """Whether a line is a complete row, with the time of a call."""
    try:
        row = parse_master_csv_line(line, layout)
    except UnreadableRow:
        return False
    return row is not None and local_moment(row.get("calldate") or row.get("start")) is not None


def _text(line: bytes) -> str:
    return decode_fields(line.removeprefix(BOM), b'"').strip("\r\n\0 ")


def link_legs(legs: Sequence[Leg], linked: Collection[str] = ()) -> list[Leg]:
    """Give legs without a linkedid that of their call, which is its oldest uniqueid, as in Asterisk.

    Two legs belong to one call if they share a channel, or the halves of one Local channel, at the same time. A leg
    whose linkedid equals its uniqueid has none, unless its uniqueid is in `linked`. If a leg of the call has a
    linkedid, all its legs get that one.
    """
    has_own = [leg.linkedid != leg.uniqueid or leg.uniqueid in linked for leg in legs]
    group = list(range(len(legs)))

    def head(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    last: dict[str, int] = {}
    for at, leg in enumerate(legs):
        for channel in _channels(leg):
            if channel in last and _overlap(legs[last[channel]], leg):
                group[head(at)] = head(last[channel])
            last[channel] = at
    oldest: dict[int, tuple[bool, int, int, str]] = {}
    for at, leg in enumerate(legs):
        age = (not has_own[at], *_age(leg.linkedid))
        oldest[head(at)] = min(age, oldest.get(head(at), age))
    return [leg if has_own[at] else replace(leg, linkedid=oldest[head(at)][-1]) for at, leg in enumerate(legs)]


def _channels(leg: Leg) -> set[str]:
    """The channels of a leg, with the halves of a Local channel as one. Only names with a serial number are unique."""
    names = {_HALF.sub("", channel) for channel in (leg.channel, leg.dst_channel)}
    return {name for name in names if _SERIAL.search(name)}


def _overlap(one: Leg, two: Leg) -> bool:
    """Whether two legs overlap. Serial numbers repeat after a restart of Asterisk, so names aren't enough."""
    return one.started_at <= _end(two) + _SLACK and two.started_at <= _end(one) + _SLACK


def _end(leg: Leg) -> datetime:
    return leg.ended_at or leg.started_at


def _age(linkedid: str) -> tuple[int, int, str]:
    serial = linkedid.rpartition(".")[2]
    return epoch_of(linkedid) or 0, int(serial) if serial.isdecimal() and len(serial) < 20 else 0, linkedid
