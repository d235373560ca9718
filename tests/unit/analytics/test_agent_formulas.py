"""Stretches of login and pause, worked by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, overlap_s, spans_of

ANNA, BOB = 0, 1


def spans(*found: tuple[int, float, float]) -> AgentSpans:
    whose, start, end = zip(*found, strict=True) if found else ((), (), ())
    return AgentSpans(np.array(whose, np.int64), np.array(start, np.float64), np.array(end, np.float64))


def listed(found: AgentSpans) -> list[tuple[int, float, float]]:
    return list(zip(found.whose.tolist(), found.start_s.tolist(), found.end_s.tolist(), strict=True))


def test_a_change_lasts_until_its_owners_next() -> None:
    # Anna in at 10, out at 50, in at 80 and still there; Bob's out at 5 ends nothing, in at 20, out at 30.
    changes = [
        (ANNA, 80, True),
        (BOB, 20, True),
        (ANNA, 50, False),
        (BOB, 5, False),
        (ANNA, 10, True),
        (BOB, 30, False),
    ]
    whose, at, begins = (np.array(column) for column in zip(*changes, strict=True))
    found, places = spans_of(whose.astype(np.int64), at.astype(np.int64), begins, ends_s=100)
    assert listed(found) == [(ANNA, 10, 50), (ANNA, 80, 100), (BOB, 20, 30)]
    assert places.tolist() == [4, 0, 1]


def test_of_changes_in_one_second_the_end_comes_first() -> None:
    # Lunch ends and training begins in the same second, told in either order.
    for flags in ([True, False, True], [True, True, False]):
        found, _ = spans_of(np.zeros(3, np.int64), np.array([10, 40, 40]), np.array(flags), ends_s=60)
        assert listed(found) == [(ANNA, 10, 40), (ANNA, 40, 60)]


def test_no_changes_no_stretches() -> None:
    empty = np.zeros(0, np.int64)
    found, _ = spans_of(empty, empty, empty.astype(np.bool_), ends_s=60)
    assert listed(found) == listed(found.merged()) == []
    assert found.total_s(2).tolist() == [0, 0]


def test_what_overlaps_is_one_and_owners_stay_apart() -> None:
    # Anna is in two queues: 0–30 and 20–50, then 50–60 (touching) and 70–80; Bob 10–90.
    found = spans((ANNA, 20, 50), (BOB, 10, 90), (ANNA, 0, 30), (ANNA, 70, 80), (ANNA, 50, 60), (ANNA, 22, 25))
    assert listed(found.merged()) == [(ANNA, 0, 60), (ANNA, 70, 80), (BOB, 10, 90)]
    assert found.total_s(3).tolist() == [70, 80, 0]


def test_only_what_lies_within_is_left() -> None:
    found = spans((ANNA, 0, 30), (ANNA, 40, 50), (BOB, 90, 200)).cut(10, 100)
    assert listed(found) == [(ANNA, 10, 30), (ANNA, 40, 50), (BOB, 90, 100)]
    assert listed(found.cut(50, 90)) == []


def test_pauses_count_while_logged_in() -> None:
    logins = spans((ANNA, 0, 50), (ANNA, 70, 80), (BOB, 0, 100))
    pauses = spans((ANNA, 40, 75), (ANNA, 90, 95), (ANNA, 45, 48))
    assert overlap_s(logins, pauses, 2).tolist() == [15, 0]  # 40–50 and 70–75


@pytest.mark.parametrize(
    ("logged_in_s", "paused_s", "text"),
    [
        (28_800, 3_600, "50.0%"),  # 3.5 h of talk in 8 h less 1 h
        (3_600, 3_600, "n/a"),  # paused all the time
        (None, 600, "n/a"),  # no login is known
    ],
)
def test_occupancy(logged_in_s: float | None, paused_s: float, text: str) -> None:
    agent = AgentFigures("Anna", calls=40, talk_s=12_600, logged_in_s=logged_in_s, paused_s=paused_s)
    assert agent.occupancy.percent_text() == text


def test_non_response_is_of_all_rings() -> None:
    assert AgentFigures("Anna", calls=6, non_response=2).non_response_rate.parts_text() == "2 of 8"
    assert AgentFigures("Anna").non_response_rate.percent_text() == "n/a"
