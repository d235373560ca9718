"""Callbacks owed and made, compared with values calculated by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.callbacks import CallbackFigures, callback_figures, next_answer

ANNA, BOB, CARLA, NOBODY = 1301, 1302, 1303, 0


def ints(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(values, np.int64)


def test_only_the_next_answered_call_after_an_abandoned_one_counts() -> None:
    abandoned = ints(ANNA, ANNA, BOB, CARLA, NOBODY), ints(100, 200, 100, 100, 100)
    answered = ints(ANNA, BOB, BOB, NOBODY), ints(150, 90, 100, 120)
    found = next_answer(*abandoned, *answered)
    # Anna's first call was answered at 150, her second never. Bob was answered before and in the same second.
    np.testing.assert_array_equal(found, [150, np.nan, np.nan, np.nan, np.nan])


def test_the_earliest_of_several_answers_counts() -> None:
    found = next_answer(ints(ANNA), ints(100), ints(ANNA, ANNA, ANNA), ints(300, 110, 200))
    assert found.tolist() == [110]


def test_a_caller_is_owed_one_callback_for_any_number_of_calls() -> None:
    # Anna called at 100 and 200 and was called back at 260. Bob called at 100 (called back at 130) and at 300
    # (not called back since). One caller has no number.
    callers, ended = ints(ANNA, BOB, ANNA, BOB, NOBODY), ints(100, 100, 200, 300, 100)
    answers = next_answer(callers, ended, ints(ANNA, BOB), ints(260, 130))
    found = callback_figures(callers, ended, answers)
    assert found == CallbackFigures(abandoned=5, without_number=1, callers=2, owed=1, called_back=1, call_back_s=60.0)
    assert found.time_to_call_back.value == pytest.approx(60)
    assert found.owed_share.parts_text() == "1 of 2"


def test_without_abandoned_calls_no_callback_is_owed() -> None:
    empty = ints()
    found = callback_figures(empty, empty, next_answer(empty, empty, empty, empty))
    assert found == CallbackFigures(0, 0, 0, 0, 0, 0.0)
    assert found.time_to_call_back.duration_text() == "n/a"


def test_10_000_visits_from_one_number_are_one_caller() -> None:
    callers = np.full(10_000, ANNA, np.int64)
    ended = np.arange(10_000) + 1
    found = callback_figures(callers, ended, next_answer(callers, ended, ints(ANNA), ints(10_001)))
    assert (found.callers, found.called_back, found.call_back_s) == (1, 1, 1.0)
