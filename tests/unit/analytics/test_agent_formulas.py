"""Login and pause times of agents, compared with values calculated by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.agents import AgentFigures, AgentSpans, spans_of

ANNA, BOB = 0, 1


def spans_from(*found: tuple[int, float, float]) -> AgentSpans:
    agent_index, start, end = zip(*found, strict=True) if found else ((), (), ())
    return AgentSpans(np.array(agent_index, np.int64), np.array(start, np.float64), np.array(end, np.float64))


def as_list(found: AgentSpans) -> list[tuple[int, float, float]]:
    return list(zip(found.whose.tolist(), found.start_s.tolist(), found.end_s.tolist(), strict=True))


def test_a_state_lasts_until_the_agents_next_change() -> None:
    # Anna logs in at 10, out at 50, and in at 80 until now. Bob logs out at 5 (ends nothing), in at 20 and out at 30.
    changes = [
        (ANNA, 10, True),
        (ANNA, 50, False),
        (ANNA, 80, True),
        (BOB, 5, False),
        (BOB, 20, True),
        (BOB, 30, False),
    ]
    agent_index, at, begins = (np.array(column) for column in zip(*changes, strict=True))
    found, begin_rows = spans_of(agent_index.astype(np.int64), at.astype(np.int64), begins.astype(np.bool_), ends_s=100)
    assert as_list(found) == [(ANNA, 10, 50), (ANNA, 80, 100), (BOB, 20, 30)]
    assert begin_rows.tolist() == [0, 2, 4]


def test_without_changes_there_are_no_spans() -> None:
    empty = np.zeros(0, np.int64)
    found, _ = spans_of(empty, empty, empty.astype(np.bool_), ends_s=60)
    assert as_list(found) == as_list(found.merged()) == []
    assert found.total_s(2).tolist() == [0, 0]


def test_only_overlapping_spans_of_one_agent_are_merged() -> None:
    # Anna is in two queues: 0–30 and 20–50, then 50–60 (adjacent) and 70–80. Bob: 10–90.
    found = spans_from((ANNA, 20, 50), (BOB, 10, 90), (ANNA, 0, 30), (ANNA, 70, 80), (ANNA, 50, 60), (ANNA, 22, 25))
    assert as_list(found.merged()) == [(ANNA, 0, 60), (ANNA, 70, 80), (BOB, 10, 90)]
    assert found.merged().total_s(3).tolist() == [70, 80, 0]


def test_spans_are_cut_to_the_period() -> None:
    found = spans_from((ANNA, 0, 30), (ANNA, 40, 50), (BOB, 90, 200)).cut(10, 100)
    assert as_list(found) == [(ANNA, 10, 30), (ANNA, 40, 50), (BOB, 90, 100)]
    assert as_list(found.cut(50, 90)) == []


def test_pauses_count_only_while_logged_in() -> None:
    logins = spans_from((ANNA, 10, 50), (ANNA, 70, 80), (BOB, 0, 100))
    pauses = spans_from((ANNA, 40, 75), (ANNA, 90, 95), (ANNA, 45, 48), (ANNA, 0, 5), (BOB, 90, 120), (2, 0, 100))
    assert pauses.within_s(logins).tolist() == [15, 0, 3, 0, 10, 0]  # the first: 40–50 and 70–75
    assert logins.where(logins.whose == BOB).within_s(spans_from()).tolist() == [0]
    assert spans_from((ANNA, 0, 100)).within_s(logins.where(logins.whose == BOB)).tolist() == [0]


def test_seconds_within_spans_equal_those_counted_one_by_one() -> None:
    random = np.random.default_rng(5)
    start = random.integers(0, 500, (2, 60)).astype(np.float64)
    owners, lengths = random.integers(0, 4, (2, 60)), random.integers(1, 40, (2, 60))
    logins, pauses = (AgentSpans(owners[i], start[i], start[i] + lengths[i]) for i in (0, 1))
    seconds = {(who, at) for who, begin, end in as_list(logins) for at in range(int(begin), int(end))}
    expected = [sum((who, at) in seconds for at in range(int(begin), int(end))) for who, begin, end in as_list(pauses)]
    assert pauses.within_s(logins.merged()).tolist() == expected


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
