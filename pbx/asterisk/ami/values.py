"""Asterisk's ways of writing numbers, names and nothing, as Python values."""

import re
from datetime import UTC, datetime, timedelta

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_MOST = 10**10  # no count, duration or epoch of Asterisk's is larger; calendars and databases go on from there
_LONGEST_S = 10**8  # three years: no call lasts longer
_MILLISECONDS = re.compile(r"\((\d+) ms\)")


def known(text: str) -> str:
    """The text, or nothing for Asterisk's words for nothing."""
    return "" if text in ("<unknown>", "(null)", "-none-", "N/A", "(Unspecified)") else text


def unescape(text: str) -> str:
    """A caller's name in a channel's events: Asterisk escapes it as C would (`O\\'Brien`, seen on 16 and 22).

    QueueEntry and QueueMember carry the same name unescaped.
    """
    return _ESCAPED.sub(lambda match: _CONTROLS.get(match[1], match[1]), text) if "\\" in text else text


def integer(text: str) -> int:
    """The number, 0 for anything else, and for one so large that nothing is counted by it."""
    try:
        number = int(text)
    except ValueError:
        return 0
    return number if abs(number) < _MOST else 0


def decimal(text: str) -> float | None:
    """The number, None for anything else, infinity and what comes near it too."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < _MOST else None  # which no nan is


def span_s(text: str) -> float | None:
    """A time that something took; None for anything else, for years, and below 0, where the clock was set back."""
    number = decimal(text)
    return number if number is not None and 0 <= number < _LONGEST_S else None


def roundtrip_ms(text: str) -> float | None:
    """Milliseconds from PJSIP's microseconds (`3075`) or a peer's status (`OK (12 ms)`); None when not measured."""
    if match := _MILLISECONDS.search(text):
        return decimal(match[1])
    microseconds = integer(text)
    return microseconds / 1000 if microseconds > 0 else None


def moment(epoch: str) -> datetime | None:
    """A UTC time from epoch seconds; None for 0 and for anything that is no time."""
    epoch_s = integer(epoch)
    return datetime.fromtimestamp(epoch_s, UTC) if epoch_s > 0 else None


def seconds(clock: str) -> int:
    """Seconds of `hh:mm:ss`; 0 for anything else, and for years."""
    parts = clock.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) < 10 for part in parts):
        return 0
    hours, minutes, rest = map(int, parts)
    total = hours * 3600 + minutes * 60 + rest
    return total if total < _LONGEST_S else 0


def utc_offset(text: str) -> timedelta | None:
    """The offset that strftime's `%z` writes (`+0530`); None for anything else."""
    if not re.fullmatch(r"[+-]\d{4}", text):
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    return -offset if text[0] == "-" else offset
