"""Erlang B, compared with published tables."""

import pytest

from pbx.analytics.formulas.erlang import blocking, lines_needed


@pytest.mark.parametrize(
    ("traffic", "lines", "probability"),
    [
        (8.108, 15, 0.0100),  # Erlang's table: 15 lines carry 8.11 E at 1% blocking
        (1.0, 1, 0.5),  # A / (1 + A)
        (2.0, 2, 0.4),  # (A²/2) / (1 + A + A²/2) = 2 / 5
        (0.0, 3, 0.0),
        (0.0, 0, 1.0),
        (5.0, 0, 1.0),
    ],
)
def test_blocking_equals_the_published_values(traffic: float, lines: int, probability: float) -> None:
    assert blocking(traffic, lines) == pytest.approx(probability, abs=2e-5)


@pytest.mark.parametrize(
    ("traffic", "blocked", "lines"),
    [(33.333, 0.01, 45), (158.333, 0.03, 168), (8.1, 0.01, 15), (0.0, 0.01, 0), (0.01, 0.01, 1), (0.0102, 0.01, 2)],
)
def test_lines_needed_equals_the_published_values(traffic: float, blocked: float, lines: int) -> None:
    assert lines_needed(traffic, blocked) == lines


def test_large_traffic_neither_overflows_nor_vanishes() -> None:
    # Formulas with powers and factorials overflow a float at 1000 E.
    lines = lines_needed(10_000, 0.01)
    assert 9_900 < lines < 10_100
    assert blocking(10_000, lines) <= 0.01 < blocking(10_000, lines - 1)


@pytest.mark.parametrize(("traffic", "blocked"), [(-1, 0.01), (1, 0), (1, 1.5)])
def test_impossible_values_are_refused(traffic: float, blocked: float) -> None:
    with pytest.raises(ValueError, match=r"negative|between"):
        lines_needed(traffic, blocked)
