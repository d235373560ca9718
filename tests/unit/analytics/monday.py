"""The day on which the made-up visits and calls of these tests happen."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 3, 2, tzinfo=BERLIN)  # midnight there


def at(hours: float, day: datetime = MONDAY) -> datetime:
    """A moment of the day in UTC: `hours` after its midnight."""
    return day.astimezone(UTC) + timedelta(hours=hours)
