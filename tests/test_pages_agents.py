"""Agents, on a day worked by hand: the table, one agent's day, and his calls."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from pbx.settings import load_settings
from pbx.store.engine import open_engine
from tests.happened import DAY, add_agents
from tests.test_pages import open_page, save_pbx, tables, well, words

AGENTS = "pages/live/agents.py"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.ui.panel.ensure_worker", lambda settings: None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = open_engine(load_settings())
    add_agents(opened, save_pbx(opened))
    yield opened
    opened.dispose()


def test_agents_are_listed_with_what_their_figures_are_made_of(engine: Engine) -> None:
    app = well(open_page(AGENTS, **DAY))
    assert tables(app)["Agents"] == [
        [
            "Ada",
            "2 | talk 15:00",
            "7:30",
            "33.3% | 1 of 3",
            "4 h 00 min | 1 session",
            "30:00 | 1 pause",
            "7.1% | 15:00 of 3 h 30 min",  # 900 / (14,400 - 1,800)
        ],
        ["Bob", "1 | talk 1:00", "1:00", "0.0% | 0 of 1", "–", "0:00", "n/a | no login known"],
    ]
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {
        "Agents": "2",
        "Calls taken": "3",
        "Average talk": "5:20",  # 960 / 3
        "Not taken": "25.0%",  # 1 of 4 rings
        "Paused": "12.5%",  # 30 min of 4 h
        "Occupancy": "7.1%",  # of Ada alone: of Bob no login is known
    }


def test_an_agent_s_day_and_calls(engine: Engine) -> None:
    app = well(open_page(AGENTS, **DAY, agent="Ada"))
    shown = tables(app)
    assert shown["Days"] == [["Mon 2 Mar", "09:00", "13:00", "4 h 00 min", "30:00"]]
    assert shown["Calls taken"] == [
        ["2 Mar 10:00:00", "+4930111", "sales", "0:10", "10:00"],
        ["2 Mar 09:30:00", "+4930111", "sales", "0:10", "5:00"],
    ]
    assert len(app.get("plotly_chart")) == 2


def test_of_an_agent_without_logins_the_page_says_so(engine: Engine) -> None:
    assert "No login of this agent is known" in words(well(open_page(AGENTS, **DAY, agent="Bob")))


def test_a_queue_nobody_works_in_shows_how_history_arrives(engine: Engine) -> None:
    app = well(open_page(AGENTS, **DAY, queue="support"))
    assert "python -m pbx import queue-log" in words(app)
