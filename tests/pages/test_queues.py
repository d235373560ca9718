"""The page Queues for a period, and the wallboard: figures calculated by hand, selections, lists, empty states."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.formatting import start_of_day
from pbx.model.history import Visit
from pbx.store.engine import writing
from pbx.store.snapshots import record_snapshot
from pbx.store.visits import store_visits
from tests.pages.page_reader import (
    QUEUES,
    exported_tables,
    open_page,
    page_text,
    tables,
    wallboard_html,
    without_errors,
)
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_call, add_sample_data, save_pbx, snapshot_of_queues
from tests.unit.charts.page_charts import points
from tests.unit.sample_history import add_listening_span

pytestmark = pytest.mark.usefixtures("no_worker")

BERLIN = ZoneInfo("Europe/Berlin")
WALLBOARD = "pages/live/wallboard.py"
NOW = datetime.now(UTC).replace(microsecond=0)
YESTERDAY = start_of_day(start_of_day(NOW, BERLIN) - timedelta(hours=12), BERLIN)
TEN = YESTERDAY + timedelta(hours=10)  # ten o'clock, unless the clocks change on that day


@pytest.fixture
def pbx(engine: Engine) -> int:
    return save_pbx(engine)


def visit(number: int, outcome: Any, wait_s: float, talk_s: float | None = None, **changes: Any) -> Visit:
    """A visit that joined queue 600 `number` minutes after ten o'clock."""
    at = changes.pop("joined_at", TEN + timedelta(minutes=number))
    answered = outcome in ("answered", "transferred")
    defaults: dict[str, Any] = {
        "uniqueid": f"{int(at.timestamp())}.{number}",
        "queue": "600",
        "joined_at": at,
        "connected_at": at + timedelta(seconds=wait_s) if answered else None,
        "ended_at": at + timedelta(seconds=wait_s + (talk_s or 0)),
        "agent": "Ada" if answered else "",
        "caller": f"+493012345{number:02}",
        "ring_s": None,
        "did": "4930555",
    }
    return Visit(outcome=outcome, wait_s=wait_s, talk_s=talk_s, **(defaults | changes))


# The target is 20 s. Two visits were answered within it, one after it, and one was answered within it and transferred.
# One caller abandoned within the target, one after it, one after 3 s. One waited until the time-out.
DAY = [
    visit(1, "answered", 10, 60),
    visit(2, "answered", 20, 120),
    visit(3, "answered", 40, 60, agent="Bob"),
    visit(4, "transferred", 6, 30, target="700"),
    visit(5, "abandoned", 15),
    visit(6, "abandoned", 90),
    visit(7, "abandoned", 3, caller=""),
    visit(8, "timeout", 120, queue="601", did=""),
]


@pytest.fixture
def day(engine: Engine, pbx: int) -> int:
    with writing(engine) as session:
        store_visits(session, pbx, DAY, "queue_log")
    return pbx


def open_day(**query: str) -> AppTest:
    """Open the page for that day. Its date stays right when midnight passes during the tests."""
    that_day = str(TEN.astimezone(BERLIN).date())
    return without_errors(open_page(QUEUES, **({"period": "Custom range", "days": [that_day, that_day]} | query)))


def metric_values(app: AppTest) -> dict[str, str]:
    return {metric.label.replace("\\", ""): metric.value for metric in app.metric}


def listed_outcomes(app: AppTest) -> list[str]:
    """The outcomes of the listed calls."""
    return [row[3].split(" | ")[0] for row in tables(app).get("Calls", [])]


def test_headline_figures_match_figures_calculated_by_hand(day: int) -> None:
    found = metric_values(open_day())
    assert found["Offered"] == "8"
    assert found["Answered"] == "4"
    assert found["Abandoned"] == "3"
    assert found["Service level (answered calls)"] == "75.0%"  # 3 of 4
    assert found["Service level (answered + abandoned)"] == "71.4%"  # 3 + 2 of 4 + 3
    assert found["Service level (offered calls)"] == "42.9%"  # 3 of 8 - 1
    assert found["Speed of answer"] == "19 s"  # 76 s / 4
    assert found["Longest wait"] == "2 min"


