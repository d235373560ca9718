"""Numbers of calls, by interval and by name."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.analytics.calls import CallCount, CallQuestion, call_counts, call_heat_map, call_totals
from pbx.store.engine import reading
from pbx.store.models import PbxConnection
from tests.unit.analytics.monday import BERLIN, MONDAY, at
from tests.unit.store.history_rows import call, read_both_ways, store


def day(**values: Any) -> CallQuestion:
    return CallQuestion(1, MONDAY, MONDAY + timedelta(days=1), **values)


@pytest.fixture(autouse=True)
def calls(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"))
    store(
        engine,
        call(1, at(9), from_number="+49301111111", did="100", queue="sales", talk_s=60.0, wait_s=10.0),
        call(2, at(9.5), from_number="0301111111", did="100", disposition="NO ANSWER", wait_s=30.0),
        call(3, at(10), "outbound", from_number="1001", to_number="00301111111", talk_s=30.0),
        call(4, at(10), "outbound", from_number="1001", to_number="+4940222222", disposition="BUSY"),
        call(5, at(11), "internal", from_number="1001", to_number="1002", talk_s=9.0),
        call(6, at(23.9), "unknown", from_number="", disposition=""),  # known only from a recording
        call(7, at(24)),
        call(8, None),
    )


def test_call_totals_equal_those_calculated_by_hand(engine: Engine) -> None:
    found = read_both_ways(engine, lambda session: call_totals(session, day()))
    by_direction = {"inbound": 2, "outbound": 2, "internal": 1, "unknown": 1}
    assert found == CallCount("", None, 6, 5, 3, by_direction, talk_s=99, talks=3, wait_s=40, waits=2)
    assert found.answer_rate.parts_text() == "3 of 5"  # the sixth call's disposition is unknown
    assert found.acd.value == 33


def test_calls_are_counted_by_hour_and_day(engine: Engine) -> None:
    hours = read_both_ways(engine, lambda session: call_counts(session, day(), BERLIN, "hour"))
    assert len(hours) == 24
    assert {i: hour.calls for i, hour in enumerate(hours) if hour.calls} == {9: 2, 10: 2, 11: 1, 23: 1}
    assert hours[9].start_at == at(9)
    assert hours[9].by_direction == {"inbound": 2}
    with reading(engine) as session:
        (one,) = call_counts(session, day(), BERLIN, "day")
        cells = call_heat_map(session, day(), BERLIN)
        with_gaps = call_heat_map(session, day(), BERLIN, [(at(7), at(9)), (at(10.5), at(13))])
    assert (one.start_at, one.calls) == (MONDAY, 6)
    assert (cells[0][9], cells[0][10], cells[0][8], sum(filter(None, cells[0]))) == (2, 2, 0, 6)
    assert cells[1:] == [[None] * 24] * 6  # the period doesn't contain these weekdays
    # Hours without data are unknown, except those with calls.
    assert [with_gaps[0][hour] for hour in (6, 7, 8, 9, 10, 11, 12, 13)] == [0, None, None, 2, 2, 1, None, 0]


def test_names_are_sorted_by_their_number_of_calls(engine: Engine) -> None:
    def counts(found: list[CallCount]) -> list[tuple[str, int]]:
        return [(item.label, item.calls) for item in found]

    with reading(engine) as session:
        assert counts(call_counts(session, day(), BERLIN, "did")) == [("", 4), ("100", 2)]
        assert counts(call_counts(session, day(), BERLIN, "did", limit=1)) == [("", 4)]
        assert counts(call_counts(session, day(direction="outbound"), BERLIN, "direction")) == [("outbound", 2)]
        assert counts(call_counts(session, day(queue="sales"), BERLIN, "queue")) == [("sales", 1)]


def test_calls_are_counted_by_the_other_partys_number_in_any_notation(engine: Engine) -> None:
    found = read_both_ways(engine, lambda session: call_counts(session, day(), BERLIN, "number"))
    assert [(item.label, item.calls, item.answered) for item in found] == [
        ("+49301111111", 3, 2),
        ("+4940222222", 1, 0),
    ]
    assert found[0].by_direction == {"inbound": 2, "outbound": 1}


def test_a_period_without_calls_is_not_applicable(engine: Engine) -> None:
    with reading(engine) as session:
        empty_period = CallQuestion(1, at(100), at(124))
        assert call_totals(session, empty_period) == CallCount("", None, 0, 0, 0)
        assert call_totals(session, empty_period).answer_rate.percent_text() == "n/a"
        assert call_counts(session, empty_period, BERLIN, "number") == []
        assert call_counts(session, empty_period, BERLIN, "did") == []
        assert len(call_counts(session, empty_period, BERLIN, "hour")) == 24
        assert call_heat_map(session, CallQuestion(1, at(2), at(1)), BERLIN) == [[None] * 24] * 7
