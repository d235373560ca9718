"""Queue figures from the cache: filtered, by interval, and by weekday and hour, in the PBX's time zone."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from pbx.analytics import queues
from pbx.analytics.formulas.queues import QueueFigures, Targets, WaitBucket
from pbx.model.snapshot import Queue, Snapshot, SnapshotPart
from pbx.store.engine import reading, writing
from pbx.store.models import PbxConnection
from pbx.store.snapshots import record_snapshot
from tests.unit.analytics.monday import BERLIN, MONDAY, at
from tests.unit.store.history_rows import read_both_ways, store, visit


def period(since: datetime = MONDAY, days: int = 1, **values: Any) -> queues.FigureFilter:
    return queues.FigureFilter(1, since, since + timedelta(days=days), **values)


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"), PbxConnection(id=2, host="other"))


@pytest.fixture
def monday(engine: Engine) -> None:
    store(
        engine,
        visit(at(9), wait_s=5.0, talk_s=100.0, did="100"),
        visit(at(9.5), wait_s=30.0, talk_s=50.0, agent="Bob", did="100"),
        visit(at(9.6), "abandoned", 3.0, did="200"),
        visit(at(14), "timeout", 60.0, did="200"),
        visit(at(14.5), "transferred", 20.0, queue="help", talk_s=None, agent="Bob"),
        visit(at(-0.01)),  # the day before
        visit(at(24)),  # the day after
        visit(at(9), connection_id=2),  # another PBX
    )


@pytest.mark.usefixtures("monday")
def test_a_days_figures_equal_those_calculated_by_hand(engine: Engine) -> None:
    found = read_both_ways(
        engine, lambda session: queues.queue_totals(session, period(), Targets(by_queue={"help": 10}))
    )
    assert found == QueueFigures(
        offered=5,
        answered=3,
        abandoned=1,
        outcomes={"answered": 2, "abandoned": 1, "timeout": 1, "transferred": 1},
        answered_within_t=1,  # 5 s; 30 s is above the 20 s of sales, and 20 s above the 10 s of help
        abandoned_within_t=1,
        short_abandons=1,
        answer_wait_s=55,
        answer_waits=3,
        talk_s=150,
        talks=2,
        max_wait_s=60,
    )


@pytest.mark.usefixtures("monday")
@pytest.mark.parametrize(
    ("filters", "offered", "answered"),
    [
        ({"queue": "help"}, 1, 1),
        ({"agent": "Bob"}, 2, 2),
        ({"did": "200"}, 2, 0),
        ({"queue": "sales", "agent": "Bob"}, 1, 1),
        ({"queue": "nowhere"}, 0, 0),
        ({"did": ""}, 1, 1),  # visits without a DID
    ],
)
def test_a_filter_selects_its_visits(engine: Engine, filters: dict[str, str], offered: int, answered: int) -> None:
    found = read_both_ways(engine, lambda session: queues.queue_totals(session, period(**filters)))
    assert (found.offered, found.answered) == (offered, answered)


@pytest.mark.usefixtures("monday")
def test_names_are_sorted_by_their_number_of_visits(engine: Engine) -> None:
    def counts(found: dict[str, QueueFigures]) -> list[tuple[str, int]]:
        return [(name, figures.offered) for name, figures in found.items()]

    assert read_both_ways(engine, lambda session: counts(queues.by_queue(session, period()))) == [
        ("sales", 4),
        ("help", 1),
    ]
    with reading(engine) as session:
        assert counts(queues.by_agent(session, period())) == [("Bob", 2), ("Anna", 1)]
        assert counts(queues.figures_by(session, period(), "did")) == [("100", 2), ("200", 2), ("", 1)]
        assert queues.visit_names(session, period(queue="help"), "queue") == ["help", "sales"]
        assert queues.outcome_counts(session, period()) == {
            "answered": 2,
            "abandoned": 1,
            "timeout": 1,
            "transferred": 1,
        }


@pytest.mark.usefixtures("monday")
def test_waits_are_counted_by_outcome(engine: Engine) -> None:
    found = read_both_ways(engine, lambda session: queues.wait_distribution(session, period()))
    assert [bucket for bucket in found if bucket.answered or bucket.abandoned or bucket.other] == [
        WaitBucket(0, 5, 1, 1, 0),
        WaitBucket(15, 20, 1, 0, 0),
        WaitBucket(20, 30, 1, 0, 0),
        WaitBucket(45, 60, 0, 0, 1),
    ]


@pytest.mark.usefixtures("monday")
def test_hours_without_visits_are_zero(engine: Engine) -> None:
    found = read_both_ways(engine, lambda session: queues.queue_intervals(session, period(), BERLIN, "hour"))
    assert len(found) == 24
    assert found[0].start_at == MONDAY
    assert {i: hour.figures.offered for i, hour in enumerate(found) if hour.figures.offered} == {9: 3, 14: 2}
    assert sum(hour.figures.answer_wait_s for hour in found) == 55


def test_the_repeated_hour_is_two_intervals(engine: Engine) -> None:
    sunday = datetime(2026, 10, 25, tzinfo=BERLIN)
    # 02:30 summer time, 02:30 winter time, 23:30
    store(engine, visit(at(2.5, sunday)), visit(at(3.5, sunday)), visit(at(24.5, sunday)))
    hours = read_both_ways(engine, lambda session: queues.queue_intervals(session, period(sunday), BERLIN, "hour"))
    assert [hour.figures.offered for hour in hours] == [0, 0, 1, 1, *[0] * 20, 1]
    with reading(engine) as session:
        days = queues.queue_intervals(session, period(sunday, days=2), BERLIN, "day")
        cells = queues.heat_map(session, period(sunday, days=2), BERLIN)
    assert [day.figures.offered for day in days] == [3, 0]
    assert (cells[6][2].figures.offered, cells[6][2].hours) == (2, 2)  # Sunday at 02:00: two such hours
    assert (cells[6][23].figures.offered, cells[6][23].hours) == (1, 1)
    assert cells[0][2].hours == 1


def test_the_skipped_hour_has_no_interval(engine: Engine) -> None:
    sunday = datetime(2026, 3, 29, tzinfo=BERLIN)
    store(engine, visit(at(1.5, sunday)), visit(at(2.5, sunday)))  # 01:30, and an hour later 03:30
    hours = read_both_ways(engine, lambda session: queues.queue_intervals(session, period(sunday), BERLIN, "hour"))
    assert [hour.figures.offered for hour in hours] == [0, 1, 1, *[0] * 20]
    with reading(engine) as session:
        cells = queues.heat_map(session, period(sunday), BERLIN)
    assert [(cell.figures.offered, cell.hours) for cell in cells[6][:5]] == [(0, 1), (1, 1), (0, 0), (1, 1), (0, 1)]


def test_an_hour_without_data_is_not_counted_in_the_week(engine: Engine) -> None:
    store(engine, visit(at(9.5)))
    with reading(engine) as session:
        cells = queues.heat_map(session, period(days=8), BERLIN, None, [(at(8), at(10)), (at(10.5), at(11))])[0]
    assert [cell.hours for cell in cells[7:12]] == [2, 1, 1, 2, 2]  # on two Mondays
    assert cells[9].figures.offered == 1


def test_hours_start_at_full_hours_of_a_half_hour_time_zone(engine: Engine) -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    day = datetime(2026, 5, 1, tzinfo=kolkata)
    store(engine, visit(at(9 + 59 / 60, day)), visit(at(10, day)), visit(at(-1 / 60, day)))
    hours = read_both_ways(engine, lambda session: queues.queue_intervals(session, period(day), kolkata, "hour"))
    assert {i: hour.figures.offered for i, hour in enumerate(hours) if hour.figures.offered} == {9: 1, 10: 1}


def test_a_connected_visit_in_progress_counts_as_answered(engine: Engine) -> None:
    store(engine, visit(at(9), "in_progress", connected_at=at(9.1), agent="Anna"), visit(at(10), "in_progress", None))
    found = read_both_ways(engine, lambda session: queues.queue_totals(session, period()))
    assert (found.offered, found.answered, found.other, found.talks) == (2, 1, 1, 0)


def test_figures_of_an_empty_period_are_not_applicable(engine: Engine) -> None:
    with reading(engine) as session:
        assert queues.queue_totals(session, period()) == QueueFigures()
        assert queues.queue_totals(session, period()).sl_offered.percent_text() == "n/a"
        assert queues.queue_intervals(session, period(days=-1), BERLIN, "day") == []
        assert queues.heat_map(session, period(days=-1), BERLIN)[0][0].hours == 0
        assert queues.by_queue(session, period()) == {}


@pytest.mark.usefixtures("monday")
def test_the_previous_period_has_the_same_length(engine: Engine) -> None:
    selected = period(MONDAY + timedelta(days=1))
    with reading(engine) as session:
        previous = selected.before(BERLIN, datetime(2026, 6, 1, tzinfo=UTC))
        assert (previous.since, previous.until) == (MONDAY, MONDAY + timedelta(days=1))
        assert queues.queue_totals(session, previous).offered == 5
        assert queues.queue_totals(session, selected).offered == 1


def test_each_queue_has_its_own_target(engine: Engine) -> None:
    found_queues = (Queue(name="help", service_level_s=45), Queue(name="sales"))
    snapshot = Snapshot(taken_at=at(0), queues=found_queues, parts={"queues": SnapshotPart()})
    with writing(engine) as session:
        record_snapshot(session, 1, snapshot)
    with reading(engine) as session:
        targets = queues.queue_targets(session, 1)
        assert (targets.of("help"), targets.of("sales"), targets.of(None)) == (45, 20, 20)
        assert queues.queue_targets(session, 2, answer_s=15).of("help") == 15