def test_a_tooltip_shows_the_definition_and_the_parts_of_a_figure(day: int) -> None:
    help_texts = {metric.label.replace("\\", ""): metric.proto.help for metric in open_day().metric}
    assert "Answered within target ÷ all answered calls" in help_texts["Service level (answered calls)"].replace(
        "\\", ""
    )
    assert "3 of 4 = 75.0%" in help_texts["Service level (answered calls)"]
    assert "76 s ÷ 4 = 19 s" in help_texts["Speed of answer"]


def test_each_figure_is_compared_with_the_previous_period(engine: Engine, day: int) -> None:
    before = [
        visit(n, "answered" if n < 3 else "abandoned", 30, 10, joined_at=TEN - timedelta(days=1, minutes=n))
        for n in range(1, 5)
    ]
    with writing(engine) as session:
        store_visits(session, day, before, "queue_log")
    add_listening_span(engine, day, YESTERDAY - timedelta(days=1), YESTERDAY)
    changes = {
        metric.label.replace("\\", ""): (metric.delta, metric.proto.delta_description) for metric in open_day().metric
    }
    assert changes["Offered"] == ("+100%", "from 4")
    assert changes["Service level (answered calls)"] == ("+75.0 pp", "from 0.0%")
    assert changes["Speed of answer"] == ("-11 s", "from 30 s")


def test_no_comparison_with_a_day_that_has_partial_data(engine: Engine, day: int) -> None:
    with writing(engine) as session:
        store_visits(session, day, [visit(9, "abandoned", 9, joined_at=TEN - timedelta(days=1))], "queue_log")
    app = open_day()
    assert {metric.delta for metric in app.metric} == {""}
    began = (TEN - timedelta(days=1)).astimezone(BERLIN)
    assert f"the data begins on {began.day} {began:%b} at {began:%H:%M}" in page_text(app)


def test_no_comparison_with_a_time_before_the_data_begins(day: int) -> None:
    app = open_day()
    assert {metric.delta for metric in app.metric} == {""}
    assert "The data begins" in page_text(app)


def test_the_queue_in_the_url_filters_the_page(day: int) -> None:
    app = open_day(queue="601")
    assert metric_values(app)["Offered"] == "1"
    assert metric_values(app)["Service level (answered calls)"] == "n/a"
    assert listed_outcomes(app) == ["Timed out"]
    assert app.selectbox(key="queue").value == "601"


def test_without_queue_calls_the_page_shows_how_to_import_them(pbx: int, engine: Engine) -> None:
    with writing(engine) as session:
        record_snapshot(session, pbx, snapshot_of_queues("600"))
    app = open_day()
    assert "No queue calls yet" in page_text(app)
    assert "import queue-log" in page_text(app)
    assert not app.metric


def test_a_period_without_calls_says_so(day: int) -> None:
    app = open_day(period="Today")
    assert "No call joined a queue in this period" in page_text(app)


def test_reports_are_shown_without_live_status(day: int) -> None:
    app = open_day()
    assert "No live status yet" in page_text(app)
    assert metric_values(app)["Offered"] == "8"


@pytest.mark.parametrize(
    ("selection", "outcomes"),
    [
        ("kind=answered", ["Transferred", "Answered", "Answered", "Answered"]),
        ("kind=abandoned", ["Abandoned"] * 3),
        ("kind=other", ["Timed out"]),
        ("target=700", ["Transferred"]),
        ("target=701", []),
        ("outcome=transferred", ["Transferred"]),
        ("kind=abandoned&over=0.0&upto=5", ["Abandoned"]),
        ("over=10&upto=20", ["Abandoned", "Answered"]),
        ("over=90&upto=", ["Timed out"]),
        ("agent=Bob", ["Answered"]),
        ("did=", ["Timed out"]),
        (f"from={int(TEN.timestamp())}&until={int(TEN.timestamp()) + 3 * 60}", ["Answered", "Answered"]),
        (f"weekday={TEN.astimezone(BERLIN).weekday()}&hour={TEN.astimezone(BERLIN).hour}", None),
        (f"weekday={(TEN.astimezone(BERLIN).weekday() + 1) % 7}&hour=10", []),
        ("weekday=99&hour=x&from=zz&outcome=nonsense&over=-1", None),
    ],
)
def test_a_selection_lists_its_calls(day: int, selection: str, outcomes: list[str] | None) -> None:
    app = open_day(selection=selection)
    assert listed_outcomes(app) == (outcomes if outcomes is not None else listed_outcomes(open_day()))
    assert listed_outcomes(open_day())[0] == "Timed out"


