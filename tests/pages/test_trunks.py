"""The page Trunks, on a day calculated by hand: call success, load and registration."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from pbx.store.engine import writing
from pbx.store.legs import store_legs
from pbx.ui.trunks import lines_of
from tests.pages.page_reader import exported_tables, open_page, page_text, tables, without_errors
from tests.pages.sample_data import add_sample_data, save_pbx
from tests.unit.charts.page_charts import charts, points
from tests.unit.sample_history import DAY, add_calls, add_listening_span, add_trunk_samples, clock, leg

pytestmark = pytest.mark.usefixtures("no_worker")

TRUNKS = "pages/live/trunks.py"


@pytest.fixture
def trunk_calls(engine: Engine) -> int:
    """Save a PBX with calls and five snapshots of its trunk. Returns the PBX's ID."""
    pbx = save_pbx(engine)
    add_calls(engine, pbx)
    add_trunk_samples(engine, pbx)
    return pbx


def test_headline_figures_match_figures_calculated_by_hand(engine: Engine, trunk_calls: int) -> None:
    add_listening_span(engine, 1, clock(-24), clock(24))
    app = without_errors(open_page(TRUNKS, **DAY))
    assert {metric.label.replace("\\", ""): (metric.value, metric.delta) for metric in app.metric} == {
        "Call attempts (seizures)": ("5", "+400%"),
        "Answer-seizure ratio (ASR)": ("40.0%", "-60.0 pp"),  # 2 of 5
        "Network effectiveness ratio (NER)": ("80.0%", "-20.0 pp"),  # answered 2, no answer 1, busy 1
        "Average call duration (ACD)": ("1 min 30 s", "+1 min"),
        "Post-dial delay (PDD)": ("2.0 s", ""),  # (1.5 + 2.5) / 2, outbound calls only
        "Peak concurrent calls": ("1", ""),
        "Busy hour traffic (erlangs)": ("0.04", "+220%"),  # 128 s in the hour from 14:00; the day before 40 s
        "Lines needed (1% blocking)": ("2", ""),  # 0.036 E: one line blocks 3.4%; 0.011 E: 1.1%
    }


def test_no_comparison_with_a_day_that_has_partial_data(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY))
    assert {metric.delta for metric in app.metric} == {""}
    assert "No comparison with the previous period: the data begins on 1 Mar at 12:00." in page_text(app)


def test_no_comparison_with_a_period_without_data(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, period="Custom range", days=["2026-03-01", "2026-03-02"]))
    metrics = {metric.label.replace("\\", ""): metric for metric in app.metric}
    found = {label: (one.value, one.delta, one.proto.delta_description) for label, one in metrics.items()}
    assert found["Call attempts (seizures)"] == ("6", "", "")  # not "from 0"
    assert found["Answer-seizure ratio (ASR)"] == ("50.0%", "", "")


def test_registration_is_a_share_of_the_observed_time(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY))
    assert tables(app)["Registration"] == [
        ["carrier", "75.00% | 15 min of 20 min", "n/a | 0.0% observed", "1", "1.4% | 20 min of 24 h"],
    ]
    assert len(app.get("plotly_chart")) == 3  # states, round trip, channels
    assert tables(app)["Trunks"][0][0] == "carrier | PJSIP"
    assert "in the data for this period; the chart is blank there" in page_text(app)


