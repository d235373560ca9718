"""Hours and days in the PBX's time zone, with summer time and half-hour zones, and the previous period."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from pbx.analytics.formulas.intervals import (
    IntervalStep,
    epochs,
    interval_edges,
    interval_of,
    next_edge,
    period_before,
    week_cells,
)

BERLIN = ZoneInfo("Europe/Berlin")


def local(zone: tzinfo, *parts: int) -> datetime:
    return datetime(*parts, tzinfo=zone)  # type: ignore[arg-type, misc]


def names(edges: list[datetime], zone: tzinfo, form: str = "%H:%M%z") -> list[str]:
    return [f"{edge.astimezone(zone):{form}}" for edge in edges]


def test_the_repeated_hour_is_two_intervals() -> None:
    day = interval_edges(local(BERLIN, 2026, 10, 25), local(BERLIN, 2026, 10, 26), BERLIN, "hour")
    assert len(day) - 1 == 25
    assert names(day[1:6], BERLIN) == ["01:00+0200", "02:00+0200", "02:00+0100", "03:00+0100", "04:00+0100"]
    assert {end - start for start, end in pairwise(day)} == {timedelta(hours=1)}


def test_the_skipped_hour_has_no_interval() -> None:
    day = interval_edges(local(BERLIN, 2026, 3, 29), local(BERLIN, 2026, 3, 30), BERLIN, "hour")
    assert len(day) - 1 == 23
    assert names(day[:4], BERLIN) == ["00:00+0100", "01:00+0100", "03:00+0200", "04:00+0200"]


@pytest.mark.parametrize(
    "name",
    [
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/St_Johns",
        "America/Havana",
        "Africa/Casablanca",
    ],
)
def test_the_hours_of_a_year_follow_one_another(name: str) -> None:
    zone, since, until = ZoneInfo(name), datetime(2026, 1, 1, 0, 20, 7, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    edges = interval_edges(since, until, zone, "hour")
    assert edges[1:-1] == [next_edge(edge, zone, "hour") for edge in edges[:-2]]
    assert next_edge(edges[-2], zone, "hour") >= edges[-1] == until


def test_days_are_23_24_or_25_hours_long() -> None:
    days = interval_edges(local(BERLIN, 2026, 3, 28), local(BERLIN, 2026, 3, 31), BERLIN, "day")
    assert [(end - start).total_seconds() / 3600 for start, end in pairwise(days)] == [24, 23, 24]
    days = interval_edges(local(BERLIN, 2026, 10, 24), local(BERLIN, 2026, 10, 27), BERLIN, "day")
    assert [(end - start).total_seconds() / 3600 for start, end in pairwise(days)] == [24, 25, 24]


@pytest.mark.parametrize(
    ("zone", "first"),
    [
        (ZoneInfo("Asia/Kolkata"), "18:30"),  # +05:30
        (ZoneInfo("Asia/Kathmandu"), "18:15"),  # +05:45
        (timezone(timedelta(hours=-3, minutes=-30)), "03:30"),
    ],
)
def test_hours_start_at_full_hours_of_half_and_quarter_hour_time_zones(zone: tzinfo, first: str) -> None:
    edges = interval_edges(local(zone, 2026, 5, 1), local(zone, 2026, 5, 2), zone, "hour")
    assert len(edges) - 1 == 24
    assert names(edges[:1], UTC, "%H:%M") == [first]
    assert {edge.astimezone(zone).minute for edge in edges} == {0}


def test_a_summer_time_shift_of_half_an_hour_is_supported() -> None:
    howe = ZoneInfo("Australia/Lord_Howe")  # 02:00 becomes 02:30 in October, 01:30 in April
    edges = interval_edges(local(howe, 2026, 10, 4), local(howe, 2026, 10, 4, 5), howe, "hour")
    assert names(edges, howe, "%H:%M") == ["00:00", "01:00", "02:30", "03:00", "04:00", "05:00"]
    edges = interval_edges(local(howe, 2026, 4, 5), local(howe, 2026, 4, 5, 4), howe, "hour")
    assert names(edges, howe, "%H:%M") == ["00:00", "01:00", "01:30", "02:00", "03:00", "04:00"]


def test_a_day_without_midnight_starts_at_its_first_hour() -> None:
    santiago = ZoneInfo("America/Santiago")  # 6 September 2026 starts at 01:00
    edges = interval_edges(local(santiago, 2026, 9, 5), local(santiago, 2026, 9, 7), santiago, "day")
    assert names(edges, santiago, "%d %H:%M") == ["05 00:00", "06 01:00", "07 00:00"]


@pytest.mark.parametrize(("step", "inner"), [("hour", ["11:00", "12:00"]), ("day", [])])
def test_the_first_and_last_intervals_are_cut_to_the_period(step: IntervalStep, inner: list[str]) -> None:
    edges = interval_edges(local(UTC, 2026, 5, 1, 10, 20), local(UTC, 2026, 5, 1, 12, 5), UTC, step)
    assert names(edges, UTC, "%H:%M") == ["10:20", *inner, "12:05"]


def test_a_negative_period_has_no_interval() -> None:
    assert interval_edges(local(UTC, 2026, 5, 2), local(UTC, 2026, 5, 1), UTC, "day") == []


def test_a_moment_belongs_to_the_interval_that_starts_with_it() -> None:
    edges = interval_edges(local(UTC, 2026, 5, 1), local(UTC, 2026, 5, 1, 2), UTC, "hour")
    start = int(edges[0].timestamp())
    moments = np.array([start - 1, start, start + 3599, start + 3600, start + 7199, start + 7200])
    assert interval_of(moments, edges).tolist() == [-1, 0, 0, 1, 1, 2]
    assert epochs(edges).tolist() == [start, start + 3600, start + 7200]


def test_both_repeated_hours_are_one_cell_of_the_week() -> None:
    sunday = interval_edges(local(BERLIN, 2026, 10, 25), local(BERLIN, 2026, 10, 26), BERLIN, "hour")
    cells = week_cells(sunday, BERLIN)
    assert cells[:5].tolist() == [6 * 24, 6 * 24 + 1, 6 * 24 + 2, 6 * 24 + 2, 6 * 24 + 3]


@pytest.mark.parametrize(
    ("since", "until", "now", "before"),
    [
        # a complete day in the past
        ((2026, 5, 2), (2026, 5, 3), (2026, 6, 1), ((2026, 5, 1), (2026, 5, 2))),
        # today until 10:00 is compared with yesterday until 10:00
        ((2026, 5, 2), (2026, 5, 3), (2026, 5, 2, 10), ((2026, 5, 1), (2026, 5, 1, 10))),
        # seven local days, one of which has 23 hours, are compared with the previous seven days
        ((2026, 3, 26), (2026, 4, 2), (2026, 6, 1), ((2026, 3, 19), (2026, 3, 26))),
        # not complete days: the same number of seconds
        ((2026, 5, 2, 8), (2026, 5, 2, 14), (2026, 6, 1), ((2026, 5, 2, 2), (2026, 5, 2, 8))),
    ],
)
def test_the_previous_period_has_the_same_local_length(
    since: tuple[int, ...],
    until: tuple[int, ...],
    now: tuple[int, ...],
    before: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    found = period_before(local(BERLIN, *since), local(BERLIN, *until), BERLIN, local(BERLIN, *now))
    assert found == (local(BERLIN, *before[0]), local(BERLIN, *before[1]))
