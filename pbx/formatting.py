"""Formats durations, times, sizes, counts and Asterisk's codes for pages, charts and exports."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

NOTHING = "–"
DAY_S = 86_400
MEMBER_STATUS = {
    0: "Unknown",
    1: "Free",
    2: "On a call",
    3: "Busy",
    4: "Invalid",
    5: "Unavailable",
    6: "Ringing",
    7: "Ringing, on a call",
    8: "On hold",
}

DIRECTIONS = {
    "inbound": "↙ Inbound",
    "outbound": "↗ Outbound",
    "internal": "↔ Internal",
    "unknown": "Unknown direction",
}
PLAIN_DIRECTIONS = {name: text.lstrip("↙↗↔ ") for name, text in DIRECTIONS.items()}  # for files
RECORDING_STATES = {  # the text, and its tone in a table
    "downloaded": ("Recorded", "good"),
    "listed": ("Not downloaded yet", "idle"),
    "downloading": ("Downloading", "busy"),
    "waiting": ("Still being recorded", "busy"),
    "empty": ("Empty recording", "idle"),
    "unreadable": ("Unreadable", "bad"),
    "too_large": ("Too large", "warn"),
    "missing": ("Missing on the PBX", "warn"),
    "failed": ("Download failed", "bad"),
    "none": ("Not recorded", "idle"),
}
TRANSCRIPTION_STATES = {
    "new": ("New", "idle"),
    "queued": ("Queued", "busy"),
    "transcribing": ("Transcribing", "busy"),
    "completed": ("Completed", "good"),
    "failed": ("Failed", "bad"),
}
DISPOSITIONS = {  # how a call ended, by the CDR
    "ANSWERED": "Answered",
    "NO ANSWER": "Not answered",
    "BUSY": "Busy",
    "FAILED": "Failed",
    "CONGESTION": "Congestion",
    "": "Unknown",
}
OUTCOMES = {  # of a queue visit: the text, its tone in a table, and its meaning
    "answered": ("Answered", "good", "an agent took the call"),
    "transferred": ("Transferred", "good", "an agent took the call and passed it on"),
    "abandoned": ("Abandoned", "bad", "the caller hung up before anyone answered"),
    "timeout": ("Timed out", "warn", "the queue’s maximum wait was reached"),
    "exit_empty": ("No agent", "warn", "no agent could take calls"),
    "exit_key": ("Left by key", "idle", "the caller pressed a key to leave"),
    "withdrawn": ("Withdrawn", "idle", "something other than the caller took the call out of the queue"),
    "in_progress": ("In progress", "busy", "the caller is waiting or talking"),
    "unknown": ("Unknown", "idle", "the end of the visit is missing from the data"),
}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SPEAKERS = {"caller": "Caller", "agent": "Agent"}
SOUNDS = {"music": "hold music", "ringing": "ringing"}  # flags of segments that aren't speech
FLAGS = {  # why a segment is doubtful
    "no_voice": "no voice was detected",
    "repetition": "the model repeated itself",
    "compression": "the text repeats the same words",
    "improbable": "the model was unsure",
    "phantom": "a phrase that models invent in silence",
}


def duration_text(duration_s: float | None) -> str:
    """Format a duration in seconds: 7 s, 1 min 23 s, 17 min, 2 h 5 min, 144 h 40 min; a dash for None."""
    if duration_s is None:
        return NOTHING
    seconds = max(round(duration_s), 0)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours:,} h" + (f" {minutes} min" if minutes else "")
    return " ".join([f"{minutes} min"] * bool(minutes) + [f"{seconds} s"] * bool(seconds or not minutes))


def position_text(position_s: float) -> str:
    """Format a position in a recording as players do: 0:07, 1:23, 1:02:03."""
    seconds = max(int(position_s), 0)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def ago_text(at: datetime | None, now: datetime) -> str:
    """Format how long ago a time was: just now, 40 s ago, 3 min ago, 2 h ago, 5 d ago."""
    if at is None:
        return "never"
    seconds = (now - at).total_seconds()
    for limit_s, unit_s, unit in ((60, 1, "s"), (3600, 60, "min"), (2 * DAY_S, 3600, "h")):
        if seconds < limit_s:
            return "just now" if seconds < 5 else f"{int(seconds // unit_s)} {unit} ago"
    return f"{int(seconds // DAY_S)} d ago"


def moment_text(at: datetime | None, zone: tzinfo, now: datetime, *, seconds: bool = False) -> str:
    """Format a time in a time zone, with a date only if needed: 08:41, 20 Nov 08:41, 20 Nov 2025 08:41."""
    if at is None:
        return NOTHING
    local, today = at.astimezone(zone), now.astimezone(zone)
    clock = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    if local.date() == today.date():
        return clock
    return f"{local.day} {local:%b} {clock}" if local.year == today.year else f"{local.day} {local:%b %Y} {clock}"


def size_text(size_bytes: int | None) -> str:
    """Format a file's size: 812 B, 160 KB, 1.2 MB (units of 1,000)."""
    if size_bytes is None:
        return NOTHING
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1000:,.0f} KB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:,.1f} MB"


def count_text(count: int, one: str) -> str:
    """Format a number with its noun: 1 call, 1,234 calls."""
    return f"{count:,} {one if count == 1 else plural(one)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: calls, entries, numbers called, calls of an agent."""
    head, more = re.fullmatch(r"(.*?)((?: (?:called|dialled|of|in|with|to|from)\b.*)?)", noun).groups()  # type: ignore[union-attr]
    if re.search(r"[^aeiou]y$", head):
        head = head[:-1] + "ie"
    elif re.search(r"(s|x|ch|sh)$", head):
        head += "e"
    return f"{head}s{more}"


def sync_text(result: Mapping[str, Any]) -> str:
    """Summarize the result of a sync: 12 new recordings (431 on the PBX), 1 waiting, 2 failed."""
    parts = [f"{count_text(result.get('new', 0), 'new recording')} ({result.get('listed', 0):,} on the PBX)"]
    others = ("waiting", "pending", "empty", "unreadable", "too_large", "missing")
    parts += [f"{result[name]:,} {name.replace('_', ' ')}" for name in others if result.get(name)]
    return ", ".join(parts + ([f"{len(result['failed']):,} failed"] if result.get("failed") else []))


def zone_of(timezone_name: str | None, utc_offset_s: int | None) -> tzinfo:
    """Return the PBX's time zone: the one that is set, else the offset detected from the PBX, else UTC."""
    if timezone_name:
        return ZoneInfo(timezone_name)
    return UTC if utc_offset_s is None else timezone(timedelta(seconds=utc_offset_s))


def zone_text(zone: tzinfo, at: datetime) -> str:
    """Return a zone's name: Europe/Berlin, or UTC+02:00 if only the offset is known."""
    return zone.key if isinstance(zone, ZoneInfo) else str(zone.tzname(at))


def date_text(at: datetime, form: str) -> str:
    """Write a time by strftime's codes. `%-d`, the day of the month without a leading zero, works on every system."""
    return at.strftime(form.replace("%-d", str(at.day)))


def start_of_day(at: datetime, zone: tzinfo, days_back: int = 0) -> datetime:
    """Return the last local midnight before a time, or `days_back` local days earlier, in UTC."""
    midnight = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - timedelta(days=days_back)).astimezone(UTC)  # local arithmetic: a day can have 23 or 25 hours


def service_level_text(percent: float, within_s: int, completed: int) -> str:
    """Format Asterisk's ServicelevelPerf: the share of completed calls answered within the queue's service level."""
    if not within_s:
        return "–"
    return f"{percent:.0f}% within {within_s} s" if completed else "n/a"
