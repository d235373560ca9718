"""Reads what a recording's name shows about its call. Pure.

`YYYY/MM/DD/<type>-<dest>-<from>-YYYYMMDD-HHMMSS-<uniqueid>` (dialplan context `sub-record-check`):

    out-<dialled>-<from>        an extension calls out
    in-<did>-<from>             a caller from outside, recorded by the inbound route
    external-<ext>-<from>       a caller from outside reaches an extension
    internal-<ext>-<from>       one extension calls another
    q-<queue>-<from>            a caller in a queue
    rg-<group>-<from>           a caller at a ring group
    exten-, parked-, ondemand-, force-<dest>-<from>   any direction; the form of the numbers shows it
    <room>-<room>-<policy>      a conference; conf-<room>-… on some releases

Each field may contain a dash, and the uniqueid does when `systemname` is set, so the name is read from its date. The
time is the PBX's local time; the number at the start of the uniqueid is the same moment in seconds since 1970. Types
may be in capitals. In the oldest releases, and in Issabel, a name has less before its date:

    YYYYMMDD-HHMMSS-<uniqueid>    a queue's call, or any other
    OUT<ext>-, IN<ext>-, q<queue>-, g<group>-    before such a date

In any other name, a uniqueid (`<epoch>.<serial>`) shows which call it belongs to.

Where each side of a call is recorded separately, both files have the call's name, followed by `-r` (read: what the
recorded channel says; also `-in`, `-rx`) or `-t` (transmitted: what it hears; also `-out`, `-tx`).
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Literal

from pbx.model.call import CallDirection

_MAX_NAME = 255  # characters; no file system allows more
_DATE = re.compile(r"(?:^|(?<=-))(\d{8}-\d{6})-(?=.)", re.DOTALL)
_SHORT = re.compile(r"(out|in|q|g|rg)-?(\d{1,20})", re.IGNORECASE)
_UNIQUEID = re.compile(r"(?<![\d.])[12]\d{9}\.\d{1,10}(?!\d)")
_FORMAT = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")
_EPOCH = re.compile(r"(?:^|-)(\d{9,10})\.\d+$")
_LEG = re.compile(r"-(r|t|in|out|rx|tx)(?:\.[a-z]\w{0,7})?$", re.IGNORECASE)
_LEGS: dict[str, Literal["r", "t"]] = {"r": "r", "in": "r", "rx": "r", "t": "t", "out": "t", "tx": "t"}
LEG_ENDINGS = {leg: [f"-{ending}" for ending, of in _LEGS.items() if of == leg] for leg in ("r", "t")}
_EXTENSION = re.compile(r"\d{2,6}")
_DIRECTIONS: dict[str, CallDirection] = {
    "out": "outbound",
    "in": "inbound",
    "external": "inbound",
    "internal": "internal",
    "page": "internal",
    "q": "inbound",
    "rg": "inbound",
}
_BY_SHAPE = {"exten", "parked", "ondemand", "force"}
_QUARTER_S = 900
_EARLIEST_YEAR, _LATEST_YEAR = 1990, 2100  # other years are errors, and too extreme for a change of zone


@dataclass(frozen=True, slots=True)
class RecordingName:
    """What a recording's name shows. `type` is FreePBX's prefix, "" for a name in another format."""

    type: str = ""
    direction: CallDirection = "unknown"
    from_number: str = ""
    to_number: str = ""
    queue: str = ""
    room: str = ""  # of a conference
    uniqueid: str = ""
    started_at: datetime | None = None  # UTC
    local_time: datetime | None = None  # the PBX's own clock, without a zone

    @property
    def utc_offset_s(self) -> int | None:
        """The PBX's UTC offset in seconds, in quarters of an hour; None where the name doesn't show it.

        It is rounded down with a tolerance of a minute, because the name is made shortly after the channel.
        """
        epoch = epoch_of(self.uniqueid)
        if epoch is None or self.local_time is None:
            return None
        ahead_s = self.local_time.replace(tzinfo=UTC).timestamp() - epoch
        offset_s = int((ahead_s + 60) // _QUARTER_S * _QUARTER_S)
        return offset_s if abs(offset_s) <= 14 * 3600 else None


def parse_name(name: str, zone: tzinfo | None = None) -> RecordingName:
    """Read an ARI recording name, with or without folders; a name in an unknown format gives an empty RecordingName.

    The start is the epoch of the uniqueid. Without one it is the name's local time in `zone` (the PBX's), and None
    without a zone. The time needed is linear in the name's length.
    """
    name = name.rpartition("/")[2]
    if len(name) > _MAX_NAME:
        return RecordingName()
    parsed = RecordingName()
    if dates := list(_DATE.finditer(name)):
        date = dates[-1]
        uniqueid = _LEG.sub("", name[date.end() :])  # both sides belong to one call
        parsed = replace(_parties(name[: date.start()]), uniqueid=uniqueid, local_time=_local_time(date[1]))
    if not parsed.type and epoch_of(parsed.uniqueid) is None:
        found = _UNIQUEID.search(name)
        parsed = replace(parsed, uniqueid=found[0] if found else "")
    return _with_time(parsed, zone)


def _with_time(parsed: RecordingName, zone: tzinfo | None) -> RecordingName:
    epoch = epoch_of(parsed.uniqueid)
    if epoch is not None:
        return replace(parsed, started_at=datetime.fromtimestamp(epoch, UTC))
    if parsed.local_time is not None and zone is not None:
        return replace(parsed, started_at=parsed.local_time.replace(tzinfo=zone).astimezone(UTC))
    return parsed


def _parties(head: str) -> RecordingName:
    """The part before a name's date: `<type>-<dest>-<from>-`, a short form such as `OUT<ext>-`, or nothing."""
    kind, _, fields = head.removesuffix("-").partition("-")
    dest, dash, source = fields.rpartition("-")
    if dash and kind:
        if kind in (dest, "conf"):
            return RecordingName(type="conference", room=dest, to_number=dest)
        kind = kind.lower()
        direction = _by_shape(dest, source) if kind in _BY_SHAPE else _DIRECTIONS.get(kind, "unknown")
        queue = dest if kind == "q" else ""
        return RecordingName(kind, direction, from_number=source, to_number=dest, queue=queue)
    if short := _SHORT.fullmatch(head.removesuffix("-")):
        kind, number = short[1].lower(), short[2]
        if kind == "out":
            return RecordingName(kind, "outbound", from_number=number)
        return RecordingName(
            "rg" if kind == "g" else kind, "inbound", to_number=number, queue=number if kind == "q" else ""
        )
    return RecordingName()


