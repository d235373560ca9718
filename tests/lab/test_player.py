"""The player in a real browser: words that are heard where they are clicked, keys, speed, edits, links to a moment."""

import math
import re
import wave
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import Engine

from pbx.settings import Connection, Settings
from pbx.store.connections import save_connection
from pbx.store.engine import open_engine, reading, writing
from pbx.store.index import index_transcript
from pbx.store.models import AnalysisRow, Call, Recording, SegmentRow, Topic, Transcript, Transcription
from pbx.store.notes import get_note, tags_of
from pbx.store.transcriptions import set_paused
from tests.lab.browser import browser, running_app
from tests.lab.server import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
expect.set_options(timeout=20_000)
RATE_HZ = 8000
WORD_S = 0.4
NEAR_S = 0.3
SAID = [  # start, speaker, text, flags
    (2.0, "caller", "Hello I have a question about my invoice", ""),
    (6.0, "agent", "Of course what is the number on your invoice", ""),
    (10.5, "caller", "It is four seven one one", ""),
    (14.0, "agent", "", "music"),
    (20.0, "agent", "Thank you for watching", "phantom"),
    (24.0, "caller", "مرحبا أريد استرداد المال", ""),
    (27.0, "agent", "你好我想退款", ""),
    (30.0, "agent", "<img src=x onerror=alert(1)> is what you wrote", ""),
]


def words_of(start_s: float, text: str) -> list[list[Any]]:
    tokens = list(text) if text.startswith("你") else text.split()
    return [
        [
            round(start_s + index * WORD_S, 3),
            round(start_s + (index + 1) * WORD_S, 3),
            token,
            0.31 if token == "invoice" else 0.97,
        ]
        for index, token in enumerate(tokens)
    ]


def write_sound(path: Path, seconds: int) -> None:
    """A tone on the channel of whoever speaks: caller left, agent right."""
    samples = array("h", bytes(4 * RATE_HZ * seconds))
    for start_s, speaker, text, _ in SAID:
        side = int(speaker == "agent")
        length_s = len(words_of(start_s, text)) * WORD_S or 5.0
        for index in range(int(start_s * RATE_HZ), min(int((start_s + length_s) * RATE_HZ), RATE_HZ * seconds)):
            loud = 9000 * abs(math.sin(index / RATE_HZ / WORD_S * math.pi))
            samples[2 * index + side] = int(loud * math.sin(index * 0.35))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def add_call(settings: Settings, engine: Engine, pbx: int, number: str, seconds: int = 40) -> int:
    """A call with its recording; returns the recording's id, which is the call's too."""
    with writing(engine) as session:
        call = Call(
            connection_id=pbx, linkedid=number, from_number=number, to_number="600", queue="support", agent="1001"
        )
        call.sqlmodel_update({"direction": "inbound", "state": "downloaded", "duration_s": float(seconds)})
        call.started_at = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
        session.add(call)
        session.flush()
        recording = Recording(connection_id=pbx, call_id=call.id or 0, name=f"2026/07/01/{number}", state="downloaded")
        recording.sqlmodel_update({"file": f"{number}.wav", "duration_s": float(seconds), "size_bytes": 1000})
        session.add(recording)
        session.flush()
        assert recording.id == call.id
    write_sound(settings.audio_dir / f"{number}.wav", seconds)
    return recording.id or 0


def add_transcript(engine: Engine, pbx: int, recording_id: int, rows: list[SegmentRow]) -> None:
    with writing(engine) as session:
        transcript = Transcript(recording_id=recording_id, engine="whisper", model="base", language="en", channels=2)
        transcript.sqlmodel_update({"whole": True, "current": True, "duration_s": 40.0, "voiced_s": 18.0})
        session.add(transcript)
        session.flush()
        for row in rows:
            row.transcript_id = transcript.id or 0
        session.add_all(rows)
        session.add(Transcription(recording_id=recording_id, connection_id=pbx, state="completed"))
        question = {"start_s": 6.0, "speaker": "agent", "text": "Of course what is the number on your invoice"}
        document = {
            "summary": "Caller: I have a question about my invoice.\nAgent: What is the number on your invoice?",
            "key_phrases": ["invoice", "question about my invoice", "number"],
            "questions": [question],
            "talk_s": {"agent": 9.0, "caller": 8.0},
            "talk_ratio": 0.53,
            "longest_silence": [14.0, 6.0],
            "interruptions": 1,
            "first_response_s": 0.8,
        }
        session.add(AnalysisRow(transcript_id=transcript.id or 0, engine="local", document=document))
        session.get_one(Call, recording_id).transcription = "completed"
        session.flush()
        index_transcript(session, transcript.id or 0)


def said_rows() -> list[SegmentRow]:
    return [
        SegmentRow(
            transcript_id=0,
            start_s=start_s,
            end_s=start_s + (len(words_of(start_s, text)) * WORD_S or 5.0),
            channel=int(speaker == "agent"),
            speaker=speaker,
            text=text,
            flags=flags,
            words=words_of(start_s, text),
        )
        for start_s, speaker, text, flags in SAID
    ]