def test_the_points_of_a_chart_add_up_to_all_calls(engine: Engine, day: int) -> None:
    app = open_day()
    for key in ("queue_volume", "queue_outcomes", "queue_waits"):
        queries = {query for query in points(app, key) if query}
        assert sum(len(listed_outcomes(open_day(selection=query))) for query in queries) == len(DAY), key


def test_a_click_lists_the_calls_and_show_all_clears_it(day: int) -> None:
    app = open_day(list="Agents")
    app.session_state["queue_outcomes"] = {"selection": {"points": [{"customdata": ["outcome=timeout"]}]}}
    app.query_params["selection"] = "outcome=timeout"
    app.session_state["drilldown_clicked"] = True
    app = without_errors(app.run())
    assert listed_outcomes(app) == ["Timed out"]
    next(button for button in app.button if button.label == "Show all").click()
    app = without_errors(app.run())
    assert len(listed_outcomes(app)) == 8
    assert "selection" not in app.query_params


def test_a_queue_call_with_a_recording_shows_its_state(engine: Engine, day: int) -> None:
    add_call(engine, day, "+493012345", TEN, linkedid=DAY[0].uniqueid, state="downloaded", transcription="completed")
    row = tables(open_day(selection="over=5&upto=10"))["Calls"][-1]
    assert row[-1].startswith("Recorded")
    assert row[-1].endswith("Transcribed")


def test_abandoned_calls_show_whether_a_callback_was_made_or_is_owed(engine: Engine, day: int) -> None:
    again = visit(9, "answered", 5, 10, caller="+49301234505", joined_at=TEN + timedelta(minutes=35))
    with writing(engine) as session:
        store_visits(session, day, [again], "queue_log")
    app = open_day(list="Abandoned")
    found = {row[1]: row[4] for row in tables(app)["Abandoned calls"]}
    assert found["+49301234505"].startswith("Called back after 29 min 45 s")
    assert found["+49301234506"].startswith("Owed")
    assert found["No caller ID"] == "No number to call"
    assert metric_values(app)["Callbacks owed"] == "1"
    app = open_day(list="Abandoned", owed="true")
    assert [row[1] for row in tables(app)["Abandoned calls"]] == ["+49301234506"]


@pytest.mark.parametrize("name", ["Abandoned", "By queue", "By number called", "Agents", "Repeat callers", "Transfers"])
def test_every_list_shows_the_selection_and_a_button_that_clears_it(day: int, name: str) -> None:
    app = open_day(
        list=name, selection=f"from={int(TEN.timestamp())}&until={int(TEN.timestamp()) + 3600}&kind=abandoned"
    )
    assert f"{TEN.astimezone(BERLIN):%H:%M}" in page_text(app)
    assert ", abandoned" in page_text(app)
    assert "Show all" in [button.label for button in app.button]
    for label, rows in tables(app).items():
        assert label != "Transfers"
        assert len(rows) == (3 if label == "Abandoned calls" else 1), label


def test_visits_are_grouped_by_queue_number_agent_and_target(day: int) -> None:
    rows = tables(open_day(list="By queue"))["By queue"]
    assert [row[:4] for row in rows] == [
        ["600 | target 20 s", "7", "4 | 57.1%", "3 | 42.9%"],
        ["601 | target 20 s", "1", "0 | 0.0%", "0 | 0.0%"],
    ]
    assert rows[0][4:7] == ["75.0% | 3 of 4", "71.4% | 5 of 7", "50.0% | 3 of 6"]
    assert rows[1][4] == "n/a"
    assert [row[0] for row in tables(open_day(list="By number called"))["By number called"]] == ["4930555", "Unknown"]
    assert [row[:2] for row in tables(open_day(list="Agents"))["Agents"]] == [["Ada", "3"], ["Bob", "1"]]
    assert tables(open_day(list="Transfers"))["Transfers"] == [["700", "1", "100.0%"]]
    assert "No caller called more than once in this period" in page_text(open_day(list="Repeat callers"))


