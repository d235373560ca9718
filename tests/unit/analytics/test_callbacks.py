"""Callbacks owed, worked by hand."""

import numpy as np
import pytest

from pbx.analytics.formulas.callbacks import CallbackFigures, callback_figures, next_answer

ANNA, BOB, CARLA, NOBODY = 1301, 1302, 1303, 0


def ints(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.array(values, np.int64)


def test_the_next_call_after_giving_up_counts_and_none_before() -> None:
    gave_up = ints(ANNA, ANNA, BOB, CARLA, NOBODY), ints(100, 200, 100, 100, 100)
    answered = ints(ANNA, BOB, BOB, NOBODY), ints(150, 90, 100, 120)
    found = next_answer(*gave_up, *answered)
    # Anna's first was answered at 150, her second never; Bob's answers were before and in the very second.
    np.testing.assert_array_equal(found, [150, np.nan, np.nan, np.nan, np.nan])


def test_the_earliest_of_several_answers_counts() -> None:
    found = next_answer(ints(ANNA), ints(100), ints(ANNA, ANNA, ANNA), ints(300, 110, 200))
    assert found.tolist() == [110]


def test_a_caller_owes_one_callback_however_often_he_tried() -> None:
    # Anna tried at 100 and 200 and was called at 260; Bob at 100 (called at 130) and 300, not since; one has no number.
    who, ended = ints(ANNA, BOB, ANNA, BOB, NOBODY), ints(100, 100, 200, 300, 100)
    spoken = next_answer(who, ended, ints(ANNA, BOB), ints(260, 130))
    found = callback_figures(who, ended, spoken)
    assert found == CallbackFigures(abandoned=5, without_number=1, callers=2, owed=1, called_back=1, call_back_s=60.0)
    assert found.time_to_call_back.value == pytest.approx(60)
    assert found.owed_share.parts_text() == "1 of 2"


def test_nobody_gave_up() -> None:
    nobody = ints()
    found = callback_figures(nobody, nobody, next_answer(nobody, nobody, nobody, nobody))
    assert found == CallbackFigures(0, 0, 0, 0, 0, 0.0)
    assert found.time_to_call_back.duration_text() == "n/a"


def test_ten_thousand_visits_with_the_same_number() -> None:
    who = np.full(10_000, ANNA, np.int64)
    ended = np.arange(10_000) + 1
    found = callback_figures(who, ended, next_answer(who, ended, ints(ANNA), ints(10_001)))
    assert (found.callers, found.called_back, found.call_back_s) == (1, 1, 1.0)
