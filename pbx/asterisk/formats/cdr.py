"""Turns rows of Asterisk's call detail records (CDR) into legs. Pure: the caller reads the database or file.

FreePBX's table `asteriskcdrdb.cdr`: calldate, clid, src, dst, dcontext, channel, dstchannel, lastapp, lastdata,
duration, billsec, disposition, amaflags, accountcode, uniqueid, userfield, did, recordingfile, cnum, cnam,
outbound_cnum, outbound_cnam, dst_cnam, linkedid, peeraccount, sequence. Older ones lack those after userfield, and
some schemas have Asterisk's own start, answer and end instead of calldate. All times are the PBX's local time.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import islice
from typing import Any

from pbx.asterisk.formats.recording_names import epoch_of, parse_name, without_format
from pbx.model.channels import dials_a_number, peer_of, trunks_of
from pbx.model.history import Leg
from pbx.text_encoding import decode

# The columns that are read, as far as a row has them.
COLUMNS = tuple(
    """calldate start answer end clid src dst dcontext channel dstchannel lastapp lastdata duration billsec disposition
    uniqueid userfield did recordingfile cnum cnam outbound_cnum linkedid sequence""".split()  # noqa: SIM905
)
_DISPOSITIONS = {  # some backends store the flags as a number (main/cdr.c, AST_CDR_…)
    "0": "NO ANSWER",
    "1": "NO ANSWER",
    "2": "FAILED",
    "4": "BUSY",
    "8": "ANSWERED",
    "16": "CONGESTION",
    "NOANSWER": "NO ANSWER",
    "ANSWER": "ANSWERED",
}
_QUARTER_S = 900
_SOON_S = 60  # a record that begins this soon after its channel may be the channel's first
_EARLIEST_YEAR, _LATEST_YEAR = 1990, 2100  # a clock outside this range was never set
_MAX_S = 10**9
_SAMPLE_ROWS = 2000


class UnreadableRow(ValueError):
    """A row that can't be read as a leg; its text gives the reason."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How the PBX's local times are converted to UTC.

    Not `certain`: the zone is an offset learned from rows, which is wrong for half the year where there is summer time.
    """

    zone: tzinfo
    certain: bool = True

    def to_utc(self, local: datetime, epoch: int | None) -> datetime:
        """A local time in UTC. `epoch`: when the row's channel was created, from its uniqueid.

        A record begins with its channel or later. So the epoch decides between two readings in the hour that repeats
        in autumn, and corrects a learned offset.
        """
        if epoch is not None and not self.certain:
            offset_s = offset_from_epoch(local, epoch)
            # A learned offset is wrong by summer time at most; otherwise the record began later than its channel.
            if offset_s is not None and abs(offset_s - _offset_s(local, self.zone)) in (0, 3600):
                return (local - timedelta(seconds=offset_s)).replace(tzinfo=UTC)
        readings = sorted({local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)})
        if epoch is None or len(readings) == 1:
            return readings[0]
        # Times are truncated to seconds, so a record may seem to begin a little before its channel.
        made_at = datetime.fromtimestamp(epoch, UTC) - timedelta(seconds=2)
        return next((at for at in readings if at >= made_at), readings[0])


def offset_from_epoch(local: datetime, epoch: int) -> int | None:
    """The UTC offset in seconds, in quarters of an hour, if the record began right after its channel; else None."""
    ahead_s = local.replace(tzinfo=UTC).timestamp() - epoch
    offset_s = int((ahead_s + 2) // _QUARTER_S * _QUARTER_S)
    return offset_s if ahead_s - offset_s <= _SOON_S and abs(offset_s) <= 14 * 3600 else None


def learn_clock(rows: Iterable[Mapping[str, Any]], zone: tzinfo | None, *, certain: bool) -> Clock:
    """The clock for the times of these rows, checked against the epochs in their uniqueids.

    It is `zone` if most rows agree with it, otherwise the offset that most rows show (with `usegmtime` times are in UTC
    whatever the PBX's zone). Without any epoch it is `zone`, or UTC.
    """
    offsets: list[tuple[datetime, int]] = []
    for row in islice(rows, _SAMPLE_ROWS):
        local, epoch = local_moment(row.get("calldate") or row.get("start")), epoch_of(_text(row.get("uniqueid")))
        if local is not None and epoch is not None and (offset_s := offset_from_epoch(local, epoch)) is not None:
            offsets.append((local, offset_s))
    if zone is not None:
        agree = sum(_offset_s(local, zone) == offset_s for local, offset_s in offsets)
        if 2 * agree >= len(offsets):
            return Clock(zone, certain)
    if not offsets:
        return Clock(UTC, certain=False)
    return Clock(timezone(timedelta(seconds=Counter(offset_s for _, offset_s in offsets).most_common(1)[0][0])), False)


def parse_cdr_row(row: Mapping[str, Any], clock: Clock, trunks: Collection[str] = ()) -> Leg:
    """The leg of a row keyed by column names in lower case. NULL and `0000-00-00 00:00:00` count as missing.

    Without a linkedid the uniqueid is used; without a time the epoch of the uniqueid is. Raises UnreadableRow.
    """
    uniqueid = _text(row.get("uniqueid"))
    if not uniqueid:
        raise UnreadableRow("it has no uniqueid (loguniqueid=yes in cdr.conf writes it)")
    epoch = epoch_of(uniqueid)
    started_at = _started_at(row, clock, epoch)
    duration_s, billsec_s = _seconds(row, "duration"), _seconds(row, "billsec")
    disposition = _text(row.get("disposition")).upper()
    channel, dst_channel, context = (_text(row.get(name)) for name in ("channel", "dstchannel", "dcontext"))
    caller, did, outbound_number = (
        _text(row.get("cnum")) or _text(row.get("src")),
        _text(row.get("did")),
        _text(row.get("outbound_cnum")),
    )
    trunk, onward_trunk = trunks_of(
        channel,
        dst_channel,
        context,
        trunks,
        from_outside=bool(did) and peer_of(channel) != caller,  # an extension may dial a DID as a test
        to_outside=bool(outbound_number) or dials_a_number(_text(row.get("lastapp")), _text(row.get("lastdata"))),
    )
    answered_at = _answered_at(row, clock, started_at, duration_s, billsec_s)
    if trunk and peer_of(dst_channel) == (onward_trunk or trunk) and not _is_answered(row):
        answered_at = None  # the caller's channel was answered before it dialled (observed on 16 and 22)
    return Leg(
        linkedid=_text(row.get("linkedid")) or uniqueid,
        uniqueid=uniqueid,
        channel=channel,
        dst_channel=dst_channel,
        trunk=trunk,
        src=caller,
        dst=_dst(row),
        did=did,
        context=context,
        last_app=_text(row.get("lastapp")),
        started_at=started_at,
        answered_at=answered_at,
        ended_at=_ended_at(row, clock, started_at, duration_s),
        duration_s=duration_s,
        billsec_s=billsec_s,
        disposition=_DISPOSITIONS.get(disposition, disposition),
        recording_file=_recording_file(row),
        sequence=small_int(row.get("sequence"), digits=9),
        from_name=_from_name(row),
        onward_trunk=onward_trunk,
        outbound_number=outbound_number,
    )


def _dst(row: Mapping[str, Any]) -> str:
    """The called party. For a queue it is the queue's name, because a blind transfer puts its target into dst."""
    queue = _text(row.get("lastdata")).partition(",")[0] if _text(row.get("lastapp")) == "Queue" else ""
    return queue or _text(row.get("dst"))


def _started_at(row: Mapping[str, Any], clock: Clock, epoch: int | None) -> datetime:
    for name in ("calldate", "start"):
        if (at := _at(row, name, clock, epoch)) is not None:
            return at
    if epoch is None:
        raise UnreadableRow(f"its time is {str(row.get('calldate') or row.get('start') or 'missing')[:30]!r}")
    return datetime.fromtimestamp(epoch, UTC)


def _answered_at(
    row: Mapping[str, Any], clock: Clock, started_at: datetime, duration_s: float | None, billsec_s: float | None
) -> datetime | None:
    if billsec_s == 0 and not _is_answered(row):
        return None  # Master.csv has the answer of the caller's channel, which precedes the dialling
    if (at := _at(row, "answer", clock, int(started_at.timestamp()))) is not None:
        return max(at, started_at)
    if duration_s is None or billsec_s is None or not (billsec_s or _is_answered(row)):
        return None
    return started_at + timedelta(seconds=max(duration_s - billsec_s, 0))


def _ended_at(row: Mapping[str, Any], clock: Clock, started_at: datetime, duration_s: float | None) -> datetime | None:
    """The end of a row. Its length decides between two readings in the hour that repeats in autumn."""
    by_length = _later(started_at, duration_s)
    return _at(row, "end", clock, int((by_length or started_at).timestamp())) or by_length


def _is_answered(row: Mapping[str, Any]) -> bool:
    return _text(row.get("disposition")).upper() in ("ANSWERED", "ANSWER", "8")


def _at(row: Mapping[str, Any], name: str, clock: Clock, epoch: int | None) -> datetime | None:
    local = local_moment(row.get(name))
    return None if local is None else clock.to_utc(local, epoch)


def _later(at: datetime, duration_s: float | None) -> datetime | None:
    return None if duration_s is None else at + timedelta(seconds=duration_s)


def local_moment(value: Any) -> datetime | None:
    """A local time without a zone; None for anything else, such as `0000-00-00 00:00:00`."""
    if isinstance(value, datetime):
        local = value
    else:
        try:
            local = datetime.fromisoformat(_text(value))
        except ValueError:
            return None
    return local.replace(tzinfo=None) if _EARLIEST_YEAR <= local.year < _LATEST_YEAR else None


def _offset_s(local: datetime, zone: tzinfo) -> int:
    ahead = local.replace(tzinfo=zone).utcoffset() or timedelta()
    return int(ahead.total_seconds())


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    text = _text(row.get(name))
    try:
        seconds = float(text) if text else None
    except ValueError:
        seconds = math.nan
    if seconds is None:
        return None
    if not seconds < _MAX_S:  # also False for NaN
        raise UnreadableRow(f"its {name} is {text[:30]!r}")
    return max(seconds, 0.0)  # negative where the clock was set back


def small_int(value: Any, digits: int) -> int | None:
    """A column's number of at most so many digits; None for anything else."""
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) <= digits else None


