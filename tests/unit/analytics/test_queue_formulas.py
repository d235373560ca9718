"""Queue formulas, compared with values calculated by hand."""

from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

import pytest
from sqlalchemy import Engine

from pbx.analytics.formulas.queues import OUTCOMES, QueueFigures, Targets, WaitBucket
from pbx.analytics.queues import FigureFilter, by_queue, queue_totals, wait_distribution
from pbx.model.history import VisitOutcome
from pbx.store.engine import reading
from pbx.store.models import PbxConnection
from tests.unit.analytics.monday import MONDAY, at
from tests.unit.store.history_rows import read_both_ways, store, visit

SampleVisit = tuple[str, str, float | None, float | None]
# Queue, outcome, wait and talk time; None: unknown.
# T is 20 s (the default) for sales and 30 s for help. Short abandons are those before 5 s.
DAY: list[SampleVisit] = [
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


def stored(engine: Engine, visits: Sequence[SampleVisit]) -> FigureFilter:
    """Store visits of one day, and return the filter that selects them."""
    store(engine, PbxConnection(id=1, host="pbx"))
    store(
        engine,
        *(
            visit(at(9), outcome, wait_s, queue=queue, talk_s=talk_s, uniqueid=f"{i}.1")
            for i, (queue, outcome, wait_s, talk_s) in enumerate(visits)
        ),
    )
    return FigureFilter(1, MONDAY, MONDAY + timedelta(days=1))


def totals_of(engine: Engine, visits: Sequence[SampleVisit]) -> QueueFigures:
    wanted = stored(engine, visits)
    with reading(engine) as session:
        return queue_totals(session, wanted, TARGETS)


def test_outcomes_are_those_of_a_visit() -> None:
    assert get_args(VisitOutcome) == OUTCOMES


def test_each_queues_figures_equal_those_calculated_by_hand(engine: Engine) -> None:
    wanted = stored(engine, DAY)
    found = read_both_ways(engine, lambda session: by_queue(session, wanted, TARGETS))
    sales, help_ = found["sales"], found["help"]
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
    assert list(found) == ["sales", "help"]


def test_the_groups_add_up_to_the_total(engine: Engine) -> None:
    wanted = stored(engine, DAY)
    with reading(engine) as session:
        total, parts = queue_totals(session, wanted, TARGETS), by_queue(session, wanted, TARGETS).values()
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
    engine: Engine, visits: list[SampleVisit], figure: str, text: str
) -> None:
    assert getattr(totals_of(engine, visits), figure).percent_text() == text


def test_an_unknown_wait_is_never_within_the_target(engine: Engine) -> None:
    found = totals_of(engine, [("a", "answered", None, 60.0), ("a", "answered", 10.0, 60.0)])
    assert (found.answered, found.answered_within_t) == (2, 1)
    assert found.asa.value == 10  # only one wait is known
    assert found.max_wait_s == 10


def test_each_wait_is_counted_in_its_bucket(engine: Engine) -> None:
    wanted = stored(engine, DAY)
    found = read_both_ways(engine, lambda session: wait_distribution(session, wanted))
    buckets = {bucket.up_to_s: bucket for bucket in found}
    assert buckets[5] == WaitBucket(0, 5, answered=1, abandoned=2, other=1)  # 5; 4 and 5; 2
    assert buckets[20] == WaitBucket(15, 20, answered=1, abandoned=0, other=0)  # exactly 20 is up to 20
    assert buckets[30] == WaitBucket(20, 30, answered=2, abandoned=0, other=0)  # 21 and 25
    assert buckets[60] == WaitBucket(45, 60, answered=0, abandoned=0, other=1)
    assert buckets[None] == WaitBucket(600, None, 0, 0, 0)
    assert sum(b.answered + b.abandoned + b.other for b in buckets.values()) == len(DAY) - 1  # one wait is unknown
