"""The day of the sample visits and calls in these tests."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 3, 2, tzinfo=BERLIN)  # midnight in Berlin


def at(hours: float, day: datetime = MONDAY) -> datetime:
    """The time in UTC that is `hours` after midnight of a day."""
    return day.astimezone(UTC) + timedelta(hours=hours)
