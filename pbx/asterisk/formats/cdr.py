"""Rows of Asterisk's call detail records → legs. Pure: whoever reads a database or a file hands over the rows.

FreePBX's table `asteriskcdrdb.cdr`: calldate, clid, src, dst, dcontext, channel, dstchannel, lastapp, lastdata,
duration, billsec, disposition, amaflags, accountcode, uniqueid, userfield, did, recordingfile, cnum, cnam,
outbound_cnum, outbound_cnam, dst_cnam, linkedid, peeraccount, sequence. Older ones lack those behind userfield, and
some schemas have Asterisk's own start, answer and end in place of calldate. All times are the PBX's local time.
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

# What is read of a row, where it is there.
COLUMNS = tuple(
    """calldate start answer end clid src dst dcontext channel dstchannel lastapp lastdata duration billsec disposition
    uniqueid userfield did recordingfile cnum cnam outbound_cnum linkedid sequence""".split()  # noqa: SIM905
)
_DISPOSITIONS = {  # its flags as a number (main/cdr.c, AST_CDR_…), which some back-ends store
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
_SOON_S = 60  # so long after its channel a record may begin, and still be the channel's first
_EARLIEST_YEAR, _LATEST_YEAR = 1990, 2100  # a clock that says otherwise was never set
_LONGEST_S = 10**9
_LEARN_FROM = 2000  # rows


class BadRow(ValueError):
    """A row that tells of no leg; its text says why, for people."""


@dataclass(frozen=True, slots=True)
class Clock:
    """How the PBX's local times are read. Not `certain`: an offset that was learned, and so is wrong half the year
    where there is summer time."""

    zone: tzinfo
    certain: bool = True

    def to_utc(self, local: datetime, epoch: int | None) -> datetime:
        """A local time in UTC. `epoch`: of the row's uniqueid, when its channel was made.

        It tells which of two readings is meant in the hour that comes twice, and corrects a learned offset: the record
        of a channel begins with it, or later.
        """
        if epoch is not None and not self.certain:
            offset_s = offset_told(local, epoch)
            # By more than summer time it isn't wrong: then the record began so much later than its channel.
            if offset_s is not None and abs(offset_s - _offset_s(local, self.zone)) in (0, 3600):
                return (local - timedelta(seconds=offset_s)).replace(tzinfo=UTC)
        readings = sorted({local.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)})
        if epoch is None or len(readings) == 1:
            return readings[0]
        # Seconds are cut off, so a record may seem to begin a little before its channel.
        made_at = datetime.fromtimestamp(epoch, UTC) - timedelta(seconds=2)
        return next((at for at in readings if at >= made_at), readings[0])


def offset_told(local: datetime, epoch: int) -> int | None:
    """The offset to UTC in seconds, in whole quarters of an hour, if the record began right after its channel."""
    ahead_s = local.replace(tzinfo=UTC).timestamp() - epoch
    offset_s = int((ahead_s + 2) // _QUARTER_S * _QUARTER_S)
    return offset_s if ahead_s - offset_s <= _SOON_S and abs(offset_s) <= 14 * 3600 else None


def learn_clock(rows: Iterable[Mapping[str, Any]], zone: tzinfo | None, *, certain: bool) -> Clock:
    """How these rows' times are to be read: in `zone` if most of those whose uniqueid tells agree, else as they tell.

    (Times may be UTC by `usegmtime` whatever the PBX's zone.) UTC where nothing tells.
    """
    told: list[tuple[datetime, int]] = []
    for row in islice(rows, _LEARN_FROM):
        local, epoch = local_moment(row.get("calldate") or row.get("start")), epoch_of(_text(row.get("uniqueid")))
        if local is not None and epoch is not None and (offset_s := offset_told(local, epoch)) is not None:
            told.append((local, offset_s))
    if zone is not None:
        agree = sum(_offset_s(local, zone) == offset_s for local, offset_s in told)
        if 2 * agree >= len(told):
            return Clock(zone, certain)
    if not told:
        return Clock(UTC, certain=False)
    return Clock(timezone(timedelta(seconds=Counter(offset_s for _, offset_s in told).most_common(1)[0][0])), False)


def parse_cdr_row(row: Mapping[str, Any], clock: Clock, trunks: Collection[str] = ()) -> Leg:
    """One row, its columns by their names in lower case; NULL, `0000-00-00 00:00:00` and missing ones tell nothing.

    Without a linkedid the uniqueid stands in its place; without a time of its own the row began when its uniqueid says.
    Raises BadRow.
    """
    uniqueid = _text(row.get("uniqueid"))
    if not uniqueid:
        raise BadRow("it has no uniqueid (loguniqueid=yes in cdr.conf writes it)")
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
        from_outside=bool(did) and peer_of(channel) != caller,  # an extension may dial a DID, to try it
        to_outside=bool(outbound_number) or dials_a_number(_text(row.get("lastapp")), _text(row.get("lastdata"))),
    )
    answered_at = _answered_at(row, clock, started_at, duration_s, billsec_s)
    if trunk and peer_of(dst_channel) == (onward_trunk or trunk) and not _is_answered(row):
        answered_at = None  # what was answered is the caller's channel, before it dialled [seen on 16 and 22]
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
        cause=None,
        pdd_s=None,
        recording_file=_recording_file(row),
        sequence=_sequence(row.get("sequence")),
        from_name=_from_name(row),
        onward_trunk=onward_trunk,
        outbound_number=outbound_number,
    )


def _dst(row: Mapping[str, Any]) -> str:
    """Who was called: of a queue's row the queue it was for, as a blind transfer puts its target into dst [seen]."""
    queue = _text(row.get("lastdata")).partition(",")[0] if _text(row.get("lastapp")) == "Queue" else ""
    return queue or _text(row.get("dst"))


def _started_at(row: Mapping[str, Any], clock: Clock, epoch: int | None) -> datetime:
    for name in ("calldate", "start"):
        if (at := _at(row, name, clock, epoch)) is not None:
            return at
    if epoch is None:
        raise BadRow(f"its time is {str(row.get('calldate') or row.get('start') or 'missing')[:30]!r}")
    return datetime.fromtimestamp(epoch, UTC)


def _answered_at(
    row: Mapping[str, Any], clock: Clock, started_at: datetime, duration_s: float | None, billsec_s: float | None
) -> datetime | None:
    if billsec_s == 0 and not _is_answered(row):
        return None  # Master.csv has the time at which the caller's channel was answered, before it dialled
    if (at := _at(row, "answer", clock, int(started_at.timestamp()))) is not None:
        return max(at, started_at)
    if duration_s is None or billsec_s is None or not (billsec_s or _is_answered(row)):
        return None
    return started_at + timedelta(seconds=max(duration_s - billsec_s, 0))


def _ended_at(row: Mapping[str, Any], clock: Clock, started_at: datetime, duration_s: float | None) -> datetime | None:
    """Which reading of its end is meant its length tells: an hour behind its channel it isn't another zone's."""
    told = _later(started_at, duration_s)
    return _at(row, "end", clock, int((told or started_at).timestamp())) or told


def _is_answered(row: Mapping[str, Any]) -> bool:
    return _text(row.get("disposition")).upper() in ("ANSWERED", "ANSWER", "8")


def _at(row: Mapping[str, Any], name: str, clock: Clock, epoch: int | None) -> datetime | None:
    local = local_moment(row.get(name))
    return None if local is None else clock.to_utc(local, epoch)


def _later(at: datetime, duration_s: float | None) -> datetime | None:
    return None if duration_s is None else at + timedelta(seconds=duration_s)


def local_moment(value: Any) -> datetime | None:
    """A local time, without a zone; None for what isn't one, `0000-00-00 00:00:00` above all."""
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
    if not seconds < _LONGEST_S:  # so that no number fails too
        raise BadRow(f"its {name} is {text[:30]!r}")
    return max(seconds, 0.0)  # below 0 where the clock was set back


def _sequence(value: Any) -> int | None:
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _text(value: Any) -> str:
    """A value as text that any database takes; NULL is ""."""
    if value is None:
        return ""
    text = decode(bytes(value)) if isinstance(value, bytes | bytearray) else str(value)
    if not text.isascii() or "\0" in text:
        text = text.replace("\0", "").encode("utf-8", "ignore").decode()
    if "\n" in text or "\r" in text:
        text = " ".join(text.split())  # a caller's name or a note that was written with line breaks
    return text.strip()


def _from_name(row: Mapping[str, Any]) -> str:
    if name := _text(row.get("cnam")):
        return name
    name = _text(row.get("clid"))
    # `"name" <number>`, or what the 80 bytes that Asterisk has for it hold of that
    head, number, _ = name.rpartition("<") if name.endswith(">") else name.rpartition('" <')
    if number:
        name = head
    elif not name.startswith('"'):
        name = name.partition(" <")[0] if " <" in name else ""
    return name.strip().removeprefix('"').removesuffix('"').strip().replace('\\"', '"')


def _recording_file(row: Mapping[str, Any]) -> str:
    """The base name; in plain Asterisk it may stand in userfield, behind `audio:` in Elastix and Issabel."""
    if file := _text(row.get("recordingfile")).rpartition("/")[2]:
        return file
    field = _text(row.get("userfield"))
    file = field.removeprefix("audio:").rpartition("/")[2]
    told = parse_name(without_format(file))
    return file if field.startswith("audio:") or told.type or told.uniqueid else ""
