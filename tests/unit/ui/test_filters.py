"""Days as an address or a click gives them."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pbx.ui.filters import day_range

TODAY = date(2026, 11, 30)


@given(st.lists(st.dates(), max_size=4))
def test_days_are_sorted_and_not_in_the_future(days: list[date]) -> None:
    first, last = day_range(days, TODAY)
    assert first <= last <= TODAY
    assert day_range((first, last), TODAY) == (first, last)  # what is shown is understood as itself


def test_one_day_or_none() -> None:
    assert day_range([date(2026, 11, 24)], TODAY) == (date(2026, 11, 24),) * 2
    assert day_range([], TODAY) == (TODAY - timedelta(days=6), TODAY)