def test_without_gaps_there_is_no_note_about_them(trunk_calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx.ui.registrations.snapshot_gaps", lambda *args: [])
    assert "the chart is blank" not in page_text(without_errors(open_page(TRUNKS, **DAY)))


def test_the_figures_of_each_trunk_show_their_parts(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls"))
    assert tables(app)["Trunk figures"] == [
        [
            "carrier",
            "5 | 3 outbound",
            "40.0% | 2 of 5",
            "80.0% | 4 of 5",
            "1 min 30 s | 180 s ÷ 2",
            "2.0 s | 4 s ÷ 2",
            "1",
        ]
    ]


def test_ner_shows_calls_that_may_have_been_rejected(engine: Engine, trunk_calls: int) -> None:
    with writing(engine) as session:
        rejected = leg(8, clock(15), "1001", "040999", "FAILED", 0, outbound=True)
        store_legs(session, 1, [replace(rejected, cause=None)], "cdr")
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls"))
    assert tables(app)["Trunk figures"][0][3] == "66.7% | 4 of 6 or more"
    (ner,) = (metric for metric in app.metric if metric.label.startswith("Network effectiveness"))
    assert "1 failed call without a cause" in ner.help
    assert "NER is 83.3%" in ner.help.replace("\\", "")


def test_the_busy_hour_shows_the_lines_needed(trunk_calls: int) -> None:
    text = page_text(without_errors(open_page(TRUNKS, **DAY, trunk_view="Load")))
    assert "Busy hour: Mon 2 Mar 14:00 with 0.04 erlangs (128 s ÷ 3,600 s), peak 1 concurrent call." in text
    assert "2 lines would block at most 1% of its calls" in text
    assert "Set the trunk capacity above" in text


def test_the_capacity_of_a_trunk_is_set_once_and_compared(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Load"))
    app = without_errors(app.number_input(key="lines of carrier").set_value(1).run())
    for page in (app, without_errors(open_page(TRUNKS, **DAY, trunk_view="Load", trunk="carrier"))):
        assert "Peak use: 1 of 1 line (100%)" in page_text(page)
        assert "With 1 line, 3.43% of the busy hour’s" in page_text(page)  # A / (1 + A)
        assert [shape["y0"] for shape in charts(page)["trunk_load"]["layout"]["shapes"]] == [1]


def test_the_total_capacity_needs_the_capacity_of_every_trunk() -> None:
    assert lines_of({"carrier": 30, "mobile": 4}, ["carrier", "mobile"]) == 34
    assert lines_of({"carrier": 30}, ["carrier", "mobile"]) is None
    assert lines_of({}, []) is None


@pytest.mark.parametrize(
    ("selection", "text", "called"),
    [
        ("cause=17", "1 call: User busy (17)", ["040222"]),
        ("cause=16", "2 calls: Normal clearing (16)", ["040222", "1001"]),
        ("trunk=carrier", "5 calls: trunk carrier", ["040999", "040222", "040222", "1001", "1001"]),
        ("from=1772438400&until=1772442000", "2 calls: Mon 2 Mar 09:00–10:00", ["1001", "1001"]),
        ("disposition=BUSY", "0 calls: Busy, cause unknown", []),
        ("cause=999&from=x&trunk=", "All 5 calls", ["040999", "040222", "040222", "1001", "1001"]),
    ],
)
def test_a_selection_lists_its_seizures(trunk_calls: int, selection: str, text: str, called: list[str]) -> None:
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls", selection=selection))
    assert f">{text}<" in page_text(app)
    assert [row[2] for row in tables(app).get("Calls over trunks", [])] == called


def test_an_exported_call_that_had_not_ended_was_in_progress_at_export(
    engine: Engine, trunk_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = replace(leg(7, clock(15), "1001", "040333", "", 0, outbound=True), ended_at=None)
    with writing(engine) as session:
        store_legs(session, trunk_calls, [unfinished], "live")
    listed = tables(without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls")))["Calls over trunks"]
    assert listed[0][4].startswith("In progress")
    exported = exported_tables(TRUNKS, {**DAY, "trunk_view": "Calls"}, monkeypatch)["seizures"]
    assert [row["Outcome"] for row in exported[:2]] == ["In progress at export", "Failed"]


def test_the_bars_add_up_to_all_seizures(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls"))
    listed = [
        len(tables(without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls", selection=query)))["Calls over trunks"])
        for query in points(app, "trunk_causes")
    ]
    assert (sum(listed), min(listed)) == (5, 1)


def test_hours_without_data_have_no_concurrent_calls(trunk_calls: int) -> None:
    load = charts(without_errors(open_page(TRUNKS, **DAY, trunk_view="Load")))["trunk_load"]
    peaks, traffic, no_data = load["data"]
    # The CDR has data from the day before until 14:40, and none after that.
    assert [(point[0], value) for point, value in zip(peaks["customdata"], peaks["y"], strict=True)][-1][1] == 1
    assert len(peaks["y"]) == 15
    assert traffic["y"][15:] == [None] * 9
    assert no_data["customdata"] == [["", "Mon 2 Mar 14:40 – Tue 3 Mar 00:00"]]


def test_a_trunk_without_calls_shows_how_to_import_data(trunk_calls: int) -> None:
    app = without_errors(open_page(TRUNKS, **DAY, trunk_view="Calls", trunk="mobile"))
    assert "python -m pbx import cdr" in page_text(app)
    assert not app.metric


def test_trunks_show_state_now_and_over_time(engine: Engine) -> None:
    add_sample_data(engine)
    app = without_errors(open_page(TRUNKS))
    assert [row[:2] for row in tables(app)["Trunks"]] == [
        ["support | PJSIP", "Rejected"],
        ["carrier | PJSIP", "Registered"],
    ]
    assert len(app.get("plotly_chart")) == 2
