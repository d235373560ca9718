"""The page Transcription: the queue's state, its buttons, failures and rules."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.settings import Settings, load_settings
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.engine import reading, writing
from pbx.store.models import RecordingRow, TranscriptionRules, now
from pbx.store.pbx_connections import active_connection, save_connection
from tests.pages.page_reader import open_page, page_text, press, tables, without_errors
from tests.unit.transcription.scripted_engine import add_recording, request_transcription, states

pytestmark = pytest.mark.usefixtures("no_worker")

PAGE = "pages/settings/transcription.py"
WORKER = "transcriber-0"


@pytest.fixture
def settings(no_real_data: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("FREEPBX_HOST", "pbx.example.com")
    return load_settings()


@pytest.fixture
def engine(engine: Engine, settings: Settings) -> Engine:
    assert settings.connection is not None
    save_connection(engine, settings, settings.connection)
    return engine


def pbx(engine: Engine, settings: Settings) -> int:
    active = active_connection(engine, settings)
    assert active is not None
    return active.id


def fill_queue(engine: Engine, settings: Settings) -> list[int]:
    """Add six recordings of 20 s: one new, two queued, one transcribed up to 5 s, one failed, one completed."""
    numbers = [add_recording(engine, settings) for _ in range(6)]
    request_transcription(engine, settings, *numbers[1:])
    with writing(engine) as session:
        claims.claim_recordings(session, pbx(engine, settings), WORKER, "", 3)
        claims.report_transcribed(session, WORKER, 6, 20.0, 2.0)
        claims.complete(session, WORKER, 6, 20.0)
        claims.fail(session, WORKER, 5, "It holds a header and no sound. There is nothing to hear.")
        claims.report_transcribed(session, WORKER, 4, 5.0, 1.0)
    return numbers


def metric_values(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_the_page_shows_the_progress_of_all_recordings(engine: Engine, settings: Settings) -> None:
    fill_queue(engine, settings)
    app = without_errors(open_page(PAGE))
    assert metric_values(app) == {"Transcribing": "1", "Queued": "2", "Completed": "1", "Failed": "1", "New": "1"}
    bars = [bar.proto for bar in app.get("progress")]
    assert [bar.value for bar in bars] == [45, 25]  # 45 s of 100 s in all, 5 s of 20 s of the current recording
    progress = bars[0].text.replace("\\", "")
    assert progress == "3 recordings left, 55 s of audio, done in about 6 s at 10.0 times real time"
    assert [row[:2] for row in tables(app)["Next"]] == [["r3", "20 s"], ["r2", "20 s"]]
    assert "It holds a header and no sound" in page_text(app)
    assert "Downloaded when the first recording is transcribed" in page_text(app)


def test_the_queue_is_empty_before_the_first_sync(engine: Engine) -> None:
    app = without_errors(open_page(PAGE))
    assert set(metric_values(app).values()) == {"0"}
    assert [button.label for button in app.main.button if "Retry" in button.label or "Cancel" in button.label] == []


def test_transcription_is_paused_and_resumed(engine: Engine, settings: Settings) -> None:
    fill_queue(engine, settings)
    app = press(without_errors(open_page(PAGE)), "Pause")
    assert "Transcription is paused" in page_text(app)
    with reading(engine) as session:
        assert transcriptions.rules_of(session, pbx(engine, settings)).paused
    app = press(app, "Resume")
    assert "Transcription is paused" not in page_text(app)


def test_one_recording_is_cancelled_and_then_all(engine: Engine, settings: Settings) -> None:
    fill_queue(engine, settings)
    app = press(without_errors(open_page(PAGE)), "Cancel")
    assert states(engine) == {2: "queued", 3: "queued", 4: "new", 5: "failed", 6: "completed"}
    press(app, "Cancel all")
    assert states(engine) == {2: "new", 3: "new", 4: "new", 5: "failed", 6: "completed"}


def test_failed_recordings_are_retried(engine: Engine, settings: Settings) -> None:
    fill_queue(engine, settings)
    app = press(without_errors(open_page(PAGE)), "Retry")
    assert states(engine)[5] == "queued"
    assert metric_values(app)["Failed"] == "0"
    with writing(engine) as session:
        claims.claim_recordings(session, pbx(engine, settings), WORKER, "", 1)
        claims.fail(session, WORKER, 5, "Broken.")
    press(without_errors(open_page(PAGE)), "Retry all")
    assert states(engine)[5] == "queued"


def test_all_new_recordings_are_queued_with_one_click(engine: Engine, settings: Settings) -> None:
    fill_queue(engine, settings)
    app = press(without_errors(open_page(PAGE)), "Transcribe 1 new recording")
    assert states(engine)[1] == "queued"
    assert [toast.value for toast in app.toast] == ["1 recording queued."]


def test_a_blocked_reason_is_shown_and_retried_on_request(engine: Engine, settings: Settings) -> None:
    why = "The model base could not be downloaded. Fetch https://example.com/base.pt into data/models."
    with writing(engine) as session:
        transcriptions.set_blocked_reason(session, pbx(engine, settings), why, now() + timedelta(minutes=9))
    app = without_errors(open_page(PAGE))
    assert "could not be downloaded" in page_text(app)
    assert "Next attempt at" in page_text(app)
    app = press(app, "Try again now")
    assert "could not be downloaded" not in page_text(app)


def test_rules_are_saved_and_shown_in_the_form(engine: Engine, settings: Settings) -> None:
    add_recording(engine, settings)
    app = without_errors(open_page(PAGE))
    app.toggle[0].set_value(False)
    next(field for field in app.number_input if field.label.startswith("Minimum length")).set_value(10)
    next(field for field in app.number_input if field.label.startswith("Longest recording")).set_value(60)
    next(field for field in app.multiselect if field.label == "Queues").set_value(["sales"])
    next(field for field in app.multiselect if field.label == "Directions").set_value(["inbound", "outbound"])
    press(app, "Save rules")
    with reading(engine) as session:
        rules = transcriptions.rules_of(session, pbx(engine, settings))
    expected = TranscriptionRules(
        connection_id=rules.connection_id,
        automatic=False,
        min_duration_s=10.0,
        max_duration_s=3600.0,
        queues=["sales"],
        directions=["inbound", "outbound"],
    )
    assert rules == expected
    assert (
        next(f for f in without_errors(open_page(PAGE)).number_input if f.label.startswith("Minimum length")).value
        == 10
    )


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "**r** [a](http://x.example) :red[c]"])
def test_names_and_reasons_with_markup_are_shown_as_text(engine: Engine, settings: Settings, name: str) -> None:
    fill_queue(engine, settings)
    with writing(engine) as session:
        for number in (4, 5):
            session.add(session.get_one(RecordingRow, number).sqlmodel_update({"name": f"{number}{name}"}))
        row = transcriptions.state_of(session, 5)
        assert row is not None
        row.error = name
        session.add(row)
    app = without_errors(open_page(PAGE))
    shown = "\n".join([*(element.value for element in app.markdown), *(bar.proto.text for bar in app.get("progress"))])
    assert "<script>" not in shown.replace("\\<script\\>", "")
    assert "**r** [a]" not in shown
