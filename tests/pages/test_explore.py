"""The page Explore, on a day calculated by hand: figures, breakdowns, and the calls in each selection."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
from sqlalchemy import Engine, text
from streamlit.testing.v1 import AppTest

from pbx import ui
from pbx.store.engine import writing
from pbx.store.legs import store_legs
from tests.pages.page_reader import exported_tables, open_page, opened_url, page_text, tables, without_errors
from tests.pages.sample_data import add_call, add_sample_data, save_pbx
from tests.unit.charts.page_charts import charts, points
from tests.unit.sample_history import DAY, add_calls, add_listening_span, clock, leg

pytestmark = pytest.mark.usefixtures("no_worker")

EXPLORE = "pages/calls/explore.py"
INTERACTIONS = "pages/calls/interactions.py"


@pytest.fixture
def filled(engine: Engine) -> int:
    pbx = save_pbx(engine)
    add_calls(engine, pbx)
    return pbx


def metrics(app: AppTest) -> dict[str, tuple[str, str]]:
    return {metric.label: (metric.value, metric.delta) for metric in app.metric}


def open_selection(selection: str, **query: object) -> AppTest:
    """Open the page as its URL is after a click on a bar."""
    return without_errors(open_page(EXPLORE, **(DAY | {"selection": selection} | query)))


def test_headline_figures_match_manual_calculation(filled: int, engine: Engine) -> None:
    add_listening_span(engine, filled, clock(-24), clock(24))
    app = without_errors(open_page(EXPLORE, **DAY))
    assert metrics(app) == {
        "Calls": ("5", "+400%"),
        "Inbound": ("2", "+100%"),
        "Outbound": ("3", ""),
        "Answer rate": ("40.0%", "-60.0 pp"),  # 2 of 5, and 1 of 1 before
        "Average talk time": ("1 min 30 s", "+1 min"),  # (60 + 120) / 2, and 30 before
        "Average wait time": ("8 s", "-2 s"),  # (10 + 5) / 2, and 10 before
    }


def test_no_comparison_with_a_day_that_has_partial_data(filled: int) -> None:
    """The day would be compared with the day before until 14:40, but the CDR begins at noon of that day."""
    app = without_errors(open_page(EXPLORE, **DAY))
    assert {change for _, change in metrics(app).values()} == {""}
    assert "No comparison with the previous period: the data begins on 1 Mar at 12:00." in page_text(app)


def test_comparison_leaves_out_time_not_imported_yet(filled: int, engine: Engine) -> None:
    """The CDR ends at 14:40, so both days are compared until then. The day before has a call at noon."""
    add_listening_span(engine, filled, clock(-24), clock(-12))
    with writing(engine) as session:
        store_legs(session, filled, [leg(7, clock(-8), "+4930111", "1001", "ANSWERED", 16, billsec_s=30.0)], "cdr")
    app = without_errors(open_page(EXPLORE, **DAY))
    assert metrics(app)["Calls"] == ("5", "+400%")  # not +150%: the call at 16:00 is left out
    assert "Compared with 1 Mar 00:00 – 1 Mar 14:40." in page_text(app)


@pytest.mark.parametrize(
    ("unseen_minutes", "why"),
    [(14, ""), (15, "15 min of 1 Mar had no data")],
    ids=["less than a hundredth of a day", "more"],
)
def test_no_comparison_if_the_previous_day_has_a_gap(
    filled: int, engine: Engine, unseen_minutes: int, why: str
) -> None:
    """A hundredth of 24 hours is 14 min 24 s."""
    with writing(engine) as session:  # live events only, so that no import covers the gap
        session.exec(text("UPDATE call_legs SET source = 'live'"))  # type: ignore[call-overload]
    add_listening_span(engine, filled, clock(-48), clock(-20))
    add_listening_span(engine, filled, clock(-20, unseen_minutes), clock(24))
    app = without_errors(open_page(EXPLORE, **DAY))
    assert (f"No comparison with the previous period: {why}." in page_text(app)) == bool(why)
    assert metrics(app)["Calls"] == ("5", "" if why else "+400%")


def test_exported_directions_have_no_arrows(filled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exports = exported_tables(EXPLORE, DAY, monkeypatch)
    directions = {key: {row["Direction"] for row in rows} for key, rows in exports.items()}
    assert list(directions.values()) == [{"Inbound", "Outbound"}, {"Inbound", "Outbound"}]


def test_calls_are_grouped_by_the_selected_dimension(filled: int) -> None:
    rows = tables(without_errors(open_page(EXPLORE, **DAY)))["Calls by Direction"]
    assert [row[:3] for row in rows] == [
        ["↗ Outbound", "3", "33.3% | 1 of 3"],
        ["↙ Inbound", "2", "50.0% | 1 of 2"],
    ]
    by_number = tables(without_errors(open_page(EXPLORE, **DAY, by="External number")))["Calls by External number"]
    assert [row[:5] for row in by_number] == [
        ["040222", "2", "0", "2", "0"],
        ["+4930111", "2", "2", "0", "0"],
        ["040999", "1", "0", "1", "0"],
    ]
    by_hour = tables(without_errors(open_page(EXPLORE, **DAY, by="Hour")))["Calls by Hour"]
    assert [row[:2] for row in by_hour] == [["Mon 2 Mar 2026, 09:00", "2"], ["Mon 2 Mar 2026, 14:00", "3"]]


def test_the_direction_filters_all_figures(filled: int) -> None:
    app = without_errors(open_page(EXPLORE, **DAY, direction="Inbound"))
    assert metrics(app)["Calls"][0] == "2"
    assert tables(app)["Calls by Direction"][0][0] == "↙ Inbound"


@pytest.mark.parametrize(
    ("selection", "heading", "senders"),
    [
        ("weekday=0&hour=9", "2 calls: Mon 09:00–10:00", ["+4930111", "+4930111"]),
        ("weekday=1&hour=9", "0 calls: Tue 09:00–10:00", []),
        ("number=%2B49+30+111", "2 calls: with +49 30 111", ["+4930111", "+4930111"]),
        ("disposition=BUSY", "1 call: Busy", ["1001"]),
        ("did=4930555", "2 calls: number called 4930555", ["+4930111", "+4930111"]),
        ("did=", "3 calls: no number called", ["1001", "1001", "1001"]),
        ("direction=outbound", "3 calls: ↗ Outbound", ["1001", "1001", "1001"]),
        (
            "from=1772456400&until=1772460000&direction=outbound",
            "3 calls: Mon 2 Mar 14:00–15:00, ↗ Outbound",
            ["1001", "1001", "1001"],
        ),
        ("from=0&until=99999999999&weekday=8&hour=1&direction=up&nonsense=%", "All 5 calls", ["1001"] * 3),
    ],
)
def test_calls_of_a_bar_are_listed(filled: int, selection: str, heading: str, senders: list[str]) -> None:
    app = open_selection(selection)
    assert f">{heading}<" in page_text(app)
    assert [row[1] for row in tables(app).get("Calls", [])][: len(senders)] == senders


def test_each_bar_counts_the_calls_it_lists(filled: int) -> None:
    app = without_errors(open_page(EXPLORE, **DAY))
    for key in ("calls_by_time", "calls_by_number", "calls_by_disposition"):
        listed = [len(tables(open_selection(query))["Calls"]) for query in points(app, key)]
        assert sum(listed) == 5, key
        assert min(listed) > 0, key


def test_row_of_a_day_with_25_hours_lists_all_calls(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    pbx = save_pbx(engine)
    late = datetime(2026, 10, 25, 22, 30, tzinfo=UTC)  # half past eleven at night
    with writing(engine) as session:
        store_legs(session, pbx, [leg(1, late, "+4930111", "1001", "ANSWERED", 16, billsec_s=60.0)], "cdr")
    picks, draw = [datetime(2026, 10, 24, 22, tzinfo=UTC).isoformat()], ui.table

    def pick_once(label: str, *args: Any, **more: Any) -> str | None:
        draw(label, *args, **more)
        return picks.pop() if label == "Calls by Day" and picks else None

    monkeypatch.setattr(ui, "table", pick_once)
    app = without_errors(open_page(EXPLORE, period="Custom range", days=["2026-10-25", "2026-10-25"], by="Day"))
    assert not picks
    assert ">1 call: Sun 25 Oct<" in page_text(app)


def test_link_to_interactions_shows_the_same_calls(filled: int) -> None:
    app = open_selection("direction=outbound")
    next(button for button in app.button if button.label == "Open in Interactions").click()
    page, _, query = opened_url(without_errors(app.run())).partition("?")
    assert page == "interactions"
    assert [row[1] for row in tables(without_errors(open_page(INTERACTIONS, **parse_qs(query))))["Calls"]] == [
        "1001"
    ] * 3


def test_no_link_to_interactions_without_a_matching_filter(filled: int) -> None:
    for selection in ("disposition=BUSY", "weekday=0&hour=9", "from=1772456400&until=1772460000", "did=4930555"):
        assert "Open in Interactions" not in [button.label for button in open_selection(selection).button], selection


def test_limited_export_is_announced(filled: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Exports the newest" not in page_text(open_selection(""))
    monkeypatch.setattr("pbx.ui.exports.MAX_EXPORTED_ROWS", 3)
    assert "Exports the newest 3 of 5 rows. For older rows, select an earlier period." in page_text(open_selection(""))


def test_time_with_only_recordings_is_a_gap(engine: Engine) -> None:
    pbx = save_pbx(engine)
    add_call(engine, pbx, "+4930111", clock(9))
    app = without_errors(open_page(EXPLORE, **DAY))
    assert "No data for 24 h (100.0% of the period), in 1 gap" in page_text(app)
    assert "nothing earlier was recorded" in page_text(app)
    assert "No data" in str(charts(app)["calls_by_time"])


def test_empty_page_explains_how_to_get_history(engine: Engine) -> None:
    save_pbx(engine)
    app = without_errors(open_page(EXPLORE))
    assert "python -m pbx import cdr" in page_text(app)
    assert "python -m pbx watch" in page_text(app)


def test_open_call_shows_its_legs(filled: int) -> None:
    app = without_errors(open_page(INTERACTIONS, call="4"))
    assert tables(app)["Legs"] == [
        [
            "1001 | PJSIP/1001-00000004",
            "040222 | PJSIP/carrier-00000004",
            "carrier | from-internal",
            "14:30:00 | first ring after 2.5 s",
            "–",
            "14:30:03",
            "Busy | User busy (17)",
        ]
    ]


def test_agent_is_shown_with_the_name_from_the_queue(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    add_call(engine, pbx, "1", datetime.now(UTC), agent="1001")
    call = add_call(engine, pbx, "2", datetime.now(UTC), agent="1003")
    shown = [row[2] for row in tables(without_errors(open_page(INTERACTIONS)))["Calls"]]
    assert shown[:2] == ["600 | Agent 1003", "600 | Agent Ada (1001)"]
    assert "Agent 1003" in page_text(without_errors(open_page(INTERACTIONS, call=str(call))))
