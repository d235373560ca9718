"""A ratio shows its value and its parts, and "n/a" if its denominator is 0."""

import pytest

from pbx.analytics.formulas.ratio import Ratio


def test_a_share_shows_its_value_and_its_parts() -> None:
    share = Ratio(5, 6)
    assert share.value == pytest.approx(0.8333, abs=1e-4)
    assert share.percent_text() == "83.3%"
    assert share.percent_text(0) == "83%"
    assert share.parts_text() == "5 of 6"


def test_a_mean_is_shown_as_a_duration() -> None:
    assert Ratio(1234.5, 15).duration_text() == "1 min 22 s"
    assert Ratio(1234.5, 15).parts_text() == "1,234.5 of 15"


@pytest.mark.parametrize("numerator", [0, 3])
def test_a_ratio_with_the_denominator_0_is_not_applicable(numerator: int) -> None:
    ratio = Ratio(numerator, 0)
    assert ratio.value is None
    assert ratio.percent is None
    assert ratio.percent_text() == ratio.duration_text() == "n/a"


def test_a_ratio_with_the_numerator_0_is_0_percent() -> None:
    assert Ratio(0, 4).percent_text() == "0.0%"
