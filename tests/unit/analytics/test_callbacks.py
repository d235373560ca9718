"""Callbacks owed and made, compared with values calculated by hand."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.analytics.formulas.callbacks import CallbackFigures
from pbx.analytics.queues import FigureFilter
from pbx.analytics.visit_lists import abandoned_calls, callbacks
from pbx.store.models import PbxConnection
from tests.unit.analytics.monday import MONDAY, at
from tests.unit.store.history_rows import call, read_both_ways, store, visit

ANNA, BOB, CARLA, NOBODY = "+49301111111", "+49302222222", "+49303333333", ""
DAY = FigureFilter(1, MONDAY, MONDAY + timedelta(days=1))
Moment = tuple[str, int]  # a caller, and seconds after nine


def stored(engine: Engine, abandoned: Sequence[Moment], answered: Sequence[Moment]) -> None:
    """Store visits that were abandoned at once, and answered calls: alternately visits, calls in and calls out."""
    store(engine, PbxConnection(id=1, host="pbx"))
    for i, (caller, at_s) in enumerate(abandoned):
        store(engine, visit(moment(at_s), "abandoned", 0.0, caller=caller, uniqueid=f"{i}.1"))
    for i, (number, at_s) in enumerate(answered, 1):
        row = (
            visit(moment(at_s), caller=number, uniqueid=f"9{i}.1"),
            call(i, moment(at_s), from_number=number, agent="PJSIP/1001"),
            call(i, moment(at_s), "outbound", from_number="1001", to_number=number),
        )[i % 3]
        store(engine, row)


def moment(at_s: float) -> datetime:
    return at(9) + timedelta(seconds=at_s)


def reached_s(session: Session) -> list[tuple[str, float, float | None]]:
    """Each abandoned visit: its caller, when it joined, and when the caller was reached, in seconds after nine."""
    found = abandoned_calls(session, DAY, offset=0, limit=99)
    return sorted(
        (
            one.visit.caller,
            (one.visit.joined_at - at(9)).total_seconds(),
            (one.reached_at - at(9)).total_seconds() if one.reached_at else None,
        )
        for one in found
    )


def test_only_the_next_answered_call_after_an_abandoned_one_counts(engine: Engine) -> None:
    abandoned = [(ANNA, 100), (ANNA, 200), (BOB, 100), (CARLA, 100), (NOBODY, 100)]
    stored(engine, abandoned, [(ANNA, 150), (BOB, 90), (BOB, 100), (NOBODY, 120)])
    # Anna's first call was answered at 150, her second never. Bob was answered before and in the same second.
    assert read_both_ways(engine, reached_s) == [
        (NOBODY, 100, None),
        (ANNA, 100, 150),
        (ANNA, 200, None),
        (BOB, 100, None),
        (CARLA, 100, None),
    ]


def test_the_earliest_of_several_answers_counts(engine: Engine) -> None:
    stored(engine, [(ANNA, 100)], [(ANNA, 300), (ANNA, 110), (ANNA, 200)])
    assert read_both_ways(engine, reached_s) == [(ANNA, 100, 110)]


def test_a_caller_is_owed_one_callback_for_any_number_of_calls(engine: Engine) -> None:
    # Anna called at 100 and 200 and was called back at 260. Bob called at 100 (called back at 130) and at 300
    # (not called back since). One caller has no number.
    abandoned = [(ANNA, 100), (BOB, 100), (ANNA, 200), (BOB, 300), (NOBODY, 100)]
    stored(engine, abandoned, [(ANNA, 260), (BOB, 130)])
    found = read_both_ways(engine, lambda session: callbacks(session, DAY))
    assert found == CallbackFigures(abandoned=5, without_number=1, callers=2, owed=1, called_back=1, call_back_s=60.0)
    assert found.time_to_call_back.value == pytest.approx(60)
    assert found.owed_share.parts_text() == "1 of 2"


def test_without_abandoned_calls_no_callback_is_owed(engine: Engine) -> None:
    stored(engine, [], [(ANNA, 10)])
    found = read_both_ways(engine, lambda session: callbacks(session, DAY))
    assert found == CallbackFigures(0, 0, 0, 0, 0, 0.0)
    assert found.time_to_call_back.duration_text() == "n/a"


def test_an_unknown_wait_ends_when_it_began(engine: Engine) -> None:
    stored(engine, [], [(ANNA, 101), (BOB, 130)])
    store(engine, visit(moment(100), "abandoned", None, caller=ANNA), visit(moment(101), "abandoned", 29.9, caller=BOB))
    assert read_both_ways(engine, lambda session: callbacks(session, DAY)).call_back_s == 1  # Bob's ended in second 130
