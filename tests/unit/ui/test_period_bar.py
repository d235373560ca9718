"""The bar's period: what of it has happened by now."""

from datetime import UTC, datetime, timedelta

from pbx.ui.period_bar import Period


def test_a_redrawn_period_ends_now() -> None:
    then = datetime(2026, 3, 2, 9, tzinfo=UTC)
    period = Period(then, datetime.now(UTC) + timedelta(days=1), "sales", then + timedelta(hours=1), UTC, 1)
    assert period.seen_until == then + timedelta(hours=1)
    renewed = period.renewed()
    assert renewed.seen_until > datetime.now(UTC) - timedelta(minutes=5)
    assert (renewed.since, renewed.until, renewed.queue) == (period.since, period.until, "sales")
