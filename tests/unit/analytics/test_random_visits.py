"""Figures and lists of random visits around clock changes, compared with those of plain Python."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from pbx.analytics.formulas.intervals import IntervalStep, interval_edges
from pbx.analytics.formulas.queues import OUTCOMES, Targets
from pbx.analytics.queues import (
    FigureFilter,
    Selection,
    figures_by,
    heat_map,
    outcome_counts,
    queue_intervals,
    queue_totals,
    wait_distribution,
)
from pbx.analytics.rows_to_columns import number_key
from pbx.analytics.visit_lists import abandoned_calls, callbacks, count_visits, repeated_callers, transfer_targets
from pbx.store.engine import reading
from pbx.store.models import CallRow, PbxConnection, VisitRow
from tests.unit.analytics import plain_figures as plain
from tests.unit.store.history_rows import call, read_both_ways, store, visit

BERLIN, LORD_HOWE, KATHMANDU = (ZoneInfo(name) for name in ("Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"))
# Clocks go back: 5 April 2026 at 02:00 to 01:30 on Lord Howe Island, 25 October at 03:00 to 02:00 in Berlin
PERIODS = {
    BERLIN: (datetime(2026, 10, 24, 22, 17, 5, tzinfo=UTC), datetime(2026, 10, 26, 1, 40, tzinfo=UTC)),
    LORD_HOWE: (datetime(2026, 4, 4, 11, tzinfo=UTC), datetime(2026, 4, 6, 3, 30, tzinfo=UTC)),
    KATHMANDU: (datetime(2026, 4, 4, 18, 15, tzinfo=UTC), datetime(2026, 4, 5, 18, 15, tzinfo=UTC)),
}
TARGETS = Targets(20, 5, {"sales": 15.0, "Bob's": 40.0})
NUMBERS = ("", "anonymous", *(f"+49301234{i:03}" for i in range(60)))
zones = pytest.mark.parametrize("zone", PERIODS, ids=str)


def random_visits(
    chance: random.Random, since: datetime, until: datetime, first: int = 0, count: int = 400
) -> list[VisitRow]:
    length_s = int((until - since).total_seconds())

    def one(number: int) -> VisitRow:
        outcome = chance.choice(OUTCOMES)
        joined_at = since + timedelta(seconds=chance.randrange(length_s))
        own: dict[str, Any] = {"connected_at": joined_at} if chance.random() < 0.1 else {}
        return visit(
            joined_at,
            outcome,
            chance.choice((None, 0.0, 4.0, 5.0, 15.0, 15.5, 20.0, 40.0, 61.0, 700.0)),
            queue=chance.choice(("sales", "help", "Bob's")),
            agent=chance.choice(("", "Anna", "Bob")),
            did=chance.choice(("", "100", "200")),
            talk_s=chance.choice((None, 0.0, 12.5, 300.0)),
            caller=chance.choice(NUMBERS),
            target=chance.choice(("", "700", "200")),
            uniqueid=f"{number}.1",
            **own,
        )

    return [one(number) for number in range(first, first + count)]


def random_calls(chance: random.Random, since: datetime, until: datetime) -> list[CallRow]:
    length_s = int((until - since).total_seconds())
    return [
        call(
            number,
            since + timedelta(seconds=chance.randrange(length_s)),
            chance.choice(("inbound", "outbound", "internal")),
            from_number=chance.choice(NUMBERS),
            to_number=chance.choice(NUMBERS),
            agent=chance.choice(("", "PJSIP/1001")),
            queue=chance.choice(("", "sales")),
            disposition=chance.choice(("ANSWERED", "NO ANSWER")),
        )
        for number in range(1, 200)
    ]


def answers(visits: Sequence[VisitRow], calls: Sequence[CallRow]) -> list[tuple[int, int]]:
    """The number and the second of each answered call."""
    found = [(visit.caller, visit.joined_at) for visit in visits if plain.is_answered(visit)]
    for one in calls:
        if one.disposition == "ANSWERED" and one.direction == "outbound":
            found.append((one.to_number, one.started_at))
        elif one.disposition == "ANSWERED" and one.direction == "inbound" and one.agent and not one.queue:
            found.append((one.from_number, one.started_at))
    return [(number_key(number), int(at.timestamp())) for number, at in found]


@pytest.fixture
def chance(engine: Engine) -> random.Random:
    store(engine, PbxConnection(id=1, host="pbx"))
    return random.Random(9)


@zones
def test_figures_of_random_visits(engine: Engine, chance: random.Random, zone: ZoneInfo) -> None:
    since, until = PERIODS[zone]
    visits, wanted = random_visits(chance, since, until), FigureFilter(1, since, until)
    store(engine, *visits)

    def by(name: str) -> dict[str, list[VisitRow]]:
        groups: defaultdict[str, list[VisitRow]] = defaultdict(list)
        for one in visits:
            groups[getattr(one, name)].append(one)
        return groups

    totals = read_both_ways(engine, lambda session: queue_totals(session, wanted, TARGETS))
    assert totals == plain.figures(visits, TARGETS)
    with reading(engine) as session:
        assert outcome_counts(session, wanted) == totals.outcomes
        assert wait_distribution(session, wanted) == plain.wait_buckets(visits)
        assert figures_by(session, wanted, "queue", TARGETS) == {
            name: plain.figures(rows, TARGETS) for name, rows in by("queue").items()
        }
        assert figures_by(session, wanted, "agent") == {
            name: plain.figures(rows, Targets()) for name, rows in by("agent").items()
        }
        assert transfer_targets(session, wanted) == sorted(
            Counter(one.target for one in visits if one.outcome == "transferred").items(),
            key=lambda item: (-item[1], item[0]),
        )


@zones
@pytest.mark.parametrize("step", ["hour", "day"])
def test_intervals_of_random_visits(engine: Engine, chance: random.Random, zone: ZoneInfo, step: IntervalStep) -> None:
    since, until = PERIODS[zone]
    visits, wanted = random_visits(chance, since, until), FigureFilter(1, since, until)
    store(engine, *visits)
    edges = interval_edges(since, until, zone, step)

    def local_hour(one: VisitRow) -> tuple[int, int]:
        joined_at = one.joined_at.astimezone(zone)
        return joined_at.weekday(), joined_at.hour

    parts = [[one for one in visits if start <= one.joined_at < end] for start, end in pairwise(edges)]
    found = read_both_ways(engine, lambda session: queue_intervals(session, wanted, zone, step, TARGETS))
    assert [(one.start_at, one.end_at) for one in found] == list(pairwise(edges))
    assert [one.figures for one in found] == [plain.figures(part, TARGETS) for part in parts]
    with reading(engine) as session:
        week = heat_map(session, wanted, zone, TARGETS)
        for weekday, hour in {local_hour(one) for one in visits}:
            rows = [one for one in visits if local_hour(one) == (weekday, hour)]
            assert week[weekday][hour].figures == plain.figures(rows, TARGETS)
            cell = Selection(weekday=weekday, hour=hour)
            assert count_visits(session, wanted, cell, zone) == len(rows)


@pytest.mark.parametrize(
    ("chosen", "is_in"),
    [
        (Selection(outcomes=("abandoned", "unknown")), lambda one: one.outcome in ("abandoned", "unknown")),
        (Selection(outcomes=()), lambda one: False),
        (Selection(answered=False), lambda one: not plain.is_answered(one)),
        (Selection(target="700"), lambda one: one.target == "700"),
        (Selection(wait_over_s=5, wait_up_to_s=20.0), lambda one: one.wait_s is not None and 5 < one.wait_s <= 20),
        (
            Selection(present=(PERIODS[BERLIN][0] + timedelta(hours=5), PERIODS[BERLIN][0] + timedelta(hours=6))),
            lambda one: (
                one.joined_at < PERIODS[BERLIN][0] + timedelta(hours=6)
                and (
                    one.outcome == "in_progress"
                    or one.joined_at + timedelta(seconds=(one.wait_s or 0) + (one.talk_s or 0))
                    >= PERIODS[BERLIN][0] + timedelta(hours=5)
                )
            ),
        ),
    ],
)
def test_a_selection_of_random_visits(
    engine: Engine, chance: random.Random, chosen: Selection, is_in: Callable[[VisitRow], bool]
) -> None:
    since, until = PERIODS[BERLIN]
    visits, wanted = random_visits(chance, since, until), FigureFilter(1, since, until)
    store(engine, *visits)
    found = read_both_ways(engine, lambda session: queue_totals(session, replace(wanted, chosen=chosen), TARGETS))
    assert found == plain.figures([one for one in visits if is_in(one)], TARGETS)
    with reading(engine) as session:
        assert count_visits(session, replace(wanted, queue="sales"), chosen, UTC) == sum(
            is_in(one) for one in visits if one.queue == "sales"
        )


@pytest.mark.parametrize("queue", [None, "sales", "Bob's"])
def test_callbacks_of_random_visits(engine: Engine, chance: random.Random, queue: str | None) -> None:
    since, until = PERIODS[BERLIN]
    visits, wanted = random_visits(chance, since, until), FigureFilter(1, since, until, queue)
    later = random_visits(chance, until, until + timedelta(hours=3), 1000, 50)
    calls = random_calls(chance, since, until + timedelta(hours=3))
    store(engine, *visits, *later, *calls)
    known, selected = answers([*visits, *later], calls), [one for one in visits if queue in (None, one.queue)]
    # The period is in the past of a later test run, and in the future of an earlier one.
    known = [one for one in known if one[1] < max(until, datetime.now(UTC)).timestamp()]
    found = read_both_ways(engine, lambda session: callbacks(session, wanted))
    assert found == plain.callback_figures(selected, known)
    with reading(engine) as session:
        listed = abandoned_calls(session, wanted, offset=0, limit=999)
        owed = abandoned_calls(session, wanted, offset=0, limit=999, owed_only=True)
        often = repeated_callers(session, wanted)
    by_uniqueid = {one.uniqueid: one for one in selected if plain.is_abandoned(one)}
    assert len(listed) == len(by_uniqueid)
    for one in listed:
        row = by_uniqueid[one.visit.uniqueid]
        reached_s = plain.next_answer(number_key(row.caller), plain.ended_s(row), known)
        assert (one.reached_at and one.reached_at.timestamp()) == reached_s
        assert one.time_to_call_back_s == (reached_s - plain.ended_s(row) if reached_s else None)
    assert owed == [one for one in listed if one.can_be_called and one.reached_at is None]
    callers = Counter(key for one in selected if (key := number_key(one.caller)))
    expected = sorted((item for item in callers.items() if item[1] > 1), key=lambda item: (-item[1], item[0]))
    assert [(number_key(one.caller), one.visits) for one in often] == expected[:50]
