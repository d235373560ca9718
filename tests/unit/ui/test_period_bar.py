"""The period bar computes up to when a period's data is known."""

from datetime import UTC, datetime, timedelta

from pbx.ui.period_bar import Period


def test_a_refreshed_period_is_seen_until_now() -> None:
    earlier = datetime(2026, 3, 2, 9, tzinfo=UTC)
    period = Period(earlier, datetime.now(UTC) + timedelta(days=1), "sales", earlier + timedelta(hours=1), UTC, 1)
    assert period.seen_until == earlier + timedelta(hours=1)
    renewed = period.renewed()
    assert renewed.seen_until > datetime.now(UTC) - timedelta(minutes=5)
    assert (renewed.since, renewed.until, renewed.queue) == (period.since, period.until, "sales")
