"""Converts the notations that Asterisk uses for numbers, times, names and missing values to Python values."""

import re
from datetime import UTC, datetime, timedelta

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_MAX = 10**10  # larger than any count, duration or epoch of Asterisk, and safe for dates and databases
_MAX_S = 10**8  # three years, longer than any call
_MILLISECONDS = re.compile(r"\((\d+) ms\)")


def without_placeholder(text: str) -> str:
    """The text; "" for the words that Asterisk writes for a missing value."""
    return "" if text in ("<unknown>", "(null)", "-none-", "N/A", "(Unspecified)") else text


def unescape(text: str) -> str:
    """A caller's name from a channel event, where Asterisk escapes it as in C (`O\\'Brien`, observed on 16 and 22).

    QueueEntry and QueueMember contain the same name unescaped.
    """
    return _ESCAPED.sub(lambda match: _CONTROLS.get(match[1], match[1]), text) if "\\" in text else text


def integer(text: str) -> int:
    """The integer; 0 for anything else, and for an implausibly large number."""
    try:
        number = int(text)
    except ValueError:
        return 0
    return number if abs(number) < _MAX else 0


def decimal(text: str) -> float | None:
    """The number; None for anything else, and for an implausibly large number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < _MAX else None  # False for NaN


def duration_s(text: str) -> float | None:
    """A duration in seconds; None for anything else, for years, and for negative ones of a clock that was set back."""
    number = decimal(text)
    return number if number is not None and 0 <= number < _MAX_S else None


def roundtrip_ms(text: str) -> float | None:
    """Milliseconds from PJSIP's microseconds (`3075`) or a peer's status (`OK (12 ms)`); None when not measured."""
    if match := _MILLISECONDS.search(text):
        return decimal(match[1])
    microseconds = integer(text)
    return microseconds / 1000 if microseconds > 0 else None


def moment(epoch: str) -> datetime | None:
    """A UTC time from seconds since 1970; None for 0 and for anything that isn't a time."""
    epoch_s = integer(epoch)
    return datetime.fromtimestamp(epoch_s, UTC) if epoch_s > 0 else None


def seconds(clock: str) -> int:
    """The seconds of `hh:mm:ss`; 0 for anything else, and for years."""
    parts = clock.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) < 10 for part in parts):
        return 0
    hours, minutes, rest = map(int, parts)
    total = hours * 3600 + minutes * 60 + rest
    return total if total < _MAX_S else 0


def utc_offset(text: str) -> timedelta | None:
    """The offset that strftime's `%z` writes (`+0530`); None for anything else."""
    if not re.fullmatch(r"[+-]\d{4}", text):
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    return -offset if text[0] == "-" else offset
