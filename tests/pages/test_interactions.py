"""The page Interactions: the list of calls, its filters and pages, and the call that its URL opens."""

import wave
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from pbx.settings import load_settings
from tests.pages.page_reader import INTERACTIONS, open_page, page_text, tables, without_errors
from tests.pages.sample_data import add_call, add_sample_data, save_pbx

pytestmark = pytest.mark.usefixtures("no_worker")


def test_filters_are_read_from_the_url(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    long_ago = datetime.now(UTC) - timedelta(days=90)
    add_call(engine, pbx, "+49301111", long_ago, direction="outbound", state="empty")
    assert len(tables(without_errors(open_page(INTERACTIONS)))["Calls"]) == 2
    for query in ({"number": "30 1111"}, {"direction": "Outbound"}, {"state": "Empty recording"}):
        rows = tables(without_errors(open_page(INTERACTIONS, **query)))["Calls"]
        assert [row[1] for row in rows] == ["+49301111"], query
    assert [row[1] for row in tables(without_errors(open_page(INTERACTIONS, period="Today")))["Calls"]] == ["support"]
    assert [row[1] for row in tables(without_errors(open_page(INTERACTIONS, queue="support")))["Calls"]] == ["support"]
    assert "No calls match" in page_text(without_errors(open_page(INTERACTIONS, number="999999")))


def test_a_long_list_is_split_into_pages(engine: Engine) -> None:
    pbx = save_pbx(engine)
    now = datetime.now(UTC)
    for minutes in range(20):
        add_call(engine, pbx, f"10{minutes:02}", now - timedelta(minutes=minutes))
    app = without_errors(open_page(INTERACTIONS))
    assert [len(tables(app)["Calls"]), tables(app)["Calls"][0][1]] == [15, "1000"]
    assert "20 calls, times in" in page_text(app)
    assert "1–15 of 20" in page_text(app)


def test_the_url_opens_a_call_with_its_audio_player(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    call = add_call(engine, pbx, "+4930777", datetime.now(UTC))
    audio = load_settings().audio_dir
    audio.mkdir(parents=True)
    with wave.open(str(audio / f"{call}.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    app = without_errors(open_page(INTERACTIONS, call=str(call)))
    assert "+4930777" in page_text(app)
    assert len(app.get("audio")) == 1
    assert "8 kHz, mono, 1 s" in page_text(app)


@pytest.mark.parametrize("call", ["", "x", "-1", "999999", "9" * 40])
def test_an_unknown_call_in_the_url_shows_the_list(engine: Engine, call: str) -> None:
    add_sample_data(engine)
    assert len(tables(without_errors(open_page(INTERACTIONS, call=call)))["Calls"]) == 1


def test_a_recording_that_was_not_downloaded_shows_the_reason(engine: Engine) -> None:
    pbx = save_pbx(engine)
    call = add_call(engine, pbx, "1001", datetime.now(UTC), state="waiting")
    assert "Still being recorded" in page_text(without_errors(open_page(INTERACTIONS, call=str(call))))
    lost = add_call(engine, pbx, "1002", datetime.now(UTC))
    assert "no longer in data/audio" in page_text(without_errors(open_page(INTERACTIONS, call=str(lost))))
