"""Queue formulas, compared with values calculated by hand."""

from typing import get_args

import numpy as np
import pytest

from pbx.analytics.formulas.queues import OUTCOMES, QueueFigures, Targets, VisitColumns, WaitBucket, tally, wait_buckets
from pbx.model.history import VisitOutcome

# Queue, outcome, wait and talk time; None: unknown.
# T is 20 s (the default) for sales and 30 s for help. Short abandons are those before 5 s.
DAY = [
    ("sales", "answered", 5.0, 100.0),  # within T
    ("sales", "answered", 20.0, 200.0),  # exactly T: within
    ("sales", "transferred", 21.0, 60.0),  # answered, beyond T
    ("sales", "abandoned", 4.0, None),  # short, within T
    ("sales", "abandoned", 40.0, None),  # beyond T
    ("sales", "timeout", 60.0, None),
    ("help", "answered", 25.0, None),  # within T of help; still talking
    ("help", "exit_key", 2.0, None),
    ("help", "abandoned", 5.0, None),  # exactly 5 s is not short
    ("help", "in_progress", None, None),  # still waiting
]
TARGETS = Targets(answer_s=20, short_s=5, by_queue={"help": 30})


def columns(visits: list[tuple[str, str, float | None, float | None]]) -> VisitColumns:
    queues = tuple(dict.fromkeys(visit[0] for visit in visits))
    outcomes = [visit[1] for visit in visits]
    zeros = np.zeros(len(visits), np.int64)
    return VisitColumns(
        row_id=np.arange(len(visits)),
        joined_s=zeros,
        queue=np.array([queues.index(visit[0]) for visit in visits], np.int64),
        agent=zeros,
        did=zeros,
        outcome=np.array([OUTCOMES.index(outcome) for outcome in outcomes], np.int64),
        answered=np.array([outcome in ("answered", "transferred") for outcome in outcomes], np.bool_),
        wait_s=np.array([visit[2] for visit in visits], np.float64),
        talk_s=np.array([visit[3] for visit in visits], np.float64),
        caller=zeros,
        target=zeros,
        queues=queues,
    )


def totals_of(visits: list[tuple[str, str, float | None, float | None]], targets: Targets = TARGETS) -> QueueFigures:
    found = columns(visits)
    return tally(found, np.zeros(len(found), np.int64), 1, targets)[0]


def test_outcomes_are_those_of_a_visit() -> None:
    assert get_args(VisitOutcome) == OUTCOMES


def test_each_queues_figures_equal_those_calculated_by_hand() -> None:
    visits = columns(DAY)
    sales, help_, none = tally(visits, visits.queue, 3, TARGETS)
    assert (sales.offered, sales.answered, sales.abandoned, sales.other) == (6, 3, 2, 1)
    assert sales.outcomes == {"answered": 2, "abandoned": 2, "timeout": 1, "transferred": 1}
    assert sales.sl_answered.value == pytest.approx(2 / 3)  # 2 of 3 answered
    assert sales.sl_inclusive.value == pytest.approx(3 / 5)  # (2 + 1) of (3 + 2)
    assert sales.sl_offered.value == pytest.approx(2 / 5)  # 2 of (6 - 1 short)
    assert sales.asa.value == pytest.approx(46 / 3)  # (5 + 20 + 21) / 3
    assert sales.att.value == pytest.approx(120)  # (100 + 200 + 60) / 3
    assert sales.abandon_rate.value == pytest.approx(2 / 6)
    assert sales.abandon_rate_net.value == pytest.approx(1 / 5)  # (2 - 1) of (6 - 1)
    assert sales.answer_rate.value == pytest.approx(1 / 2)
    assert sales.max_wait_s == 60
    assert (help_.answered_within_t, help_.abandoned_within_t, help_.short_abandons) == (1, 1, 0)
    assert help_.att.percent_text() == "n/a"  # no conversation has ended
    assert help_.other == 2  # the exit and the one still waiting
    assert none == QueueFigures()


def test_the_groups_add_up_to_the_total() -> None:
    total, visits = totals_of(DAY), columns(DAY)
    parts = tally(visits, visits.queue, 2, TARGETS)
    for name in ("offered", "answered", "abandoned", "answered_within_t", "talk_s", "talks", "answer_wait_s"):
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)


@pytest.mark.parametrize(
    ("visits", "figure", "text"),
    [
        ([], "sl_answered", "n/a"),
        ([], "abandon_rate", "n/a"),
        ([("a", "timeout", 60.0, None)], "sl_answered", "n/a"),
        ([("a", "timeout", 60.0, None)], "sl_inclusive", "n/a"),
        ([("a", "timeout", 60.0, None)], "sl_offered", "0.0%"),
        ([("a", "abandoned", 1.0, None)], "sl_offered", "n/a"),  # only a short abandon
        ([("a", "abandoned", 1.0, None)], "abandon_rate_net", "n/a"),
        ([("a", "abandoned", 1.0, None)], "abandon_rate", "100.0%"),
    ],
)
def test_a_figure_without_a_denominator_is_not_applicable(
    visits: list[tuple[str, str, float | None, float | None]], figure: str, text: str
) -> None:
    assert getattr(totals_of(visits), figure).percent_text() == text


def test_an_unknown_wait_is_never_within_the_target() -> None:
    found = totals_of([("a", "answered", None, 60.0), ("a", "answered", 10.0, 60.0)])
    assert (found.answered, found.answered_within_t) == (2, 1)
    assert found.asa.value == 10  # only one wait is known
    assert found.max_wait_s == 10


def test_each_wait_is_counted_in_its_bucket() -> None:
    buckets = {bucket.up_to_s: bucket for bucket in wait_buckets(columns(DAY))}
    assert buckets[5] == WaitBucket(0, 5, answered=1, abandoned=2, other=1)  # 5; 4 and 5; 2
    assert buckets[20] == WaitBucket(15, 20, answered=1, abandoned=0, other=0)  # exactly 20 is up to 20
    assert buckets[30] == WaitBucket(20, 30, answered=2, abandoned=0, other=0)  # 21 and 25
    assert buckets[60] == WaitBucket(45, 60, answered=0, abandoned=0, other=1)
    assert buckets[None] == WaitBucket(600, None, 0, 0, 0)
    assert sum(b.answered + b.abandoned + b.other for b in buckets.values()) == len(DAY) - 1  # one wait is unknown
