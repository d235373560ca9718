"""An open call on the page Interactions: its transcript in each state, tags, rating, note, edits, and errors."""

import json
import wave
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.errors import StorageFull
from pbx.model.segment import Segment, Word
from pbx.settings import load_settings
from pbx.speech.transcriber import TranscriptPart
from pbx.store.engine import reading, writing
from pbx.store.job_rows import fail_job, last_job, start_job
from pbx.store.models import CallNote, CallRow, RecordingRow, SegmentRow, Transcription
from pbx.store.notes import get_note, save_note, save_topic, set_tags, tags_of
from pbx.store.transcription_queue import state_of
from pbx.store.transcripts import (
    add_part,
    begin_transcript,
    edit_segment,
    finish_transcript,
    save_analysis,
    segments_of,
)
from pbx.transcription.analysis.run import Analysis, Quote
from pbx.ui.note_field import NoteAnswer
from pbx.ui.player import SegmentEdit
from tests.pages.page_reader import INTERACTIONS, open_page, page_text, press, tables, without_errors
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_call, save_pbx

pytestmark = pytest.mark.usefixtures("no_worker")

NOW = datetime.now(UTC)


@pytest.fixture
def pbx(engine: Engine) -> int:
    return save_pbx(engine)


def add_call_with_audio(engine: Engine, pbx: int, **changes: Any) -> int:
    """Add a call with one second of audio. The call and its recording have the same ID, which is returned."""
    call = add_call(engine, pbx, "+4930777", NOW, **({"direction": "inbound", "duration_s": 1.0} | changes))
    file = load_settings().audio_dir / f"{call}.wav"
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16_000))
    return call


def transcribe(engine: Engine, pbx: int, call: int, *segments: Segment, analysis: Analysis | None = None) -> int:
    """Save a complete transcript with these segments, and return its ID."""
    with writing(engine) as session:
        transcript = begin_transcript(session, call, "whisper", "base", "")
        assert transcript.id is not None
        add_part(
            session, transcript.id, TranscriptPart(0, segments, done_s=60.0, channels=2, duration_s=60.0), "inbound"
        )
        finish_transcript(session, transcript.id, 60.0)
        session.add(Transcription(recording_id=call, connection_id=pbx, state="completed"))
        session.get_one(CallRow, call).transcription = "completed"
        if analysis:
            save_analysis(session, transcript.id, analysis.engine, analysis.to_document(), analysis.fallback_reason)
        return transcript.id


def set_transcription(engine: Engine, pbx: int, call: int, state: str, **more: Any) -> None:
    """Set the state of a call's transcription."""
    with writing(engine) as session:
        session.add(Transcription(recording_id=call, connection_id=pbx, state=state, **more))
        session.get_one(CallRow, call).transcription = state


def segment(start_s: float, text: str, channel: int = 0, **more: Any) -> Segment:
    return Segment(
        start_s, start_s + 1, channel, text, (Word(start_s, start_s + 1, text, 0.9),) if text else (), **more
    )


def open_call(call: int, **query: str) -> AppTest:
    return without_errors(open_page(INTERACTIONS, call=str(call), **query))


def player_data(app: AppTest) -> dict[str, Any]:
    """The data that the page passes to the player."""
    (data,) = [found for element in app.get("bidi_component") if "wave" in (found := json.loads(element.proto.json))]
    return data | {"lines": json.loads(data["lines"]), "wave": json.loads(data["wave"])}


