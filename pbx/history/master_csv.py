"""`cdr-csv/Master.csv`: its lines → rows of the CDR, and which of them are one call, as it tells no linkedid. Pure.

accountcode, src, dst, dcontext, clid, channel, dstchannel, lastapp, lastdata, start, answer, end, duration, billsec,
disposition, amaflags; then uniqueid and userfield if cdr.conf asks for them, and with `newcdrcolumns` peeraccount,
linkedid and sequence (Asterisk's cdr_csv.c).
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pbx.ari.names import epoch_of
from pbx.history.cdr import BadRow
from pbx.history.facts import Leg

_FIXED = tuple(
    """accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration billsec
    disposition amaflags""".split()  # noqa: SIM905
)
_NEW = ("peeraccount", "linkedid", "sequence")
_HALF = re.compile(r";[12]$")
_SERIAL = re.compile(r"-[0-9a-f]{8}$")
_SLACK = timedelta(seconds=2)


def parse_line(line: bytes) -> dict[str, str] | None:
    """A whole line, by the columns' names; None for an empty one. Raises BadRow."""
    text = line.decode("utf-8", "replace").strip("\r\n\0 ")
    if not text:
        return None
    try:
        values = next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadRow(f"it is not CSV: {error}") from None
    if len(values) < len(_FIXED):
        raise BadRow(f"it has {len(values)} columns, not {len(_FIXED)} or more")
    row = dict(zip(_FIXED, values, strict=False))
    more = values[len(_FIXED) :]
    if len(more) >= len(_NEW) and more[-1].isdecimal() and epoch_of(more[-2]) is not None:
        row |= dict(zip(_NEW, more[-len(_NEW) :], strict=True))
        more = more[: -len(_NEW)]
    if more and epoch_of(more[0]) is not None:
        row["uniqueid"] = more.pop(0)
    return row | {"userfield": more[0] if more else ""}


def link_legs(legs: Sequence[Leg]) -> list[Leg]:
    """Give legs without a linkedid (it is the uniqueid) that of their call: the oldest uniqueid, as Asterisk does.

    One call, for certain: they share a channel, or each has one half of the same Local channel, at the same time.
    """
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
    oldest: dict[int, tuple[int, int, str]] = {}
    for at, leg in enumerate(legs):
        age = _age(leg.linkedid)
        oldest[head(at)] = min(age, oldest.get(head(at), age))
    return [
        replace(leg, linkedid=oldest[head(at)][2]) if leg.linkedid == leg.uniqueid else leg
        for at, leg in enumerate(legs)
    ]


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
    return epoch_of(linkedid) or 0, int(serial) if serial.isdecimal() else 0, linkedid
