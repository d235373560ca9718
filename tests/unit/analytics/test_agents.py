"""Agent figures from the cache: sessions within the period and by local day, pauses and missed rings."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from pbx.analytics.agents import AgentDay, AgentSession, agent_days, agent_figures, agent_sessions, pause_reasons
from pbx.analytics.formulas.agents import AgentFigures, PauseFigures
from pbx.analytics.queues import FigureFilter
from pbx.store.engine import reading
from pbx.store.models import PbxConnection
from tests.unit.analytics.monday import BERLIN, MONDAY, at
from tests.unit.store.history_rows import agent_event, read_both_ways, ring, store, visit

HOUR = 3600.0


def day(days: int = 1, **values: Any) -> FigureFilter:
    return FigureFilter(1, MONDAY, MONDAY + timedelta(days=days), **values)


@pytest.fixture(autouse=True)
def pbx(engine: Engine) -> None:
    store(engine, PbxConnection(id=1, host="pbx"))


def test_a_days_figures_equal_those_calculated_by_hand(engine: Engine) -> None:
    # Anna is logged in from 8 to 16. Lunch from 12 to 13, training from 14 to 14:30, then paperwork until 14:45.
    store(
        engine,
        agent_event(at(8), "Anna", "login"),
        agent_event(at(12), "Anna", "pause", reason="Lunch"),
        agent_event(at(13), "Anna", "unpause"),
        agent_event(at(14), "Anna", "pause", reason="Training"),
        agent_event(at(14.5), "Anna", "pause", reason="Paperwork"),
        agent_event(at(14.75), "Anna", "unpause"),
        agent_event(at(16), "Anna", "logout"),
        visit(at(9), talk_s=2 * HOUR),
        visit(at(11), "transferred", talk_s=1.125 * HOUR),
        visit(at(15), "abandoned"),
        ring(at(9.5)),
        ring(at(9.6), ring_s=5.0),
        ring(at(-1)),  # the day before
    )
    (anna,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert anna == AgentFigures(
        "Anna",
        calls=2,
        talk_s=3.125 * HOUR,
        talks=2,
        non_response=2,
        missed_ring_s=20,
        logged_in_s=8 * HOUR,
        paused_s=1.75 * HOUR,
        sessions=1,
        pauses={
            "Lunch": PauseFigures(1, HOUR),
            "Training": PauseFigures(1, 0.5 * HOUR),
            "Paperwork": PauseFigures(1, 0.25 * HOUR),
        },
    )
    assert anna.occupancy.value == pytest.approx(0.5)  # 3.125 h of talk in 8 h minus 1.75 h
    assert anna.non_response_rate.parts_text() == "2 of 4"


def test_logins_to_two_queues_are_one_session(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(8), "Anna", "login", "sales"),
        agent_event(at(9), "Anna", "login", "help"),
        agent_event(at(12), "Anna", "logout", "sales"),
        agent_event(at(13), "Anna", "logout", "help"),
        agent_event(at(15), "Anna", "login", "sales"),
        agent_event(at(17), "Anna", "logout", "sales"),
    )
    found = read_both_ways(engine, lambda session: agent_sessions(session, day()))
    assert found == [AgentSession("Anna", at(8), at(13), False), AgentSession("Anna", at(15), at(17), False)]
    with reading(engine) as session:
        assert agent_sessions(session, day(queue="help")) == [AgentSession("Anna", at(9), at(13), False)]
        assert agent_figures(session, day())[0].logged_in_s == 7 * HOUR


def test_a_login_long_before_the_period_without_a_logout_counts(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(-500), "Anna", "login"),
        agent_event(at(-400), "Bob", "login"),
        agent_event(at(-300), "Bob", "logout"),
    )
    (anna,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (anna.agent, anna.logged_in_s, anna.sessions) == ("Anna", 24 * HOUR, 1)


def test_a_pause_that_began_before_the_period_keeps_its_reason(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(-5), "Anna", "login"),
        agent_event(at(-4), "Anna", "pause", reason="Lunch"),
        agent_event(at(-3), "Anna", "unpause"),
        agent_event(at(-1), "Anna", "pause", reason="Training"),
        agent_event(at(2), "Anna", "unpause"),
        agent_event(at(-3), "Bob", "login"),
        agent_event(at(-2), "Bob", "pause", reason="Lunch"),
        agent_event(at(-1), "Bob", "logout"),  # ends the pause too
        agent_event(at(1), "Bob", "login"),
    )
    anna, bob = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (anna.logged_in_s, anna.paused_s, anna.pauses) == (
        24 * HOUR,
        2 * HOUR,
        {"Training": PauseFigures(1, 2 * HOUR)},
    )
    assert (bob.logged_in_s, bob.paused_s, bob.sessions) == (23 * HOUR, 0, 1)


def test_an_end_precedes_a_start_in_the_same_second(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(8), "Anna", "login"),
        agent_event(at(10), "Anna", "pause", reason="Lunch"),
        agent_event(at(11), "Anna", "pause", reason="Training"),
        agent_event(at(11), "Anna", "unpause"),
        agent_event(at(12), "Anna", "login"),
        agent_event(at(12), "Anna", "logout"),
        agent_event(at(13), "Anna", "logout"),
    )
    (anna,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (anna.logged_in_s, anna.sessions) == (5 * HOUR, 1)
    assert anna.pauses == {"Lunch": PauseFigures(1, HOUR), "Training": PauseFigures(1, HOUR)}


def test_an_open_session_lasts_until_now(engine: Engine) -> None:
    now = datetime.now(UTC)
    store(engine, agent_event(now - timedelta(hours=2), "Anna", "login"))
    with reading(engine) as session:
        selected = FigureFilter(1, now - timedelta(hours=1), now + timedelta(hours=9))
        (found,) = agent_sessions(session, selected)
    assert found.open
    assert found.from_at == now - timedelta(hours=1)
    assert found.until_at < now + timedelta(minutes=5)


def test_a_pause_of_all_queues_is_counted_once(engine: Engine) -> None:
    # As Asterisk writes it: PAUSEALL, then a PAUSE for each queue. Each queue ends it separately.
    store(
        engine,
        agent_event(at(8), "Anna", "login", "sales"),
        agent_event(at(8), "Anna", "login", "help"),
        agent_event(at(10), "Anna", "pause", ""),
        agent_event(at(10), "Anna", "pause", "sales", "Lunch"),
        agent_event(at(10), "Anna", "pause", "help", "Lunch"),
        agent_event(at(11), "Anna", "unpause", "sales"),
        agent_event(at(11), "Anna", "unpause", "help"),
        agent_event(at(16), "Anna", "logout", "sales"),
        agent_event(at(16), "Anna", "logout", "help"),
    )
    (anna,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (anna.paused_s, anna.pauses) == (HOUR, {"Lunch": PauseFigures(1, HOUR)})


def test_a_logout_ends_the_pause(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(8), "Anna", "login"),
        agent_event(at(10), "Anna", "pause", reason="Lunch"),
        agent_event(at(11), "Anna", "logout"),
        agent_event(at(12), "Anna", "login"),
        agent_event(at(13), "Anna", "logout"),
    )
    (anna,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (anna.logged_in_s, anna.paused_s, anna.sessions) == (4 * HOUR, HOUR, 2)


def test_a_static_member_has_no_login_time(engine: Engine) -> None:
    store(engine, agent_event(at(10), "Bob", "pause", reason="Break"), agent_event(at(11), "Bob", "unpause"))
    store(engine, visit(at(9), agent="Bob"))
    (bob,) = read_both_ways(engine, lambda session: agent_figures(session, day()))
    assert (bob.logged_in_s, bob.paused_s, bob.calls) == (None, HOUR, 1)
    assert bob.occupancy.percent_text() == "n/a"


def test_pause_reasons_are_summed_over_all_agents(engine: Engine) -> None:
    for agent, hours in (("Anna", 1), ("Bob", 2)):
        store(engine, agent_event(at(8), agent, "login"), agent_event(at(10), agent, "pause", reason="Lunch"))
        store(engine, agent_event(at(10 + hours), agent, "pause"), agent_event(at(13), agent, "logout"))
    found = read_both_ways(engine, lambda session: pause_reasons(session, day()))
    assert found == {"": PauseFigures(2, 3 * HOUR), "Lunch": PauseFigures(2, 3 * HOUR)}
    with reading(engine) as session:
        assert pause_reasons(session, day(agent="Bob")) == {
            "Lunch": PauseFigures(1, 2 * HOUR),
            "": PauseFigures(1, HOUR),
        }


def test_a_night_shift_is_split_at_local_midnight(engine: Engine) -> None:
    store(
        engine,
        agent_event(at(20), "Anna", "login"),
        agent_event(at(23.5), "Anna", "pause"),
        agent_event(at(24.25), "Anna", "unpause"),
        agent_event(at(28), "Anna", "logout"),
    )
    tuesday = MONDAY + timedelta(days=1)
    found = read_both_ways(engine, lambda session: agent_days(session, day(days=3), BERLIN))
    assert found == [
        AgentDay("Anna", MONDAY, at(20), at(24), 4 * HOUR, 0.5 * HOUR),
        AgentDay("Anna", tuesday, at(24), at(28), 4 * HOUR, 0.25 * HOUR),
    ]


def test_the_day_on_which_summer_time_starts_has_23_hours(engine: Engine) -> None:
    sunday = datetime(2026, 3, 29, tzinfo=BERLIN)
    store(engine, agent_event(at(-1), "Anna", "login"))
    with reading(engine) as session:
        (found,) = agent_days(session, FigureFilter(1, sunday, sunday + timedelta(days=1)), BERLIN)
    assert found.logged_in_s == 23 * HOUR


def test_a_period_without_agents_is_empty(engine: Engine) -> None:
    with reading(engine) as session:
        assert agent_figures(session, day()) == []
        assert agent_days(session, day(), BERLIN) == []
        assert pause_reasons(session, day()) == {}
