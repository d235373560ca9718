"""The page Agents, on a day calculated by hand: the table, one agent's day, and that agent's calls."""

import re

import pytest
from sqlalchemy import Engine

from pbx.model.history import Visit
from pbx.store.engine import writing
from pbx.store.visits import store_visits
from tests.pages.page_reader import open_page, page_text, tables, without_errors
from tests.pages.sample_data import save_pbx
from tests.unit.charts.page_charts import charts
from tests.unit.sample_history import DAY, add_agents, add_listening_span, clock

pytestmark = pytest.mark.usefixtures("no_worker")

AGENTS = "pages/live/agents.py"


@pytest.fixture
def engine(engine: Engine) -> Engine:
    add_agents(engine, save_pbx(engine))
    return engine


def test_the_table_shows_each_figure_with_its_parts(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY))
    assert tables(app)["Agents"] == [
        [
            "Ada",
            "2 | talk 15 min",
            "7 min 30 s",
            "33.3% | 1 of 3",
            "4 h | 1 session",
            "30 min | 1 pause",
            "7.1% | 15 min of 3 h 30 min",  # 900 / (14,400 - 1,800)
        ],
        ["Bob", "1 | talk 1 min", "1 min", "0.0% | 0 of 1", "–", "0 s", "n/a | no login recorded"],
    ]
    shown = {metric.label.replace("\\", ""): metric.value for metric in app.metric}
    assert shown == {
        "Agents": "2",
        "Calls taken": "3",
        "Average agent talk time": "5 min 20 s",  # 960 / 3
        "Missed ring rate": "25.0%",  # 1 of 4 rings
        "Paused (of time logged in)": "12.5%",  # 30 min of 4 h
        "Occupancy": "7.1%",  # only of Ada, because no login of Bob is known
    }


def test_figures_are_compared_only_with_a_day_that_has_data(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY))
    assert {metric.delta for metric in app.metric} == {""}
    assert "No comparison with the previous period: the data begins on 2 Mar at 09:30." in page_text(app)
    add_listening_span(engine, 1, clock(-24), clock(24))
    changes = {
        metric.label.replace("\\", ""): metric.proto.delta_description
        for metric in without_errors(open_page(AGENTS, **DAY)).metric
    }
    assert changes["Calls taken"] == "from 0"


def test_an_agents_page_lists_days_and_calls(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY, agent="Ada"))
    shown = tables(app)
    assert shown["Days"] == [["Mon 2 Mar", "09:00", "13:00", "4 h", "30 min"]]
    assert shown["Calls taken"] == [
        ["2 Mar 10:00:00", "+4930111", "sales", "10 s", "10 min"],
        ["2 Mar 09:30:00", "+4930111", "sales", "10 s", "5 min"],
    ]
    assert len(app.get("plotly_chart")) == 2


def test_an_agents_page_compares_their_figures_with_the_team(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY, agent="Ada"))
    assert {metric.label.replace("\\", ""): metric.value for metric in app.metric} == {
        "Calls taken": "2",
        "Average agent talk time": "7 min 30 s",  # 900 / 2
        "Missed ring rate": "33.3%",
        "Paused (of time logged in)": "12.5%",
        "Occupancy": "7.1%",
    }
    team = [caption.value.replace("\\", "") for caption in app.caption]
    assert [text for text in team if text.startswith("All agents:")] == [
        *(
            "All agents: 3",
            "All agents: 5 min 20 s",
            "All agents: 25.0%",
            "All agents: 12.5%",
            "All agents: 7.1%",
        )
    ]


def test_an_agent_without_data_is_named(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY, agent="Nobody"))
    assert "This agent has no calls, rings or logins" in page_text(app)
    assert "Nobody" in [heading.value for heading in app.subheader]


def test_an_agent_without_logins_gets_a_note(engine: Engine) -> None:
    assert "No login of this agent was recorded" in page_text(without_errors(open_page(AGENTS, **DAY, agent="Bob")))


def test_a_queue_without_agents_shows_how_to_import_data(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY, queue="support"))
    assert "python -m pbx import queue-log" in page_text(app)


def test_a_click_on_a_part_of_the_day_lists_its_calls(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY, agent="Ada"))
    timeline = charts(app)["agent_timeline"]["data"]
    by_kind = {trace["name"]: [point[0] for point in trace["customdata"]] for trace in timeline}
    assert {kind: len(queries) for kind, queries in by_kind.items()} == {
        "No data": 2,  # before the log's first call and after its last
        "Logged in": 1,
        "Paused": 1,
        "On a call": 2,
    }

    def listed_times(query: str) -> list[str]:
        page = without_errors(open_page(AGENTS, **DAY, agent="Ada", selection=query))
        return [row[0] for row in tables(page).get("Calls taken", [])]

    assert listed_times(by_kind["On a call"][0]) == ["2 Mar 09:30:00"]
    assert listed_times(by_kind["Logged in"][0]) == ["2 Mar 10:00:00", "2 Mar 09:30:00"]
    assert listed_times(by_kind["Paused"][0]) == []


def test_no_comparison_with_a_time_before_the_data_begins(engine: Engine) -> None:
    app = without_errors(open_page(AGENTS, **DAY))
    assert {metric.delta for metric in app.metric} == {""}
    assert "nothing earlier was recorded" in page_text(app)


def test_long_lists_of_agents_and_calls_have_separate_page_numbers(engine: Engine) -> None:
    names = [f"Agent {number:02}" for number in range(13)] + ["Ada"] * 13
    visits = [
        Visit(
            uniqueid=f"{number}.9",
            queue="sales",
            joined_at=clock(11, number),
            connected_at=clock(11, number, 10),
            ended_at=clock(11, number, 40),
            outcome="answered",
            wait_s=10.0,
            talk_s=30.0,
            agent=name,
        )
        for number, name in enumerate(names)
    ]
    with writing(engine) as session:
        store_visits(session, 1, visits, "queue_log")
    app = without_errors(open_page(AGENTS, **DAY, agent="Ada"))
    assert (len(tables(app)["Agents"]), len(tables(app)["Calls taken"])) == (12, 12)
    ranges = re.findall(r"\d+–\d+ of \d+", page_text(app))
    assert ranges == ["1–12 of 15"] * 2