def test_a_call_without_transcript_can_be_transcribed(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    app = open_call(call)
    assert "Not transcribed yet" in page_text(app)
    assert player_data(app)["lines"] == []
    app = press(app, "Transcribe")
    assert "Queued for transcription" in page_and_progress_text(app)
    assert "Queued" in app.toast[0].value
    with reading(engine) as session:
        queued = state_of(session, call)
        assert queued is not None
        assert (queued.state, queued.requested_by, queued.urgent) == ("queued", "page", True)
    app = press(app, "Cancel")
    assert "Not transcribed yet" in page_text(app)


def test_error_when_queueing_is_shown(engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise StorageFull("Not enough disk space.", "Free disk space.")

    app = open_call(add_call_with_audio(engine, pbx))
    monkeypatch.setattr("pbx.ui.transcription_queue.queue_recordings", full)
    assert "Free disk space" in page_text(press(app, "Transcribe"))


def page_and_progress_text(app: AppTest) -> str:
    return page_text(app) + "\n".join(element.proto.text for element in app.get("progress"))


def test_failed_transcription_shows_why_and_can_be_retried_with_another_model(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    set_transcription(engine, pbx, call, "failed", error="The model base needs more memory than there is.")
    app = open_call(call)
    assert "needs more memory" in page_text(app)
    next(box for box in app.selectbox if box.label == "Model").set_value("tiny")
    assert "Queued for transcription" in page_and_progress_text(press(app, "Try again"))
    with reading(engine) as session:
        queued = state_of(session, call)
        assert queued is not None
        assert queued.model == "tiny"


def test_transcription_progress_is_shown(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    set_transcription(engine, pbx, call, "transcribing", done_s=30.0, total_s=120.0)
    assert "Transcribing: 30 s of 2 min" in page_and_progress_text(open_call(call))


def test_a_transcript_is_shown_line_by_line(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    lines = (
        segment(1, TEXTS_WITH_MARKUP[1]),
        segment(2, "Hello", 1),
        segment(3, "Thanks for watching", flags=("phantom",)),
    )
    transcript = transcribe(engine, pbx, call, *lines, segment(5, "", flags=("music",)))
    with writing(engine) as session:
        edit_segment(session, segments_of(session, transcript)[1].id or 0, "Hallo")
    data = player_data(open_call(call, t="2.5"))
    assert [(line["speaker"], line["text"], line["original"]) for line in data["lines"]] == [
        ("Caller", TEXTS_WITH_MARKUP[1], None),
        ("Agent", "Hallo", "Hello"),
        ("Caller", "Thanks for watching", None),
        ("Caller", "", None),
    ]
    assert [line["why"] for line in data["lines"]][2:] == [
        "Doubtful: a phrase that models invent in silence",
        "Hold music",
    ]
    assert data["seek"] == {"at_s": 2.5, "number": f"{call} 2.5", "play": False}


def test_transcript_is_shown_without_the_audio_file(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    transcribe(engine, pbx, call, segment(1, "Hello"))
    (load_settings().audio_dir / f"{call}.wav").unlink()
    app = open_call(call)
    assert "no longer in data/audio" in page_text(app)
    (data,) = [found for element in app.get("bidi_component") if "wave" in (found := json.loads(element.proto.json))]
    assert (data["sound"], data["wave"], json.loads(data["lines"])[0]["text"]) == ("", "", "Hello")


def test_transcript_without_speech(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    transcribe(engine, pbx, call)
    assert "No speech was found" in page_text(open_call(call))


@pytest.mark.parametrize("at", ["", "x", "nan", "-1", "1e99", "inf"])
def test_invalid_position_in_the_url_is_ignored(engine: Engine, pbx: int, at: str) -> None:
    assert player_data(open_call(add_call_with_audio(engine, pbx), t=at))["seek"] is None


def test_summary_shows_its_origin_and_measures(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    analysis = Analysis(
        summary="Caller: A refund, please.",
        key_phrases=["refund"],
        questions=[Quote(2.0, "agent", "Which order?")],
        talk_s={"agent": 20.0, "caller": 30.0},
        talk_ratio=0.4,
        longest_silence=(14.0, 6.0),
        interruptions=2,
        first_response_s=1.25,
        fallback_reason="The model *small* answered with HTML.",
    )
    transcribe(engine, pbx, call, segment(1, "A refund, please"), analysis=analysis)
    with writing(engine) as session:
        save_topic(session, "Refunds", ["refund*"])
    app = open_call(call)
    for expected in (
        "A refund, please.",
        r"The model \*small\* answered with HTML",
        "40% agent",
        "6 s, at 0:14",
        "1.2 s",
    ):
        assert expected in page_text(app), expected
    assert tables(app)["Questions"] == [["0:02", "Which order? | Agent"]]
    assert tables(app)["Topics"] == [["0:01", "Refunds", "A refund, please | Caller"]]


def test_measures_that_are_unknown_are_shown_as_missing(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx, direction="unknown")
    transcribe(engine, pbx, call, segment(1, "Hi"), analysis=Analysis(summary="Hi", talk_s={"": 9.0}))
    assert page_text(open_call(call)).count("the speakers in this recording can’t be distinguished") == 3


def choose_tags(app: AppTest, *tags: str) -> AppTest:
    return next(box for box in app.multiselect if box.label == "Tags").set_value(list(tags)).run()


def test_tags_and_rating_are_saved(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    with writing(engine) as session:
        session.add(CallRow(id=99, connection_id=pbx, linkedid="99"))
        session.flush()
        set_tags(session, 99, ["complaint", "vip"])  # tags of another call are offered for this one
        save_note(session, call, "Wants a refund")
    app = choose_tags(open_call(call), "complaint")
    with writing(engine) as session:
        assert tags_of(session, call) == ["complaint"]
        set_tags(session, call, ["complaint", "vip"])  # in another browser
    app = without_errors(app.get("feedback")[0].set_value(3).run())
    app = choose_tags(app, "vip")
    with reading(engine) as session:
        saved = get_note(session, call)
        assert saved is not None
        assert (saved.note, saved.rating, tags_of(session, call)) == ("Wants a refund", 4, ["vip"])
    without_errors(app.get("feedback")[0].set_value(None).run())
    with reading(engine) as session:
        assert session.get_one(CallNote, call).rating is None


def test_tags_from_another_browser_are_shown_and_stay(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    with writing(engine) as session:
        set_tags(session, call, ["mine"])
    app = open_call(call)
    with writing(engine) as session:
        set_tags(session, call, ["mine", "theirs"])
    app = choose_tags(app)
    assert app.multiselect[0].value == ["theirs"]
    with reading(engine) as session:
        assert tags_of(session, call) == ["theirs"]


@pytest.mark.parametrize("what", ["change_tags", "save_rating"])
def test_unsaved_change_stays_in_its_field(
    engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("Not enough disk space.", "Free disk space.")

    call = add_call_with_audio(engine, pbx)
    with writing(engine) as session:
        set_tags(session, call, ["vip", "angry"])
    app = open_call(call)
    with monkeypatch.context() as patched:
        patched.setattr(f"pbx.ui.call_notes.{what}", full)
        app.get("feedback")[0].set_value(1)
        app = choose_tags(app, "vip")
        assert page_text(app).count("Your change is still here. Not enough disk space") == 1
        assert "Free disk space" in page_text(app)
    assert (app.multiselect[0].value, app.get("feedback")[0].value) == (["vip"], 1)
    app = without_errors(app.get("feedback")[0].set_value(2).run())
    app = choose_tags(app, "vip", "angry")
    app = choose_tags(app, "angry")
    assert "still here" not in page_text(app)
    with reading(engine) as session:
        assert (session.get_one(CallNote, call).rating, tags_of(session, call)) == (3, ["angry"])


def note_data(app: AppTest) -> dict[str, Any]:
    """The data that the page passes to the note field."""
    (data,) = [found for element in app.get("bidi_component") if "longest" in (found := json.loads(element.proto.json))]
    return dict(data)


@pytest.mark.parametrize("text", TEXTS_WITH_MARKUP)
def test_note_is_shown_as_written(engine: Engine, pbx: int, text: str) -> None:
    call = add_call_with_audio(engine, pbx, linkedid=text)
    with writing(engine) as session:
        save_note(session, call, text)
    data = note_data(open_call(call))
    assert (data["saved"], data["call"], data["answer"]) == (text, text, None)


def test_note_field_gets_an_answer(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    app = open_call(call)
    app.session_state["note_answer"] = NoteAnswer("1", "kept", "Not enough disk space.")
    data = note_data(without_errors(app.run()))
    assert data["answer"] == {"number": "1", "saved": "kept", "problem": "Not enough disk space.", "gone": False}


@pytest.mark.parametrize("line_of", ["this call", "another call"])
def test_an_edit_is_saved_or_reopened_with_the_reason(
    engine: Engine, pbx: int, monkeypatch: pytest.MonkeyPatch, line_of: str
) -> None:
    call, other = add_call_with_audio(engine, pbx), add_call_with_audio(engine, pbx, linkedid="2")
    transcripts = [
        transcribe(engine, pbx, call, segment(1, "Hello")),
        transcribe(engine, pbx, other, segment(1, "Bye")),
    ]
    with reading(engine) as session:
        lines = [segments_of(session, transcript)[0].id or 0 for transcript in transcripts]
    edit = SegmentEdit(lines[line_of != "this call"], "Hallo")
    edits, refused = [edit], []

    def player(**data: Any) -> SegmentEdit | None:
        refused.append(data["refused"])
        return edits.pop() if edits else None

    monkeypatch.setattr("pbx.ui.call_detail.player", player)
    open_call(call)
    with reading(engine) as session:
        texts = [session.get_one(SegmentRow, line).text for line in lines]
    if line_of == "this call":
        assert (texts, refused) == (["Hallo", "Bye"], [None, None])
    else:
        assert texts == ["Hello", "Bye"]
        assert refused[1].edit == edit
        assert "no longer exists" in refused[1].why


def transcribe_many_page() -> None:
    """A page with only the form that transcribes the filtered calls."""
    from pbx import ui
    from pbx.store.calls import CallFilter
    from pbx.ui.transcription_queue import transcribe_many

    site = ui.site()
    transcribe_many(site, CallFilter(site.active.id))


def test_all_filtered_calls_are_transcribed_after_confirmation(engine: Engine, pbx: int) -> None:
    calls = [add_call_with_audio(engine, pbx, linkedid=str(number)) for number in range(3)]
    set_transcription(engine, pbx, calls[0], "failed", error="x")
    app = without_errors(AppTest.from_function(transcribe_many_page, default_timeout=60).run())
    assert any("match the filters: 3" in element.value for element in app.markdown)
    assert [radio.options for radio in app.radio] == [
        ["Without a transcript: 2", "Failed: 1", "All (re-transcribe existing): 3"]
    ]
    press(app, "Transcribe 2 calls")
    with reading(engine) as session:
        found = [state_of(session, call) for call in calls]
    assert [row.state if row else None for row in found] == ["failed", "queued", "queued"]
    assert [row[5] for row in tables(without_errors(open_page(INTERACTIONS)))["Calls"]] == [
        "Queued",
        "Queued",
        "Failed",
    ]


def test_the_worker_prepares_the_audio_of_a_long_recording(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    with writing(engine) as session:
        session.get_one(RecordingRow, call).duration_s = 3 * 3600
    app = open_call(call)
    assert "Preparing the audio" in page_text(app)
    assert not app.get("audio")
    with reading(engine) as session:
        job = last_job(session, "make_playable", connection_id=pbx)
        assert job is not None
        assert job.options == {"recording_id": call}
    with writing(engine) as session:
        start_job(session, job.id, "worker-0")
        fail_job(session, "worker-0", job.id, "Not enough disk space.")
    app = open_call(call)
    assert "Not enough disk space" in page_text(app)
    assert "Preparing the audio" in page_text(press(app, "Try again"))


def test_the_url_selects_one_of_several_recordings(engine: Engine, pbx: int) -> None:
    call = add_call_with_audio(engine, pbx)
    with writing(engine) as session:
        second = RecordingRow(connection_id=pbx, call_id=call, name="second", state="waiting", reason="Still going on.")
        session.add(second)
    assert player_data(open_call(call))["lines"] == []
    app = open_call(call, recording="2")
    assert "Still going on" in page_text(app)
