"""Ranges of days from the URL or a click become valid ranges."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pbx.ui.filters import day_range

TODAY = date(2026, 11, 30)


@given(st.lists(st.dates(), max_size=4))
def test_a_range_of_days_is_sorted_and_not_in_the_future(days: list[date]) -> None:
    first, last = day_range(days, TODAY)
    assert first <= last <= TODAY
    assert day_range((first, last), TODAY) == (first, last)  # a valid range is unchanged


def test_one_day_is_a_range_and_none_means_the_last_seven_days() -> None:
    assert day_range([date(2026, 11, 24)], TODAY) == (date(2026, 11, 24),) * 2
    assert day_range([], TODAY) == (TODAY - timedelta(days=6), TODAY)
