"""Login and pause times of agents, compared with values calculated by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, overlap_s, spans_of

ANNA, BOB = 0, 1


def spans_from(*found: tuple[int, float, float]) -> AgentSpans:
    agent_index, start, end = zip(*found, strict=True) if found else ((), (), ())
    return AgentSpans(np.array(agent_index, np.int64), np.array(start, np.float64), np.array(end, np.float64))


def as_list(found: AgentSpans) -> list[tuple[int, float, float]]:
    return list(zip(found.whose.tolist(), found.start_s.tolist(), found.end_s.tolist(), strict=True))


def test_a_state_lasts_until_the_agents_next_change() -> None:
    # Anna logs in at 10, out at 50, and in at 80 until now. Bob logs out at 5 (ends nothing), in at 20 and out at 30.
    changes = [
        (ANNA, 80, True),
        (BOB, 20, True),
        (ANNA, 50, False),
        (BOB, 5, False),
        (ANNA, 10, True),
        (BOB, 30, False),
    ]
    agent_index, at, begins = (np.array(column) for column in zip(*changes, strict=True))
    found, begin_rows = spans_of(agent_index.astype(np.int64), at.astype(np.int64), begins, ends_s=100)
    assert as_list(found) == [(ANNA, 10, 50), (ANNA, 80, 100), (BOB, 20, 30)]
    assert begin_rows.tolist() == [4, 0, 1]


def test_an_end_precedes_a_start_in_the_same_second() -> None:
    # Lunch ends and training starts in the same second, recorded in either order.
    for flags in ([True, False, True], [True, True, False]):
        found, _ = spans_of(np.zeros(3, np.int64), np.array([10, 40, 40]), np.array(flags), ends_s=60)
        assert as_list(found) == [(ANNA, 10, 40), (ANNA, 40, 60)]


def test_without_changes_there_are_no_spans() -> None:
    empty = np.zeros(0, np.int64)
    found, _ = spans_of(empty, empty, empty.astype(np.bool_), ends_s=60)
    assert as_list(found) == as_list(found.merged()) == []
    assert found.total_s(2).tolist() == [0, 0]


def test_only_overlapping_spans_of_one_agent_are_merged() -> None:
    # Anna is in two queues: 0–30 and 20–50, then 50–60 (adjacent) and 70–80. Bob: 10–90.
    found = spans_from((ANNA, 20, 50), (BOB, 10, 90), (ANNA, 0, 30), (ANNA, 70, 80), (ANNA, 50, 60), (ANNA, 22, 25))
    assert as_list(found.merged()) == [(ANNA, 0, 60), (ANNA, 70, 80), (BOB, 10, 90)]
    assert found.total_s(3).tolist() == [70, 80, 0]


def test_spans_are_cut_to_the_period() -> None:
    found = spans_from((ANNA, 0, 30), (ANNA, 40, 50), (BOB, 90, 200)).cut(10, 100)
    assert as_list(found) == [(ANNA, 10, 30), (ANNA, 40, 50), (BOB, 90, 100)]
    assert as_list(found.cut(50, 90)) == []


def test_pauses_count_only_while_logged_in() -> None:
    logins = spans_from((ANNA, 0, 50), (ANNA, 70, 80), (BOB, 0, 100))
    pauses = spans_from((ANNA, 40, 75), (ANNA, 90, 95), (ANNA, 45, 48))
    assert overlap_s(logins, pauses, 2).tolist() == [15, 0]  # 40–50 and 70–75


@pytest.mark.parametrize(
    ("logged_in_s", "paused_s", "text"),
    [
        (28_800, 3_600, "50.0%"),  # 3.5 h of talk in 8 h minus 1 h
        (3_600, 3_600, "n/a"),  # always paused
        (None, 600, "n/a"),  # no known login
    ],
)
def test_occupancy_is_talk_time_divided_by_available_time(
    logged_in_s: float | None, paused_s: float, text: str
) -> None:
    agent = AgentFigures("Anna", calls=40, talk_s=12_600, logged_in_s=logged_in_s, paused_s=paused_s)
    assert agent.occupancy.percent_text() == text


def test_the_non_response_rate_is_a_share_of_all_rings() -> None:
    assert AgentFigures("Anna", calls=6, non_response=2).non_response_rate.parts_text() == "2 of 8"
    assert AgentFigures("Anna").non_response_rate.percent_text() == "n/a"
