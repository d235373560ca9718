"""Parses Asterisk's queue_log: lines of a file or rows of a table to events. Pure.

A line is `epoch|callid|queue|agent|event|data1|data2…` (Asterisk's main/logger.c, ast_queue_log). Nothing escapes a `|`
within a field. In a line whose agent's name contains one, the event is found by the data that each event can have.
`data` is split in the same way, see `pbx.imports.visits_from_queue_log`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple

from pbx.text_encoding import BOM, decode_fields, text_of

NO_NAMES = frozenset({"", "NONE", "REALTIME", "MANAGER", "CLI"})  # written in place of a missing call, queue or agent
LINE_LIMIT_BYTES = 65_536  # longer than any line of Asterisk; a file of another kind may have no line ends
_EARLIEST_S, _LATEST_S = 946_684_800, 4_102_444_800  # 2000 and 2100; a clock outside this range was never set


# Every event of app_queue.c and chan_agent, 1.4 to 22, and DID, which FreePBX's dialplan adds.
EVENTS = frozenset(
    re.findall(
        r"\w+",
        """ABANDON ADDMEMBER AGENTCALLBACKLOGIN AGENTCALLBACKLOGOFF AGENTDUMP AGENTLOGIN AGENTLOGOFF ATTENDEDTRANSFER
        BLINDTRANSFER COMPLETEAGENT COMPLETECALLER CONFIGRELOAD CONNECT DID ENTERQUEUE EXITEMPTY EXITWITHKEY
        EXITWITHTIMEOUT PAUSE PAUSEALL PENALTY QUEUESTART REMOVEMEMBER RINGCANCELED RINGNOANSWER SYSCOMPAT TRANSFER
        UNPAUSE UNPAUSEALL WITHDRAW""",
    )
)


_NUMBER = r"-?\d*(?:\.\d*)?"  # older releases leave numbers out, and a clock set back causes negative ones
# The data of events that have a fixed number of fields, by app_queue.c, 1.2 to 22; older releases write fewer.
_FORMS = {
    name: re.compile(form.replace("N", _NUMBER), re.DOTALL)
    for names, form in (
        ("ADDMEMBER", r"(?:PAUSED)?"),
        ("REMOVEMEMBER AGENTDUMP SYSCOMPAT QUEUESTART CONFIGRELOAD", r""),
        ("PENALTY RINGCANCELED RINGNOANSWER", r"N"),
        ("ABANDON EXITEMPTY EXITWITHTIMEOUT COMPLETEAGENT COMPLETECALLER", r"N(?:\|N){0,2}"),
        ("CONNECT", r"N(?:\|[^|]*(?:\|N)?)?"),
        ("EXITWITHKEY", r"[^|]*(?:\|N){0,3}"),
        ("WITHDRAW", r"N\|N\|N(?:\|.*)?"),
        ("BLINDTRANSFER TRANSFER", r"[^|]*\|[^|]*(?:\|N){0,3}"),
        ("ATTENDEDTRANSFER", r"(?:[^|]*\|){1,3}N\|N\|N"),
    )
    for name in names.split()
}
_MAX_PARTS = 60  # of a line, searched for its event; Asterisk's names have at most 79 bytes


class QueueEvent(NamedTuple):
    """One event of queue_log. Fields such as "NONE" are unchanged; `data` is everything after the event's name."""

    at_s: int  # seconds since 1970
    callid: str
    queue: str
    agent: str
    name: str
    data: str  # its fields, joined by |


class UnreadableLine(ValueError):
    """A line or row that isn't part of a queue_log; its text gives the reason."""


def split_lines(rest: bytes, block: bytes) -> tuple[list[bytes], bytes]:
    """Split the rest of the last block and a new block into complete lines without line ends, and the new rest."""
    *lines, rest = (rest + block).split(b"\n")
    return lines, rest


def parse_queue_log_line(line: bytes) -> QueueEvent | None:
    """One line without its end; None for an empty one. Raises UnreadableLine.

    NUL bytes, which a crash of the machine leaves in a file, and a byte order mark are ignored.
    """
    if len(line) > LINE_LIMIT_BYTES:
        raise UnreadableLine(f"it is {len(line):,} bytes long, longer than any queue_log line")
    if b"\0" in line:
        line = line.replace(b"\0", b"")
    fields = decode_fields(line.removeprefix(BOM), b"|").rstrip("\r").split("|", 5)
    if len(fields) < 5:
        if not fields[0].strip() and len(fields) == 1:
            return None
        raise UnreadableLine(f"{len(fields)} fields where queue_log has 5 or more")
    try:
        at_s = int(fields[0])
    except ValueError:
        at_s = _epoch_of(fields[0])
    if not _EARLIEST_S <= at_s < _LATEST_S:
        raise UnreadableLine(f"the time {fields[0][:30]} is not a time of this century")
    if fields[4] not in EVENTS or fields[3] not in NO_NAMES:
        fields = _with_agent_joined(fields)
    return QueueEvent(at_s, fields[1], fields[2], fields[3], fields[4], fields[5] if len(fields) > 5 else "")


