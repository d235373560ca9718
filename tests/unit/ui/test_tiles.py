"""Headline figures and their changes are formatted as texts."""

import pytest

from pbx.analytics.formulas.ratio import Ratio
from pbx.ui.tiles import FigureKind, FigureValue, _change, value_text


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1234, "count", "1,234"),
        (Ratio(5, 6), "percent", "83.3%"),
        (Ratio(0, 6), "percent", "0.0%"),
        (Ratio(5, 0), "percent", "n/a"),
        (Ratio(50, 3), "duration", "17 s"),
        (None, "duration", "n/a"),
        (2.345, "number", "2.3"),
    ],
)
def test_a_value_has_its_unit(value: FigureValue, kind: FigureKind, text: str) -> None:
    assert value_text(value, kind) == text


@pytest.mark.parametrize(
    ("value", "before", "kind", "change"),
    [
        (12, 10, "count", ("+20%", "from 10")),
        (8, 10, "count", ("-20%", "from 10")),
        (10, 10, "count", (None, "unchanged at 10")),
        (3, 0, "count", (None, "from 0")),  # no percentage of zero
        (3, None, "count", (None, "")),
        (Ratio(1, 2), Ratio(3, 4), "percent", ("-25.0 pp", "from 75.0%")),
        (Ratio(1, 2), Ratio(0, 0), "percent", (None, "from n/a")),
        (Ratio(0, 0), Ratio(1, 2), "percent", (None, "from 50.0%")),
        (65.0, 60.0, "duration", ("+5 s", "from 1 min")),
        # A change is computed from the rounded figures that are shown.
        (7.4, 7.6, "duration", ("-1 s", "from 8 s")),
        (13.6, 14.4, "duration", (None, "unchanged at 14 s")),
        (Ratio(8876, 10_000), Ratio(8924, 10_000), "percent", ("-0.4 pp", "from 89.2%")),
        (Ratio(99_951, 100_000), Ratio(99_949, 100_000), "percent", ("+0.1 pp", "from 99.9%")),
        (100_001, 100_000, "count", (None, "from 100,000")),
    ],
)
def test_a_change_has_a_sign_and_the_previous_figure(
    value: FigureValue, before: FigureValue, kind: FigureKind, change: tuple[str | None, str]
) -> None:
    assert _change(value, before, kind, 1) == change