def test_names_with_markup_are_shown_as_text(engine: Engine, pbx: int) -> None:
    visits = [
        visit(n, "answered", 1, 1, queue=name, agent=name, caller=name, caller_name=name, did=name, target=name)
        for n, name in enumerate(TEXTS_WITH_MARKUP)
    ]
    with writing(engine) as session:
        store_visits(session, pbx, visits, "queue_log")
        record_snapshot(session, pbx, snapshot_of_queues(*TEXTS_WITH_MARKUP))
    for name in ("Calls", "Abandoned", "By queue", "Agents"):
        app = open_day(list=name)
        assert "<script>alert" not in page_text(app)
    assert "<script>alert" not in page_text(without_errors(open_page(WALLBOARD)))


def test_an_exported_call_that_had_not_ended_was_in_progress_at_export(
    engine: Engine, day: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing(engine) as session:
        store_visits(session, day, [visit(9, "in_progress", 0, ended_at=None)], "queue_log")
    assert listed_outcomes(open_day())[0] == "In progress"
    that_day = str(TEN.astimezone(BERLIN).date())
    query = {"period": "Custom range", "days": [that_day, that_day]}
    exported = exported_tables(QUEUES, query, monkeypatch)["visits"]
    assert [row["Outcome"] for row in exported[:2]] == ["In progress at export", "Timed out"]


def test_the_wallboard_shows_now_and_today(engine: Engine, pbx: int) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    today = [
        visit(n, outcome, wait_s, 5, joined_at=now)
        for n, (outcome, wait_s) in enumerate([("answered", 5), ("answered", 25), ("abandoned", 30)])
    ]
    with writing(engine) as session:
        record_snapshot(session, pbx, snapshot_of_queues("600", "601"))
        store_visits(session, pbx, today, "live")
    board = wallboard_html(without_errors(open_page(WALLBOARD)))
    first, second = board.split("</section>")[:2]
    assert ">600<" in first
    for text in (">2<", ">0:45<", "33%", "1 of 3"):  # waiting, longest wait, within target today
        assert text in first
    assert first.count('<span class="mid ">1</span>') == 4  # free, on a call, paused, abandoned
    assert "n/a" in second


@pytest.mark.parametrize(("query", "tone"), [({}, "warn"), ({"bad": "40"}, "bad"), ({"warn": "46"}, "good")])
def test_the_wallboards_colour_limits_are_set_in_the_url(
    engine: Engine, pbx: int, query: dict[str, str], tone: str
) -> None:
    with writing(engine) as session:
        record_snapshot(session, pbx, snapshot_of_queues("600"))
    assert f'<section class="{tone}">' in wallboard_html(without_errors(open_page(WALLBOARD, **query)))


def test_the_wallboard_shows_the_selected_queue_and_a_link_to_queues(engine: Engine, pbx: int) -> None:
    with writing(engine) as session:
        record_snapshot(session, pbx, snapshot_of_queues("600", "601"))
    app = without_errors(open_page(WALLBOARD, queue="601"))
    assert wallboard_html(app).count("<section") == 1
    assert ">601<" in wallboard_html(app)
    assert "Back to Queues" in [link.proto.label for link in app.get("page_link")]


def test_the_page_shows_members_callers_and_charts(engine: Engine) -> None:
    add_sample_data(engine)
    app = without_errors(open_page(QUEUES))
    shown = tables(app)
    assert shown["Queues"][0][:4] == ["support", "1", "1 min 23 s", "1 of 2"]
    assert [row[1] for row in shown["Members"]] == ["Free", "Paused | support"]
    assert shown["Callers waiting"] == [["1", "support | +4930123", "1 min 23 s"]]
    assert len(app.get("plotly_chart")) == 3
