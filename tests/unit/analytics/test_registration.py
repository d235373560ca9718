"""The registered time of a trunk, as a share of the observed time."""

from datetime import UTC, datetime, timedelta

import pytest

from pbx.analytics.formulas.registration import Registration, registration

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def snapshots(*found: tuple[int, str]) -> list[tuple[datetime, str]]:
    return [(at(seconds), state) for seconds, state in found]


def test_registration_equals_that_calculated_by_hand() -> None:
    # A snapshot every minute: up 0–120, down 120–180, up 180–240; a gap 240–600; down 600–660.
    states = snapshots(
        (0, "registered"),
        (60, "registered"),
        (120, "rejected"),
        (180, "registered"),
        (240, "registered"),
        (600, "rejected"),
        (660, "registered"),
    )
    found = registration(states, at(0), at(660), tolerance_s=150)
    assert found == Registration(registered_s=180, observed_s=300, flaps=2, period_s=660)
    assert found.uptime.value == pytest.approx(0.6)
    assert found.coverage.value == pytest.approx(300 / 660)


def test_only_time_within_the_period_counts() -> None:
    found = registration(
        snapshots((-30, "registered"), (30, "rejected"), (90, "rejected")), at(0), at(60), tolerance_s=150
    )
    assert found == Registration(registered_s=30, observed_s=60, flaps=1, period_s=60)


def test_without_snapshots_uptime_is_not_applicable() -> None:
    found = registration([], at(0), at(60), tolerance_s=150)
    assert found.uptime.percent_text() == "n/a"
    assert found.coverage.value == 0