def _text(value: Any) -> str:
    """A value as text that any database can store; "" for NULL."""
    if value is None:
        return ""
    text = decode(bytes(value)) if isinstance(value, bytes | bytearray) else str(value)
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", "").encode("utf-8", "ignore").decode()
    if "\n" in text or "\r" in text:
        text = " ".join(text.split())  # a caller's name or a note with line breaks
    return text.strip()


def _from_name(row: Mapping[str, Any]) -> str:
    if name := _text(row.get("cnam")):
        return name
    name = _text(row.get("clid"))
    # `"name" <number>`, which Asterisk cuts after 80 bytes
    head, number, _ = name.rpartition("<") if name.endswith(">") else name.rpartition('" <')
    if number:
        name = head
    elif not name.startswith('"'):
        name = name.partition(" <")[0] if " <" in name else ""
    return name.strip().removeprefix('"').removesuffix('"').strip().replace('\\"', '"')


def _recording_file(row: Mapping[str, Any]) -> str:
    """The recording's base name. Plain Asterisk may have it in userfield, Elastix and Issabel there after `audio:`."""
    if file := _text(row.get("recordingfile")).rpartition("/")[2]:
        return file
    field = _text(row.get("userfield"))
    file = field.removeprefix("audio:").rpartition("/")[2]
    parsed = parse_name(without_format(file))
    return file if field.startswith("audio:") or parsed.type or parsed.uniqueid else ""