def without_format(file: str) -> str:
    """A file's name as in ARI, without an extension such as `.wav`; the digits after a uniqueid's dot are kept."""
    return _FORMAT.sub("", file)


def leg_of(name: str) -> Literal["r", "t", ""]:
    """Which side of a call a recording holds, by its name: "r" what the channel says, "t" what it hears, "" both."""
    found = _LEG.search(name)
    return _LEGS[found[1].lower()] if found else ""


def _by_shape(dest: str, source: str) -> CallDirection:
    # FreePBX's extensions have two to six digits; a longer number, or one with a "+", is external.
    if not source or not dest:
        return "unknown"
    if not _EXTENSION.fullmatch(source):
        return "inbound"
    return "internal" if _EXTENSION.fullmatch(dest) else "outbound"


def epoch_of(uniqueid: str) -> int | None:
    """When a uniqueid's channel was created, in seconds since 1970; None for a uniqueid in another format."""
    found = _EPOCH.search(uniqueid)
    return int(found[1]) if found else None


def _local_time(written: str) -> datetime | None:
    try:
        local = datetime.strptime(written, "%Y%m%d-%H%M%S")  # noqa: DTZ007 - the PBX's zone isn't known here
    except ValueError:
        return None
    return local if _EARLIEST_YEAR <= local.year < _LATEST_YEAR else None
