"""FreePBX's recording names → what they tell about the call. Pure.

`YYYY/MM/DD/<type>-<dest>-<from>-YYYYMMDD-HHMMSS-<uniqueid>` (dialplan context `sub-record-check`):

    out-<dialled>-<from>        an extension calls out
    in-<did>-<from>             a caller from outside, recorded by the inbound route
    external-<ext>-<from>       a caller from outside reaches an extension
    internal-<ext>-<from>       one extension calls another
    q-<queue>-<from>            a caller in a queue
    rg-<group>-<from>           a caller at a ring group
    exten-, parked-, ondemand-, force-<dest>-<from>   any direction: the numbers' shape tells
    <room>-<room>-<policy>      a conference; conf-<room>-… on some releases

Each field may hold a dash, and the uniqueid does when `systemname` is set, so the name is anchored on its date. The
time is the PBX's local time; the number that leads the uniqueid is the same moment as a UTC epoch. Types may be in
capitals, and in the oldest releases, and in Issabel, a name has less in front of its date:

    YYYYMMDD-HHMMSS-<uniqueid>    a queue's call, or any other
    OUT<ext>-, IN<ext>-, q<queue>-, g<group>-    before such a date

Of any other name a uniqueid in it, `<epoch>.<serial>`, tells which call it is of.

Where each side of a call is recorded for itself, both files have the call's name with `-r` (read: what the recorded
channel says; also `-in`, `-rx`) or `-t` (transmitted: what it hears; also `-out`, `-tx`) behind it.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Literal

from pbx.model.call import CallDirection

_LONGEST = 255  # characters of a file's name; a longer one no file system takes
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
_EARLIEST_YEAR, _LATEST_YEAR = 1990, 2100  # other years were never meant, and lie where no zone can move them


@dataclass(frozen=True, slots=True)
class RecordingName:
    """What a recording's name tells. `type` is FreePBX's word, "" for a name that isn't FreePBX's."""

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
        """How far the PBX's clock is ahead of UTC, in whole quarters of an hour; None where the name doesn't tell.

        Rounded down but for a minute: the name is made some moments after the channel, never before it.
        """
        epoch = epoch_of(self.uniqueid)
        if epoch is None or self.local_time is None:
            return None
        ahead_s = self.local_time.replace(tzinfo=UTC).timestamp() - epoch
        offset_s = int((ahead_s + 60) // _QUARTER_S * _QUARTER_S)
        return offset_s if abs(offset_s) <= 14 * 3600 else None


def parse_name(name: str, zone: tzinfo | None = None) -> RecordingName:
    """Read an ARI recording name, directories before it allowed; an unknown one gives an empty RecordingName.

    The time it takes grows with the name's length and no faster. The uniqueid's epoch tells when the call started.
    Without one the name's local time does, in `zone` (the PBX's), and without a zone nothing does.
    """
    name = name.rpartition("/")[2]
    if len(name) > _LONGEST:
        return RecordingName()
    told = RecordingName()
    if dates := list(_DATE.finditer(name)):
        date = dates[-1]
        uniqueid = _LEG.sub("", name[date.end() :])  # both sides are recordings of one call
        told = replace(_parties(name[: date.start()]), uniqueid=uniqueid, local_time=_local_time(date[1]))
    if not told.type and epoch_of(told.uniqueid) is None:
        found = _UNIQUEID.search(name)
        told = replace(told, uniqueid=found[0] if found else "")
    return _with_time(told, zone)


def _with_time(told: RecordingName, zone: tzinfo | None) -> RecordingName:
    epoch = epoch_of(told.uniqueid)
    if epoch is not None:
        return replace(told, started_at=datetime.fromtimestamp(epoch, UTC))
    if told.local_time is not None and zone is not None:
        return replace(told, started_at=told.local_time.replace(tzinfo=zone).astimezone(UTC))
    return told


def _parties(head: str) -> RecordingName:
    """What stands before a name's date: `<type>-<dest>-<from>-`, `OUT<ext>-` and the like, or nothing."""
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
    """A file's name as ARI has it, without `.wav` and the like: what follows a uniqueid's dot is no format."""
    return _FORMAT.sub("", file)


def leg_of(name: str) -> Literal["r", "t", ""]:
    """Which side of a call a recording holds by its name: "r" what the channel said, "t" what it heard, "" both."""
    found = _LEG.search(name)
    return _LEGS[found[1].lower()] if found else ""


def _by_shape(dest: str, source: str) -> CallDirection:
    # FreePBX offers extensions of two to six digits; a longer number, or one with a "+", is outside.
    if not source or not dest:
        return "unknown"
    if not _EXTENSION.fullmatch(source):
        return "inbound"
    return "internal" if _EXTENSION.fullmatch(dest) else "outbound"


def epoch_of(uniqueid: str) -> int | None:
    """When a uniqueid's channel was made, by the PBX's clock in UTC; None where the uniqueid is of another kind."""
    found = _EPOCH.search(uniqueid)
    return int(found[1]) if found else None


def _local_time(written: str) -> datetime | None:
    try:
        local = datetime.strptime(written, "%Y%m%d-%H%M%S")  # noqa: DTZ007 - the PBX's zone isn't known here
    except ValueError:
        return None
    return local if _EARLIEST_YEAR <= local.year < _LATEST_YEAR else None
