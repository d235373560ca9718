"""The demo on the pages: starting it, its label on every page, removing it. Real data stay unchanged."""

import json
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import SecretStr
from streamlit.testing.v1 import AppTest

from pbx.demo import process
from pbx.demo.lifecycle import demo_dir, demo_state, was_removed
from pbx.errors import SettingsError
from pbx.imports.job import import_history
from pbx.settings import DEMO_MARK, Connection, Settings, load_folder_settings, load_settings
from pbx.store.engine import open_engine
from pbx.store.job_queue import required_connection
from pbx.store.pbx_connections import forget_saved, save_connection
from tests.pages import page_reader
from tests.pages.page_reader import opened_url, page_text, press, without_errors
from tests.paths import ROOT

PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "pages").rglob("*.py"))
TODAY, SETTINGS, CALLS = "pages/today/overview.py", "pages/settings/freepbx.py", "pages/calls/interactions.py"
TRANSCRIPTS = "pages/calls/transcripts.py"
NO_PBX = "No PBX is connected yet"


@pytest.fixture(autouse=True)
def started_demos(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings for which pages would have started a demo (tests/unit/demo/test_lifecycle.py starts one)."""
    started: list[Settings] = []
    monkeypatch.setattr("pbx.ui.sidebar.ensure_worker", lambda settings: None)
    monkeypatch.setattr("pbx.ui.demo.ensure_demo", lambda settings: None)
    monkeypatch.setattr("pbx.ui.demo.start_demo", started.append)
    return started


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A running demo with a history of six hours, without its process."""
    monkeypatch.setattr(process, "FIRST_HISTORY_LENGTH", timedelta(hours=6))
    stop = threading.Event()
    process.run_demo(load_folder_settings(), stop, ready=lambda ami_port, ari_port: stop.set())
    return load_settings()


def open_page(page: str = TODAY, **query: str) -> AppTest:
    """Open a page and assert that it raised no exception."""
    return without_errors(page_reader.open_page(page, **query))


def real_rows(settings: Settings) -> list[str]:
    """The complete content of the real cache, as SQL."""
    database = sqlite3.connect(settings.home_dir / "pbx.sqlite")
    try:
        return list(database.iterdump())
    finally:
        database.close()


@pytest.mark.parametrize("page", [one for one in PAGES if one != SETTINGS])
def test_without_a_pbx_every_page_offers_the_demo(page: str, started_demos: list[Settings]) -> None:
    app = open_page(page)
    assert NO_PBX in page_text(app)
    assert {"Connect your FreePBX", "Try with a demo PBX"} <= {button.label for button in app.button}
    press(app, "Try with a demo PBX")
    assert [settings.demo_id for settings in started_demos] == [""]


def test_the_settings_page_offers_the_demo(started_demos: list[Settings]) -> None:
    press(open_page(SETTINGS), "Try with a demo PBX")
    assert len(started_demos) == 1


def test_the_page_says_that_the_demo_is_being_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    from pbx.demo.lifecycle import DemoState

    monkeypatch.setattr("pbx.ui.demo.demo_state", lambda settings: DemoState("preparing", 0.4))
    app = open_page()
    assert "The demo PBX is being prepared" in page_text(app)
    assert app.button == [] or all(button.label != "Try with a demo PBX" for button in app.button)


def test_an_error_during_preparation_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from pbx.demo.lifecycle import DemoState

    monkeypatch.setattr("pbx.ui.demo.demo_state", lambda settings: DemoState("off", 0.0, "Not enough disk space."))
    app = open_page()
    assert "Not enough disk space" in page_text(app)
    assert "Try with a demo PBX" in {button.label for button in app.button}


def test_every_page_has_the_demo_label_and_one_click_removes_the_demo(demo: Settings) -> None:
    for page in PAGES:
        app = open_page(page)
        assert "data-label-pill" in page_text(app), page
        assert "<b>Demo PBX</b><span>Made-up calls</span>" in page_text(app), page
        assert NO_PBX not in page_text(app), page
    app = open_page(SETTINGS)
    labels = {button.label for button in app.button}
    assert {"Remove the demo and connect your FreePBX", "Remove the demo"} <= labels
    assert not {"Save settings", "Check connection", "Delete saved settings"} & labels
    app = press(app, "Remove the demo")
    assert not demo_dir(demo).exists()
    assert "made-up calls" not in page_text(app)
    assert NO_PBX in page_text(app)
    assert was_removed(demo)


def test_connecting_a_real_pbx_removes_the_demo_and_opens_the_form(demo: Settings) -> None:
    app = press(open_page(SETTINGS), "Remove the demo and connect your FreePBX")
    assert "Save settings" in {button.label for button in app.button}
    assert "made-up calls" not in page_text(app)
    assert not demo_dir(demo).exists()


def test_another_session_forgets_the_open_call_of_a_removed_demo(demo: Settings) -> None:
    """The URL of an open demo call must not open a call of the real cache."""
    app = open_page(CALLS, call="1")
    app.session_state["picked_moment"] = (1, 2.0, "x")
    (demo_dir(demo) / DEMO_MARK).unlink()
    app = without_errors(app.run())
    assert NO_PBX in page_text(app)
    assert "call" not in app.query_params
    assert "picked_moment" not in app.session_state


def test_a_transcript_from_a_script_says_that_no_model_made_it(demo: Settings) -> None:
    database = sqlite3.connect(demo.pbx_data_dir / "pbx.sqlite")
    call_id = database.execute("SELECT call_id FROM recordings LIMIT 1").fetchone()[0]
    database.close()
    app = open_page(CALLS, call=str(call_id))
    assert "Transcript from a script, not made by a speech model" in page_text(app)


def follow(app: AppTest, page: str) -> AppTest:
    """Open the page that the app sent the browser to, in the same session."""
    app.switch_page(page)
    for name, value in parse_qsl(urlsplit(opened_url(app)).query):
        app.query_params[name] = value
    return app.run()


def test_today_links_to_a_call_that_plays_a_search_and_a_queues_day(demo: Settings) -> None:
    app = follow(press(open_page(), "Play a call and read along"), CALLS)
    assert "You have charged me twice" in json.dumps(components(app))
    assert any(data.get("seek", {}).get("play") for data in components(app) if data.get("seek"))
    assert "mentions in" in page_text(follow(press(open_page(), "Search transcripts for “invoice”"), TRANSCRIPTS))
    assert opened_url(press(open_page(), "See yesterday in queue 601")) == "queues?period=Yesterday&queue=601"


def test_each_example_search_has_matches(demo: Settings) -> None:
    examples = [
        button.label for button in open_page(TRANSCRIPTS).button if button.key and button.key.startswith("try ")
    ]
    assert len(examples) == 6
    for example in examples:
        assert "No matches" not in page_text(press(open_page(TRANSCRIPTS), example)), example


def components(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def test_the_demo_changes_no_row_of_the_real_cache(no_real_data: Path, demo: Settings) -> None:
    """Opening pages in the demo and removing it keeps even the data of a PBX that was disconnected before."""
    real = load_folder_settings()
    engine = open_engine(real)
    save_connection(
        engine, real, Connection(host="pbx.example.com", ami_port=5038, ari_port=8088, ami_password=SecretStr("secret"))
    )
    forget_saved(engine)
    engine.dispose()
    before = real_rows(real)
    app = open_page()
    press(app, "Sync FreePBX")
    for page in PAGES:
        open_page(page)
    press(open_page(SETTINGS), "Remove the demo")
    assert real_rows(real) == before
    assert any("pbx.example.com" in row for row in before)
    assert demo_state(real).status == "off"


def test_real_history_cannot_be_imported_into_the_demo(demo: Settings) -> None:
    app = open_page("pages/settings/data_import.py")
    assert "This is the demo PBX, with its own made-up call history" in page_text(app)
    assert not app.get("file_uploader")
    engine = open_engine(demo)
    try:
        with pytest.raises(SettingsError, match="made-up calls only"):
            import_history(engine, demo, required_connection(engine, demo), {"files": ["x"]}, None, threading.Event())
    finally:
        engine.dispose()
