"""Lists of selected visits and callers, and the callbacks owed."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.analytics.agents import agent_figures
from pbx.analytics.formulas.callbacks import CallbackFigures
from pbx.analytics.queues import FigureFilter, Selection, figures_by
from pbx.analytics.sealing import seal_history
from pbx.analytics.visit_lists import (
    abandoned_calls,
    answering_call,
    callbacks,
    count_visits,
    repeated_callers,
    transfer_targets,
    visits_page,
)
from pbx.store.engine import reading
from pbx.store.models import PbxConnection
from tests.unit.analytics.monday import BERLIN, MONDAY, at
from tests.unit.store.history_rows import call, leg, read_both_ways, store, visit

ANNA, BOB, CARLA = "+49301111111", "+49302222222", "+49303333333"


def day(**values: Any) -> FigureFilter:
    return FigureFilter(1, MONDAY, MONDAY + timedelta(days=1), **values)


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"))


def hours_of(engine: Engine, selection: Selection, filters: FigureFilter | None = None, **page: int) -> list[float]:
    """The times at which the visits of a page joined, in hours after midnight."""
    filters = filters or day()
    with reading(engine) as session:
        found = visits_page(session, filters, selection, BERLIN, **{"offset": 0, "limit": 50} | page)
        if not page:
            assert count_visits(session, filters, selection, BERLIN) == len(found)
    return [(row.joined_at - at(0)).total_seconds() / 3600 for row in found]


def test_a_selection_lists_its_visits_newest_first(engine: Engine) -> None:
    store(
        engine,
        visit(at(9), wait_s=20.0),
        visit(at(9.5), "abandoned", 21.0),
        visit(at(10), "timeout", 60.0, queue="help"),
        visit(at(11), "answered", None),
    )
    assert hours_of(engine, Selection()) == [11, 10, 9.5, 9]
    assert hours_of(engine, Selection(), offset=1, limit=2) == [10, 9.5]
    assert hours_of(engine, Selection(outcomes=["abandoned", "timeout"])) == [10, 9.5]
    assert hours_of(engine, Selection(answered=True)) == [11, 9]
    assert hours_of(engine, Selection(weekday=0, hour=9)) == [9.5, 9]
    assert hours_of(engine, Selection(weekday=1)) == []
    assert hours_of(engine, Selection(wait_over_s=15, wait_up_to_s=20)) == [9]
    assert hours_of(engine, Selection(wait_over_s=20)) == [10, 9.5]
    assert hours_of(engine, Selection(answered=False), day(queue="help")) == [10]


def test_a_time_range_selects_the_visits_in_progress_then(engine: Engine) -> None:
    store(
        engine,
        visit(at(9), wait_s=20.0, talk_s=600.0),
        visit(at(9.1), "abandoned", 60.0),
        visit(at(9.5), "in_progress", None),
        visit(at(9.9), queue="help", wait_s=600.0, talk_s=1.0),
    )

    def present_hours(since: float, until: float) -> list[float]:
        return hours_of(engine, Selection(present=(at(since), at(until))))

    assert present_hours(9.105, 9.106) == [9.1, 9.0]
    assert present_hours(9.11, 9.111) == [9.1, 9.0]
    assert present_hours(9.13, 9.14) == [9.0]
    assert present_hours(9.2, 9.3) == []
    assert present_hours(8, 9) == []
    assert present_hours(20, 21) == [9.5]


def test_a_visit_has_the_id_of_its_call(engine: Engine) -> None:
    store(engine, call(5, at(9), linkedid="100.1"), call(6, at(10), linkedid="200.1"))
    store(engine, leg(6, at(10), "PJSIP/carrier-1", linkedid="200.1", uniqueid="200.7"))
    store(
        engine,
        visit(at(9), uniqueid="100.1"),  # the call's first channel
        visit(at(10), uniqueid="200.7"),  # another channel of the call
        visit(at(11), uniqueid="300.1"),  # without a known call
    )
    with reading(engine) as session:
        found = visits_page(session, day(), Selection(), BERLIN, offset=0, limit=9)
    assert [row.call_id for row in found] == [None, 6, 5]
    assert found[0].queue == "sales"
    assert found[0].joined_at == at(11)


def test_an_abandoned_caller_is_owed_a_callback_until_a_conversation(engine: Engine) -> None:
    store(
        engine,
        visit(at(9), "abandoned", 30.0, caller=ANNA),
        visit(at(9.5), "abandoned", 30.0, caller=BOB),
        visit(at(9.6), "abandoned", 30.0, caller=CARLA),
        visit(at(9.7), "abandoned", 30.0, caller="anonymous"),
        visit(at(10), caller="030 1111111", wait_s=5.0),  # Anna called again, with another notation, and was answered
        # Bob's earlier call, and a call that only a queue answered, are no conversation
        call(1, at(8), "inbound", from_number=BOB, agent="PJSIP/1001"),
        call(2, at(11), "inbound", from_number=BOB, queue="sales", agent=""),
        call(3, at(11.5), "outbound", from_number="1001", to_number=BOB, disposition="NO ANSWER"),
        call(4, at(30), "outbound", from_number="1001", to_number="0" + CARLA.replace("+49", "0")),  # the next day
    )
    found = read_both_ways(engine, lambda session: callbacks(session, day()))
    waited_s = (1 * 3600 - 30) + (20.4 * 3600 - 30)  # 9:00:30 to 10:00; 9:36:30 to 6:00 the next morning
    assert found == CallbackFigures(4, 1, 3, owed=1, called_back=2, call_back_s=pytest.approx(waited_s))
    with reading(engine) as session:
        listed = abandoned_calls(session, day(), offset=0, limit=9)
        owed = abandoned_calls(session, day(), offset=0, limit=9, owed_only=True)
    assert [(row.visit.caller, row.reached_at, row.can_be_called) for row in listed] == [
        ("anonymous", None, False),
        (CARLA, at(30), True),
        (BOB, None, True),
        (ANNA, at(10), True),
    ]
    assert listed[-1].time_to_call_back_s == 3570
    assert [row.visit.caller for row in owed] == [BOB]


def test_an_abandoned_call_has_the_id_of_the_call_that_reached_the_caller(engine: Engine) -> None:
    store(
        engine,
        *(call(n, at(9 + n / 10), from_number=caller, queue="sales") for n, caller in enumerate((ANNA, BOB, CARLA), 1)),
        *(
            visit(at(9 + n / 10), "abandoned", 30.0, caller=caller, uniqueid=f"{n}.0")
            for n, caller in ((1, ANNA), (2, BOB))
        ),
        visit(at(9.3), "abandoned", 30.0, caller=CARLA, uniqueid="3.0"),
        call(4, at(10), from_number="0301111111", queue="sales"),
        visit(at(10), caller="030 1111111", uniqueid="4.0"),  # Anna called again, with another notation
        call(5, at(10), from_number=BOB, queue="sales", disposition="NO ANSWER"),
        call(6, at(11), "outbound", from_number="1001", to_number=BOB),
        visit(at(12), caller=CARLA, uniqueid="99.0"),  # known only from the queue
    )
    with reading(engine) as session:
        found = {row.visit.caller: row for row in abandoned_calls(session, day(), offset=0, limit=9)}
        assert {caller: answering_call(session, 1, row) for caller, row in found.items()} == {
            ANNA: 4,
            BOB: 6,
            CARLA: None,
        }


def test_a_selection_applies_to_every_list(engine: Engine) -> None:
    store(
        engine,
        *(visit(at(hour), "abandoned", 30.0, caller=ANNA) for hour in (9, 9.5, 10)),
        *(visit(at(hour + 0.1), "transferred", target=f"{hour}", queue="help") for hour in (9, 10)),
    )
    nine_oclock = day(chosen=Selection(weekday=0, hour=9), zone=BERLIN)
    with reading(engine) as session:
        assert (
            len(abandoned_calls(session, nine_oclock, offset=0, limit=9))
            == callbacks(session, nine_oclock).abandoned
            == 2
        )
        assert [row.visits for row in repeated_callers(session, nine_oclock)] == [2]
        assert transfer_targets(session, nine_oclock) == [("9", 1)]
        assert {name: of.offered for name, of in figures_by(session, nine_oclock, "queue").items()} == {
            "sales": 2,
            "help": 1,
        }
        assert [agent.calls for agent in agent_figures(session, nine_oclock)] == [1]


def test_a_call_answered_without_a_queue_is_a_conversation(engine: Engine) -> None:
    store(engine, visit(at(9), "abandoned", 30.0, caller=ANNA))
    store(engine, call(1, at(10), "inbound", from_number=ANNA, agent="PJSIP/1001"))
    assert read_both_ways(engine, lambda session: callbacks(session, day())).owed == 0


def test_callers_with_several_visits_are_listed(engine: Engine) -> None:
    store(engine, visit(at(9), "abandoned", 4.0, caller=ANNA), visit(at(10), caller="0301111111"))
    store(engine, visit(at(11), caller=ANNA, caller_name="Anna"), visit(at(12), caller=BOB), visit(at(13), caller=""))
    store(engine, visit(at(14), caller=""))
    (found,) = read_both_ways(engine, lambda session: repeated_callers(session, day()))
    assert (found.caller, found.visits, found.answered, found.abandoned) == (ANNA, 3, 2, 1)
    assert (found.first_at, found.last_at) == (at(9), at(11))
    with reading(engine) as session:
        assert repeated_callers(session, day(queue="nowhere")) == []


def test_10_000_visits_from_one_number_are_one_caller(engine: Engine) -> None:
    store(engine, *(visit(at(i / 500), "abandoned", 4.0, caller=ANNA, uniqueid=f"{i}.1") for i in range(10_000)))
    seal_history(engine, 1)
    with reading(engine) as session:
        (found,) = repeated_callers(session, day())
        assert (found.visits, callbacks(session, day()).owed) == (10_000, 1)
        assert [row.visit.uniqueid for row in abandoned_calls(session, day(), offset=9_999, limit=9)] == ["0.1"]


def test_transfer_targets_are_counted(engine: Engine) -> None:
    transfers = [("700", "sales"), ("700", "sales"), ("200", "help")]
    store(engine, *(visit(at(9 + i), "transferred", target=to, queue=queue) for i, (to, queue) in enumerate(transfers)))
    store(engine, visit(at(15), "exit_key", target="9"))
    with reading(engine) as session:
        assert transfer_targets(session, day()) == [("700", 2), ("200", 1)]
        assert transfer_targets(session, day(queue="help")) == [("200", 1)]
        assert transfer_targets(session, day(), limit=1) == [("700", 2)]


def test_a_period_without_visits_is_empty(engine: Engine) -> None:
    with reading(engine) as session:
        assert callbacks(session, day()) == CallbackFigures(0, 0, 0, 0, 0, 0.0)
        assert abandoned_calls(session, day(), offset=0, limit=9) == []
        assert visits_page(session, day(), Selection(hour=3), BERLIN, offset=0, limit=9) == []