def fill(data_dir: Path) -> None:
    settings = Settings(_env_file=None, pbx_data_dir=data_dir)
    engine = open_engine(settings)
    pbx = save_connection(engine, settings, Connection(host="pbx.invalid", ari_port=8088, ami_port=5038))
    with writing(engine) as session:
        set_paused(session, pbx, True)
        session.add(Topic(name="Invoices", phrases=["invoice"]))
    add_transcript(engine, pbx, add_call(settings, engine, pbx, "+4930111"), said_rows())
    long = [
        SegmentRow(transcript_id=0, start_s=at / 100, end_s=at / 100 + 0.01, speaker="caller", text=text, words=words)
        for at in range(4000)
        for text in [" ".join(f"word{at}x{number}" for number in range(25))]
        for words in [[[at / 100, at / 100 + 0.01, word, 0.9] for word in text.split()]]
    ]
    add_transcript(engine, pbx, add_call(settings, engine, pbx, "+4930222"), long)
    for number, state, reason in (("+4930333", "failed", "The file holds no speech."), ("+4930444", "queued", "")):
        recording_id = add_call(settings, engine, pbx, number)
        with writing(engine) as session:
            row = Transcription(recording_id=recording_id, connection_id=pbx, state=state, reason=reason, total_s=40.0)
            session.add(row)
            session.get_one(Call, recording_id).transcription = state
    engine.dispose()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player") / "data"
    fill(folder)
    return folder


@pytest.fixture(scope="module")
def address(data_dir: Path) -> Iterator[str]:
    with running_app(data_dir) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browser() as page:
        yield page
        assert page.complaints == []  # type: ignore[attr-defined]


def open_call(page: Page, address: str, call: int = 1, **query: object) -> Locator:
    page.goto(f"{address}/interactions?call={call}" + "".join(f"&{name}={value}" for name, value in query.items()))
    audio = page.locator("audio")
    audio.wait_for(state="attached")
    wait_until("the sound is there", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    return audio


def place(audio: Locator) -> float:
    return float(audio.evaluate("audio => audio.currentTime"))


def paused(audio: Locator) -> bool:
    return bool(audio.evaluate("audio => audio.paused"))


def heard_from(audio: Locator, clicked: Locator) -> float:
    """Where the sound goes on after a click, whenever it is looked at."""
    audio.evaluate(
        "audio => audio.addEventListener('seeking', () => { audio.sought = audio.currentTime }, {once: true})"
    )
    clicked.click()
    wait_until("it goes there", lambda: audio.evaluate("audio => audio.sought ?? -1") >= 0)
    at_s = float(audio.evaluate("audio => { const at = audio.sought; delete audio.sought; return at }"))
    wait_until("it plays", lambda: not paused(audio))
    return at_s


def word(page: Page, text: str, number: int = 0) -> Locator:
    return page.locator(".word").get_by_text(text, exact=True).nth(number)


def test_a_click_on_a_word_is_heard_and_the_light_follows(page: Page, address: str) -> None:
    audio = open_call(page, address)
    for text, number, at_s in (
        ("question", 0, 2.0 + 4 * WORD_S),
        ("number", 0, 6.0 + 5 * WORD_S),
        ("退", 0, 27.0 + 4 * WORD_S),
    ):
        word(page, text, number).click()
        where_s = place(audio)
        assert at_s - 0.01 <= where_s <= at_s + NEAR_S, text
        assert not paused(audio)
        expect(page.locator(".spoken")).to_have_text(text)
    word(page, "Hello").click()
    page.wait_for_function("document.querySelector('audio').currentTime > 3")
    at_s, lit = place(audio), page.locator(".spoken").inner_text()
    starts = {text: start_s for start_s, _, text, _ in words_of(2.0, SAID[0][2])}
    assert starts[lit] == pytest.approx(at_s, abs=WORD_S + NEAR_S)


def test_keys_and_speed(page: Page, address: str) -> None:
    audio = open_call(page, address)
    page.get_by_role("region", name="Transcript", exact=True).wait_for()
    page.keyboard.press("Space")
    wait_until("it plays", lambda: not paused(audio))
    page.keyboard.press("k")
    wait_until("it pauses", lambda: paused(audio))
    page.keyboard.press("Home")
    assert place(audio) == 0
    for key, at_s in (("l", 10), ("ArrowRight", 15), ("ArrowLeft", 10), ("l", 20), ("j", 10)):
        page.keyboard.press(key)
        assert place(audio) == pytest.approx(at_s, abs=0.05), key
    page.get_by_label("Speed").select_option("1.75")
    assert audio.evaluate("audio => audio.playbackRate") == 1.75
    page.get_by_label("Number", exact=True).click()
    page.keyboard.type("kjl")
    assert place(audio) == pytest.approx(10, abs=0.05)  # somebody types
    page.get_by_role("slider", name="Position").click(position={"x": 5, "y": 20})
    assert place(audio) < 2


def test_a_link_leads_to_its_second_without_sound(page: Page, address: str) -> None:
    audio = open_call(page, address, t=24.5)
    assert place(audio) == pytest.approx(24.5, abs=0.01)
    assert paused(audio)
    marked = page.locator(".line.marked")
    expect(marked).to_contain_text("مرحبا")
    expect(marked).to_be_in_viewport()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.locator(".told")).to_contain_text("0:29")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/interactions?call=1&t=29.5")


