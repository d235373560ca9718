"""CDR files: `cdr-csv/Master.csv`, `cdr-custom/Master.csv`, and exports with a header → rows of the CDR. Pure.

cdr-csv has accountcode, src, dst, dcontext, clid, channel, dstchannel, lastapp, lastdata, start, answer, end, duration,
billsec, disposition, amaflags; then uniqueid and userfield if cdr.conf asks for them, and with `newcdrcolumns`
peeraccount, linkedid and sequence (Asterisk's cdr_csv.c). It doesn't escape line breaks, so a row may have many lines.
cdr-custom has what cdr_custom.conf.sample lists. FreePBX's CDR report and exports of its table name their columns.
Which rows are one call no file without linkedid tells: see `link_legs`.
"""

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pbx.asterisk.formats.cdr import COLUMNS, BadRow, local_moment
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
_HEADER_NAMES = 4  # of COLUMNS make a line a header
_MOST_BYTES = 65_536  # of one row
_HALF = re.compile(r";[12]$")
_SERIAL = re.compile(r"-[0-9a-f]{8}$")
_SLACK = timedelta(seconds=2)


class Layout(NamedTuple):
    """How a file's rows are written: their columns by a header, () where there is none, and what separates them."""

    columns: tuple[str, ...] = ()
    delimiter: str = ","

    @property
    def missing(self) -> str:
        """The column without which no row of the file can be read; "" where none is missing."""
        if not self.columns or ("uniqueid" in self.columns and {"calldate", "start"} & {*self.columns}):
            return ""
        return "calldate" if "uniqueid" in self.columns else "uniqueid"


ASTERISK = Layout()


def layout_of(first_line: bytes) -> Layout:
    """How a file is written that begins with this line."""
    text = _text(first_line).lower()
    for delimiter in ",;\t":
        columns = tuple(name.strip(' "') for name in text.split(delimiter))
        if len({*columns} & {*COLUMNS}) >= _HEADER_NAMES:
            return Layout(columns, delimiter)
    return ASTERISK


def join_lines(lines: Sequence[bytes], layout: Layout = ASTERISK) -> tuple[list[bytes], list[bytes]]:
    """The rows that lines make up, and the lines of a last row that isn't complete.

    A line break within quotes belongs to the row. Where a row's quotes don't end, it ends before the next complete row.
    """
    if layout.delimiter == "\t":
        return list(lines), []
    rows: list[bytes] = []
    begun: list[bytes] = []
    size = 0
    for line in lines:
        if begun and (size > _MOST_BYTES or is_row(line, layout)):
            rows.append(b"\n".join(begun))
            begun, size = [], 0
        begun.append(line)
        size += len(line)
        odd = line.count(b'"') % 2
        if odd == (len(begun) > 1) or len(line) > _MOST_BYTES:
            rows.append(b"\n".join(begun))
            begun, size = [], 0
    return rows, begun


def parse_master_csv_line(line: bytes, layout: Layout = ASTERISK) -> dict[str, str] | None:
    """A row, by the columns' names; None for an empty one and for the header. Raises BadRow."""
    text = _text(line)
    if not text:
        return None
    quoting: Literal[0, 3] = csv.QUOTE_NONE if layout.delimiter == "\t" else csv.QUOTE_MINIMAL
    try:
        values = next(csv.reader([text], strict=True, delimiter=layout.delimiter, quoting=quoting))
    except csv.Error as error:
        raise BadRow(f"it is not CSV: {error}") from None
    if layout.columns:
        if len(values) != len(layout.columns):
            raise BadRow(f"it has {len(values)} columns, but the header has {len(layout.columns)}")
        if layout.columns == tuple(value.strip().lower() for value in values):
            return None
        return dict(zip(layout.columns, ("" if value == "NULL" else value for value in values), strict=True))
    if len(values) < len(_FIXED):
        raise BadRow(f"it has {len(values)} columns, not {len(_FIXED)} or more")
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


def is_row(line: bytes, layout: Layout) -> bool:
    """Whether a line is a complete row, with the time of a call."""
    try:
        row = parse_master_csv_line(line, layout)
    except BadRow:
        return False
    return row is not None and local_moment(row.get("calldate") or row.get("start")) is not None


def _text(line: bytes) -> str:
    return decode_fields(line.removeprefix(BOM), b'"').strip("\r\n\0 ")


def link_legs(legs: Sequence[Leg], linked: Collection[str] = ()) -> list[Leg]:
    """Give legs without a linkedid (it is the uniqueid) that of their call: the oldest uniqueid, as Asterisk does.

    One call, for certain: they share a channel, or each has one half of the same Local channel, at the same time.
    Legs of the uniqueids `linked` have a linkedid, though it may be the same; where a call has one, it is the others'.
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
        for line in _lines(leg):
            if line in last and _meet(legs[last[line]], leg):
                group[head(at)] = head(last[line])
            last[line] = at
    oldest: dict[int, tuple[bool, int, int, str]] = {}
    for at, leg in enumerate(legs):
        age = (not has_own[at], *_age(leg.linkedid))
        oldest[head(at)] = min(age, oldest.get(head(at), age))
    return [leg if has_own[at] else replace(leg, linkedid=oldest[head(at)][-1]) for at, leg in enumerate(legs)]


def _lines(leg: Leg) -> set[str]:
    """The lines a leg connects; a Local channel's halves are one. Only names with a serial number are anybody's own."""
    names = {_HALF.sub("", channel) for channel in (leg.channel, leg.dst_channel)}
    return {name for name in names if _SERIAL.search(name)}


def _meet(one: Leg, two: Leg) -> bool:
    """Whether they overlap: serial numbers begin anew when Asterisk does."""
    return one.started_at <= _end(two) + _SLACK and two.started_at <= _end(one) + _SLACK


def _end(leg: Leg) -> datetime:
    return leg.ended_at or leg.started_at


def _age(linkedid: str) -> tuple[int, int, str]:
    serial = linkedid.rpartition(".")[2]
    return epoch_of(linkedid) or 0, int(serial) if serial.isdecimal() and len(serial) < 20 else 0, linkedid
