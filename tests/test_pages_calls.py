"""The figures of calls, on a day worked by hand, and the way from each to its calls."""

from collections.abc import Iterator
from datetime import date

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.settings import load_settings
from pbx.store.engine import open_engine
from tests.happened import DAY, add_calls
from tests.test_pages import open_page, save_pbx, tables, well, words

FIGURES = "pages/calls/figures.py"
INTERACTIONS = "pages/calls/interactions.py"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.ui.panel.ensure_worker", lambda settings: None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = open_engine(load_settings())
    yield opened
    opened.dispose()


@pytest.fixture
def filled(engine: Engine) -> int:
    pbx = save_pbx(engine)
    add_calls(engine, pbx)
    return pbx


def metrics(app: AppTest) -> dict[str, tuple[str, str]]:
    return {metric.label: (metric.value, metric.delta) for metric in app.metric}


def picking(what: str, *parts: object, **query: object) -> AppTest:
    """The page after a bar was clicked on: what the chart's callback leaves."""
    app = well(open_page(FIGURES, **(DAY | query)))
    app.session_state["picked_figure"] = (what, *parts)
    return well(app.run())


def test_headline_figures_are_those_worked_by_hand(filled: int) -> None:
    app = well(open_page(FIGURES, **DAY))
    assert metrics(app) == {
        "Calls": ("5", "+400%"),
        "Inbound": ("2", "+100%"),
        "Outbound": ("3", ""),
        "Answered": ("40.0%", "-60.0 pp"),  # 2 of 5, and 1 of 1 before
        "Average talk": ("1:30", "+1:00"),  # (60 + 120) / 2, and 30 before
        "Average wait": ("0:08", "-0:02"),  # (10 + 5) / 2, and 10 before
    }


def test_the_table_breaks_down_by_what_is_asked(filled: int) -> None:
    rows = tables(well(open_page(FIGURES, **DAY)))["Calls by Direction"]
    assert [row[:3] for row in rows] == [
        ["↗ Outbound", "3", "33.3% | 1 of 3"],
        ["↙ Inbound", "2", "50.0% | 1 of 2"],
    ]
    by_number = tables(well(open_page(FIGURES, **DAY, by="Number")))["Calls by Number"]
    assert [row[:5] for row in by_number] == [
        ["040222", "2", "0", "2", "0"],
        ["+4930111", "2", "2", "0", "0"],
        ["040999", "1", "0", "1", "0"],
    ]
    by_hour = tables(well(open_page(FIGURES, **DAY, by="Hour")))["Calls by Hour"]
    assert [row[:2] for row in by_hour] == [["Mon 2 Mar 2026, 09:00", "2"], ["Mon 2 Mar 2026, 14:00", "3"]]


def test_one_direction_alone(filled: int) -> None:
    app = well(open_page(FIGURES, **DAY, direction="Inbound"))
    assert metrics(app)["Calls"][0] == "2"
    assert tables(app)["Calls by Direction"][0][0] == "↙ Inbound"


@pytest.mark.parametrize(
    ("clicked", "title", "senders"),
    [
        (("week", 0, 9), "Calls on Mondays, 09:00 – 10:00", ["+4930111", "+4930111"]),
        (("week", 1, 9), "Calls on Tuesdays, 09:00 – 10:00", []),
        (("number", "+49 30 111"), "Calls with +49 30 111", ["+4930111", "+4930111"]),
        (("disposition", "BUSY"), "Calls: Busy", ["1001"]),
        (("did", "4930555"), "Calls: 4930555", ["+4930111", "+4930111"]),
        (("direction", "outbound"), "Calls: ↗ Outbound", ["1001", "1001", "1001"]),
        (
            ("time", "2026-03-02T13:00:00+00:00", "2026-03-02T14:00:00+00:00", "outbound"),
            "↗ Outbound, Mon 2 Mar 14:00 – 15:00",
            ["1001", "1001", "1001"],
        ),
    ],
)
def test_a_click_lists_the_calls_behind(
    filled: int, clicked: tuple[object, ...], title: str, senders: list[str]
) -> None:
    assert [row[1] for row in tables(picking(*clicked))[title]] == senders


def test_a_list_leads_to_the_same_calls_in_interactions(filled: int) -> None:
    app = picking("direction", "outbound")
    assert any(button.label == "Open in Interactions" for button in app.button)
    day = date(2026, 3, 2)  # what the button hands over: AppTest can't click within a window
    app.session_state["filters_led_with"] = {"period": "Between", "days": (day, day), "direction": "outbound"}
    app.switch_page(INTERACTIONS)
    assert [row[1] for row in tables(well(app.run()))["Calls"]] == ["1001", "1001", "1001"]


def test_without_history_the_page_says_how_it_arrives(engine: Engine) -> None:
    save_pbx(engine)
    app = well(open_page(FIGURES))
    assert "python -m pbx import cdr" in words(app)
    assert "python -m pbx watch" in words(app)


def test_an_opened_call_shows_its_legs(filled: int) -> None:
    app = well(open_page(INTERACTIONS, call="4"))
    assert tables(app)["Legs"] == [
        [
            "1001 | PJSIP/1001-00000004",
            "040222 | PJSIP/carrier-00000004",
            "carrier | from-internal",
            "14:30:00 | rang after 2.5 s",
            "–",
            "14:30:03",
            "Busy | User busy (17)",
        ]
    ]