def test_an_edit_is_kept_and_can_be_taken_back(page: Page, address: str, data_dir: Path) -> None:
    audio = open_call(page, address)
    line = page.locator(".line", has_text="It is four seven")
    word(page, "seven").click()
    page.keyboard.press("k")
    before_s = place(audio)
    line.hover()
    line.get_by_role("button", name="Edit what was said").click()
    field = page.get_by_role("textbox", name="What was said at 0:10")
    field.press("End")
    field.type(" recycle")  # r and c are keys of Streamlit's own
    field.press("Control+Enter")
    edited = page.locator(".line", has=page.locator(".edited"))
    expect(edited).to_contain_text("It is four seven one one recycle")
    assert edited.locator(".edited").get_attribute("title") == "Understood by the model: It is four seven one one"
    assert place(audio) == pytest.approx(before_s, abs=0.01)  # nothing moved
    settings = Settings(_env_file=None, pbx_data_dir=data_dir)
    engine = open_engine(settings)
    with reading(engine) as session:
        row = session.get_one(SegmentRow, 3)
        assert (row.text, row.original_text) == ("It is four seven one one recycle", "It is four seven one one")
    audio = open_call(page, address)
    expect(edited).to_have_count(1)
    assert heard_from(audio, word(page, "seven")) == pytest.approx(10.5 + 3 * WORD_S, abs=NEAR_S)
    edited.hover()
    edited.get_by_role("button", name="Edit what was said").click()
    page.get_by_role("button", name="Restore original").click()
    expect(edited).to_have_count(0)
    engine.dispose()


def test_what_is_doubted_says_why_and_nothing_is_run(page: Page, address: str) -> None:
    open_call(page, address)
    doubted = page.locator(".line.doubted")
    expect(doubted).to_have_count(2)
    expect(doubted.nth(0)).to_contain_text("Hold music")
    expect(doubted.nth(1)).to_contain_text("Doubtful: a phrase that models make up in silence")
    assert word(page, "invoice").get_attribute("title") == "The model is only 31% sure of this word"
    expect(page.locator(".said", has_text="<img src=x")).to_be_visible()
    assert page.get_by_role("region", name="Transcript", exact=True).locator("img").count() == 0
    assert page.locator(".lane").count() == 2


def test_what_was_made_of_it_leads_to_its_sound_and_notes_are_kept(page: Page, address: str, data_dir: Path) -> None:
    audio = open_call(page, address)
    page.get_by_role("table", name="Questions").locator("tr[data-id]").first.click()
    wait_until("it plays there", lambda: 6 <= place(audio) < 12 and not paused(audio))
    page.get_by_role("tab", name="Notes").click()
    page.get_by_label("Note", exact=True).fill("Wants a refund j k l")
    page.get_by_role("radio", name="4 out of 5 stars").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_test_id("stToast").get_by_text("Saved").wait_for()
    engine = open_engine(Settings(_env_file=None, pbx_data_dir=data_dir))
    with reading(engine) as session:
        kept = get_note(session, 1)
        assert kept is not None
        assert (kept.note, kept.rating) == ("Wants a refund j k l", 4)
        assert tags_of(session, 1) == []
    engine.dispose()


def test_a_hundred_thousand_words_stay_light(page: Page, address: str) -> None:
    audio = open_call(page, address, call=2, t=35)
    expect(page.locator(".line.marked")).to_contain_text(re.compile("word350[0-5]x0"))
    expect(page.locator(".line.marked")).to_be_in_viewport()
    assert heard_from(audio, page.locator(".line.marked .word").nth(3)) == pytest.approx(35, abs=NEAR_S)
    page.wait_for_function("document.querySelector('audio').currentTime > 36")
    assert int(page.locator(".spoken").first.inner_text().split("x")[0][4:]) == pytest.approx(3600, abs=60)


def test_states_are_said_with_what_can_be_done(page: Page, address: str) -> None:
    open_call(page, address, call=3)
    page.get_by_text("It could not be transcribed. The file holds no speech.").wait_for()
    page.get_by_role("button", name="Try again").wait_for()
    open_call(page, address, call=4)
    page.get_by_text("Queued for transcribing").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Not transcribed yet").wait_for()
    page.get_by_role("button", name="Transcribe", exact=True).click()
    page.get_by_text("Queued for transcribing").wait_for()
