"""Trunks over a period, on a day worked by hand: what got through, how full, whether they stood."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.settings import load_settings
from pbx.store.engine import open_engine
from tests.happened import DAY, add_calls, look_at_trunk
from tests.test_pages import open_page, save_pbx, tables, well, words

TRUNKS = "pages/live/trunks.py"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.ui.panel.ensure_worker", lambda settings: None)


@pytest.fixture
def engine() -> Iterator[Engine]:
    opened = open_engine(load_settings())
    pbx = save_pbx(opened)
    add_calls(opened, pbx)
    look_at_trunk(opened, pbx)
    yield opened
    opened.dispose()


def picking(what: str, *parts: object) -> AppTest:
    app = well(open_page(TRUNKS, **DAY))
    app.session_state["picked_figure"] = (what, *parts)
    return well(app.run())


def test_headline_figures_are_those_worked_by_hand(engine: Engine) -> None:
    app = well(open_page(TRUNKS, **DAY))
    assert {metric.label: (metric.value, metric.delta) for metric in app.metric} == {
        "Seizures": ("5", "+400%"),
        "ASR": ("40.0%", "-60.0 pp"),  # 2 of 5
        "NER": ("80.0%", "-20.0 pp"),  # answered 2, no answer 1, busy 1
        "ACD": ("1:30", "+1:00"),
        "PDD": ("2.0", ""),  # (1.5 + 2.5) / 2, of the outbound ones
        "Most at once": ("1", ""),
        "Busy hour, erlang": ("0.04", "+220%"),  # 128 s in the hour from two, and 40 s before
        "Lines for 1 % loss": ("2", ""),  # 0.036 E: one line loses 3.4 %; 0.011 E: 1.1 %
    }


def test_registration_is_of_the_time_observed(engine: Engine) -> None:
    app = well(open_page(TRUNKS, **DAY))
    assert tables(app)["Registration"] == [
        ["carrier", "75.00% | 15:00 of 20:00", "n/a", "1", "1.4% | 20:00 of 1 d 0 h"],
    ]
    assert len(app.get("plotly_chart")) == 3  # states, round trip, channels
    assert tables(app)["Trunks"][0][0] == "carrier | PJSIP"


def test_figures_of_each_trunk_carry_what_they_are_made_of(engine: Engine) -> None:
    app = well(open_page(TRUNKS, **DAY, trunk_view="Calls"))
    assert tables(app)["Figures of trunks"] == [
        ["carrier", "5 | 3 outbound", "40.0% | 2 of 5", "80.0% | 4 of 5", "1:30 | 180 s / 2", "2.0 s | 4 s / 2", "1"]
    ]


def test_the_busy_hour_tells_how_many_lines_are_needed(engine: Engine) -> None:
    said = words(well(open_page(TRUNKS, **DAY, trunk_view="Load", lines="1")))
    assert "Busy hour: Mon 2 Mar 14:00 with 0.04 erlang (128 busy seconds / 3600), at most 1 at once." in said
    assert "2 lines would lose at most 1 % of its calls" in said
    assert "With 1 line 3.43 % of them find all lines busy." in said  # A / (1 + A)
    without = words(well(open_page(TRUNKS, **DAY, trunk_view="Load")))
    assert "No limit of lines is set here" in without


@pytest.mark.parametrize(
    ("clicked", "title", "called"),
    [
        (("cause", "17|"), "Calls of all trunks: User busy (17)", ["040222"]),
        (("cause", "16|"), "Calls of all trunks: Normal clearing (16)", ["040222", "1001"]),
        (("trunk", "carrier"), "Calls of carrier", ["040999", "040222", "040222", "1001", "1001"]),
        (
            ("time", "2026-03-02T08:00:00+00:00", "2026-03-02T09:00:00+00:00"),
            "Calls of all trunks, 2 Mar 09:00 – 2 Mar 10:00",
            ["1001", "1001"],
        ),
    ],
)
def test_a_click_lists_the_seizures_behind(
    engine: Engine, clicked: tuple[str, ...], title: str, called: list[str]
) -> None:
    assert [row[2] for row in tables(picking(*clicked))[title]] == called


def test_a_trunk_without_calls_shows_how_history_arrives(engine: Engine) -> None:
    app = well(open_page(TRUNKS, **DAY, trunk_view="Calls", trunk="mobile"))
    assert "python -m pbx import cdr" in words(app)
    assert not app.metric