def parse_queue_log_row(
    time: Any, callid: Any, queue: Any, agent: Any, event: Any, data: Sequence[Any], zone: tzinfo = UTC
) -> QueueEvent:
    """One row of the table queue_log. `data`: the one column `data`, or data1 to data5. NULL is "".

    The time is an epoch (number or text) or a moment (a naive one in `zone`, which is the PBX's local time unless its
    logger.conf says queue_log_realtime_use_gmt). In the hour that repeats in autumn, the epoch of the callid decides.
    """
    callid, name = text_of(callid), text_of(event)
    at_s = _row_time(time, callid, zone)
    if not _EARLIEST_S <= at_s < _LATEST_S:
        raise UnreadableLine(f"the time {text_of(time)[:30]} is not a time of this century")
    if not name:
        raise UnreadableLine("no event is named")
    fields = [text_of(field) for field in data]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return QueueEvent(at_s, callid, text_of(queue), text_of(agent), name, "|".join(fields))


def _with_agent_joined(fields: list[str]) -> list[str]:
    """The fields of a line whose agent's name contains a `|`, joined correctly.

    Raises UnreadableLine when no event is named.

    The event is the first event name that is followed by data of its form; among events with any text as data, the
    last.
    """
    data = fields[5] if len(fields) > 5 else ""
    form = _FORMS.get(fields[4])
    if form is not None and form.fullmatch(data):
        return fields
    parts = "|".join(fields).split("|")
    named = [at for at, part in enumerate(parts[5:_MAX_PARTS], 5) if part in EVENTS]
    if fields[4] in EVENTS:
        named.insert(0, 4)
    fit = (at for at in named if parts[at] in _FORMS and _FORMS[parts[at]].fullmatch("|".join(parts[at + 1 :])))
    free = [at for at in named if parts[at] not in _FORMS and at + 1 < len(parts)]
    at = next(fit, free[-1] if free else named[0] if named else 4)
    if not parts[at].strip():
        raise UnreadableLine("no event is named")
    return [*parts[:3], "|".join(parts[3:at]), parts[at], "|".join(parts[at + 1 :])]


def callid_epoch_s(callid: str) -> float | None:
    """When a channel was created, from its uniqueid: `1795262830.12`, or with a system name `pbx-1795262830.12`."""
    head, _, _ = callid.rpartition(".")
    digits = head.rpartition("-")[2]
    return float(digits) if digits.isdecimal() and len(digits) >= 9 else None


def _epoch_of(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise UnreadableLine(f"{text[:30]!r} is not a time") from None
    if not math.isfinite(value):
        raise UnreadableLine(f"{text[:30]!r} is not a time")
    return int(value)


def _row_time(time: Any, callid: str, zone: tzinfo) -> int:
    if isinstance(time, datetime):
        return _moment_s(time, callid, zone)
    text = text_of(time)
    try:
        return _epoch_of(text)
    except UnreadableLine:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UnreadableLine(f"{text[:30]!r} is not a time") from None
        return _moment_s(moment, callid, zone)


def _moment_s(moment: datetime, callid: str, zone: tzinfo) -> int:
    if moment.tzinfo is not None:
        return int(moment.timestamp())
    first, second = (int(moment.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
    begun_s = callid_epoch_s(callid)
    # fold=1 is the later reading of a repeated hour, and the earlier one of a skipped hour.
    if begun_s is not None and first + 1 < begun_s and second > first:
        return second
    return first


def in_order(events: Sequence[QueueEvent]) -> Iterator[QueueEvent]:
    """Sorts events by time and, within a second: joined, connected, ended. Rows without ids have no certain order."""
    yield from sorted(events, key=lambda event: (event.at_s, _ORDER.get(event.name, 1)))


_ORDER = {"QUEUESTART": -1, "DID": 0, "ENTERQUEUE": 0, "CONNECT": 2} | dict.fromkeys(
    ("COMPLETECALLER", "COMPLETEAGENT", "TRANSFER", "BLINDTRANSFER", "ATTENDEDTRANSFER"), 3
)


def numbers(data: str) -> list[float | None]:
    """The fields of an event's data as numbers; None for a field that isn't one."""
    return [number(field) for field in data.split("|")]


def number(field: str) -> float | None:
    """A field as a number; None for anything else, and for an implausible number."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None  # a clock set back causes negative durations; also False for NaN
