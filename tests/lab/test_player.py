"""The player in a real browser: clicks on words, keyboard shortcuts, speed, edits, and links to a moment."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from pbx.settings import Settings
from pbx.store.engine import open_engine, reading
from pbx.store.models import SegmentRow
from pbx.store.notes import get_note, tags_of
from tests.lab.browser import browser, running_app
from tests.lab.process import wait_until
from tests.lab.sample_transcripts import SPOKEN, WORD_S, fill_cache, words_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
NEAR_S = 0.3
DRAWN_MS = 90_000  # to draw a hundred thousand words on a busy machine
# Whether any of the highlighted word is visible, read in one step because the highlight moves.
HIGHLIGHT_IS_VISIBLE = """(box) => {
  const highlight = box.querySelector(".spoken")?.getBoundingClientRect(), visible = box.getBoundingClientRect()
  return Boolean(highlight) && highlight.bottom > Math.max(visible.top, 0) &&
    highlight.top < Math.min(visible.bottom, innerHeight)
}"""
PAUSED_AFTER = """(at_s) => {
  const audio = document.querySelector("audio")
  if (audio.currentTime > at_s) audio.pause()
  return audio.paused && audio.currentTime > at_s
}"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player") / "data"
    fill_cache(folder)
    return folder


@pytest.fixture(scope="module")
def address(data_dir: Path) -> Iterator[str]:
    with running_app(data_dir) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browser() as page:
        yield page
        assert page.console_errors == []  # type: ignore[attr-defined]


def open_call(page: Page, address: str, call: int = 1, **query: object) -> Locator:
    page.goto(f"{address}/interactions?call={call}" + "".join(f"&{name}={value}" for name, value in query.items()))
    audio = page.locator("audio")
    audio.wait_for(state="attached")
    wait_until("the sound is loaded", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    return audio


def position_s(audio: Locator) -> float:
    return float(audio.evaluate("audio => audio.currentTime"))


def is_paused(audio: Locator) -> bool:
    return bool(audio.evaluate("audio => audio.paused"))


def position_after_click(audio: Locator, clicked: Locator) -> float:
    """The position in seconds from which the sound plays after a click."""
    return position_after(audio, clicked.click)


def position_after(audio: Locator, act: Callable[[], None]) -> float:
    """The position in seconds from which the sound plays after an action."""
    audio.evaluate(
        "audio => audio.addEventListener('seeking', () => { audio.sought = audio.currentTime }, {once: true})"
    )
    act()
    wait_until("the player seeks", lambda: audio.evaluate("audio => audio.sought ?? -1") >= 0)
    at_s = float(audio.evaluate("audio => { const at = audio.sought; delete audio.sought; return at }"))
    wait_until("the sound plays", lambda: not is_paused(audio))
    return at_s


def word(page: Page, text: str, number: int = 0) -> Locator:
    return page.locator(".word").get_by_text(text, exact=True).nth(number)


def test_a_click_on_a_word_plays_it_and_the_highlight_follows(page: Page, address: str) -> None:
    audio = open_call(page, address)
    for text, number, at_s in (
        ("question", 0, 2.0 + 4 * WORD_S),
        ("number", 0, 6.0 + 5 * WORD_S),
        ("退", 0, 27.0 + 4 * WORD_S),
    ):
        assert position_after_click(audio, word(page, text, number)) == pytest.approx(at_s, abs=NEAR_S), text
    word(page, "Hello").click()
    page.wait_for_function(PAUSED_AFTER, arg=3)
    starts = {text: start_s for start_s, _, text, _ in words_of(2.0, SPOKEN[0][2])}
    spoken = max((text for text in starts if starts[text] <= position_s(audio)), key=starts.__getitem__)
    expect(page.locator(".spoken")).to_have_text(spoken)


def test_keys_and_the_speed_control_the_player(page: Page, address: str) -> None:
    audio = open_call(page, address)
    page.get_by_role("region", name="Transcript", exact=True).wait_for()
    page.keyboard.press("Space")
    wait_until("the sound plays", lambda: not is_paused(audio))
    page.keyboard.press("k")
    wait_until("the sound is paused", lambda: is_paused(audio))
    page.keyboard.press("Home")
    assert position_s(audio) == 0
    for key, at_s in (("l", 10), ("ArrowRight", 15), ("ArrowLeft", 10), ("l", 20), ("j", 10)):
        page.keyboard.press(key)
        assert position_s(audio) == pytest.approx(at_s, abs=0.05), key
    page.get_by_label("Speed").select_option("1.75")
    assert audio.evaluate("audio => audio.playbackRate") == 1.75
    page.get_by_label("Number", exact=True).click()
    page.keyboard.type("kjl")
    assert position_s(audio) == pytest.approx(10, abs=0.05)  # the user is typing
    page.get_by_role("slider", name="Position").click(position={"x": 5, "y": 20})
    assert position_s(audio) < 2


def test_a_link_opens_the_call_paused_at_its_second(page: Page, address: str) -> None:
    audio = open_call(page, address, t=24.5)
    marked = page.locator(".line.marked")
    wait_until("the player is at the second", lambda: position_s(audio) == pytest.approx(24.5, abs=0.01))
    page.wait_for_timeout(500)
    assert position_s(audio) == pytest.approx(24.5, abs=0.01)
    assert is_paused(audio)
    expect(marked).to_contain_text("مرحبا")
    expect(marked).to_be_in_viewport()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.locator(".status")).to_contain_text("0:29")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/interactions?call=1&t=29.5")


def test_an_edit_is_stored_and_can_be_undone(page: Page, address: str, data_dir: Path) -> None:
    audio = open_call(page, address)
    line = page.locator(".line", has_text="It is four seven")
    word(page, "seven").click()
    page.keyboard.press("k")
    before_s = position_s(audio)
    line.hover()
    line.get_by_role("button", name="Edit what was said").click()
    field = page.get_by_role("textbox", name="What was said at 0:10")
    field.press("End")
    field.type(" recycle")  # r and c are Streamlit's keyboard shortcuts
    field.press("Control+Enter")
    edited = page.locator(".line", has=page.locator(".edited"))
    expect(edited).to_contain_text("It is four seven one one recycle")
    assert edited.locator(".edited").get_attribute("title") == "The model’s original text: It is four seven one one"
    assert position_s(audio) == pytest.approx(before_s, abs=0.01)  # the position hasn't changed
    settings = Settings(_env_file=None, pbx_data_dir=data_dir)
    engine = open_engine(settings)
    with reading(engine) as session:
        row = session.get_one(SegmentRow, 3)
        assert (row.text, row.original_text) == ("It is four seven one one recycle", "It is four seven one one")
    audio = open_call(page, address)
    expect(edited).to_have_count(1)
    assert position_after_click(audio, word(page, "seven")) == pytest.approx(10.5 + 3 * WORD_S, abs=NEAR_S)
    edited.hover()
    edited.get_by_role("button", name="Edit what was said").click()
    page.get_by_role("button", name="Restore original").click()
    expect(edited).to_have_count(0)
    engine.dispose()


def test_doubtful_segments_show_the_reason_and_markup_is_shown_as_text(page: Page, address: str) -> None:
    open_call(page, address)
    doubted = page.locator(".line.doubted")
    expect(doubted).to_have_count(2)
    expect(doubted.nth(0)).to_contain_text("Hold music")
    expect(doubted.nth(1)).to_contain_text("Doubtful: a phrase that models invent in silence")
    assert word(page, "invoice").get_attribute("title") == "The model is only 31% sure of this word"
    expect(page.locator(".said", has_text="<img src=x")).to_be_visible()
    assert page.get_by_role("region", name="Transcript", exact=True).locator("img").count() == 0
    assert page.locator(".lane").count() == 2


def test_a_click_on_a_question_plays_it_and_notes_are_stored(page: Page, address: str, data_dir: Path) -> None:
    audio = open_call(page, address)
    question = page.get_by_role("table", name="Questions").locator("tr[data-id]").first
    assert 6 <= position_after_click(audio, question) < 12
    page.get_by_role("tab", name="Notes").click()
    page.get_by_label("Note", exact=True).press_sequentially("Wants a refund j k l")
    expect(page.locator(".note p")).to_have_text("Saved")
    page.get_by_role("radio", name="4 out of 5 stars").click()
    engine = open_engine(Settings(_env_file=None, pbx_data_dir=data_dir))

    def stored_note() -> tuple[str, int | None, list[str]]:
        with reading(engine) as session:
            note = get_note(session, 1)
            return (note.note, note.rating, tags_of(session, 1)) if note else ("", None, [])

    wait_until("both are stored", lambda: stored_note() == ("Wants a refund j k l", 4, []))
    engine.dispose()


def test_a_transcript_of_a_hundred_thousand_words_is_usable(page: Page, address: str) -> None:
    audio = open_call(page, address, call=2, t=35)
    expect(page.locator(".line.marked")).to_contain_text(re.compile(r"word35\d\dx0"), timeout=DRAWN_MS)
    expect(page.locator(".line")).to_have_count(4000, timeout=DRAWN_MS)  # until then the lines move
    expect(page.locator(".line.marked")).to_be_in_viewport()
    assert position_after_click(audio, page.locator(".line.marked .word").nth(3)) == pytest.approx(35.05, abs=NEAR_S)
    page.wait_for_function(PAUSED_AFTER, arg=36)
    highlight = page.locator(".spoken").first  # a line lasts a hundredth of a second
    wait_until(
        "the highlight is at the position",
        lambda: abs(int(highlight.inner_text().split("x")[0][4:]) / 100 - position_s(audio)) < NEAR_S,
    )


def test_each_transcription_state_offers_an_action(page: Page, address: str) -> None:
    open_call(page, address, call=3)
    page.get_by_text("The recording could not be transcribed. The file holds no speech.").wait_for()
    page.get_by_role("button", name="Try again").wait_for()
    open_call(page, address, call=4)
    page.get_by_text("Queued for transcription").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Not transcribed yet").wait_for()
    page.get_by_role("button", name="Transcribe", exact=True).click()
    page.get_by_text("Queued for transcription").wait_for()


def test_the_transcript_follows_the_sound_until_the_user_scrolls(page: Page, address: str) -> None:
    audio = open_call(page, address, call=2)
    page.locator(".word").first.click()
    page.wait_for_function("document.querySelector('audio').currentTime > 1.5")
    transcript = page.locator(".transcript")
    wait_until("the highlight is visible", lambda: transcript.evaluate(HIGHLIGHT_IS_VISIBLE))
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_be_hidden()
    transcript.hover()
    for _ in range(3):
        page.mouse.wheel(0, -50_000)
        page.wait_for_timeout(100)
    expect(page.locator(".line").first).to_be_in_viewport()
    page.wait_for_timeout(1000)
    expect(page.locator(".line").first).to_be_in_viewport()
    assert not transcript.evaluate(HIGHLIGHT_IS_VISIBLE)
    follow.click()
    wait_until("the highlight is visible again", lambda: transcript.evaluate(HIGHLIGHT_IS_VISIBLE))
    expect(follow).to_be_hidden()
    assert not is_paused(audio)


def test_lines_can_be_played_and_edited_with_the_keyboard(page: Page, address: str) -> None:
    audio = open_call(page, address)
    page.locator(".line").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert 10.4 < position_after(audio, lambda: page.keyboard.press("Enter")) < 13
    page.keyboard.press("Space")
    wait_until("the sound is paused", lambda: is_paused(audio))
    page.keyboard.press("F2")
    field = page.get_by_role("textbox", name="What was said at 0:10")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(page.locator(".line").nth(2)).to_be_focused()


def test_space_plays_a_call_that_was_selected_in_the_list(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions")
    page.locator("tr[data-id='1']").click()
    audio = page.locator("audio")
    audio.wait_for(state="attached")
    page.get_by_role("region", name="Transcript", exact=True).wait_for()
    wait_until("the sound is loaded", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    page.keyboard.press("Space")
    wait_until("the sound plays", lambda: not is_paused(audio) and position_s(audio) > 0.2)
    page.locator("tr[data-id='2']").click()
    page.locator(".said", has_text="word0x0").wait_for()
    assert is_paused(audio)


def test_the_list_queues_its_calls_for_transcription_after_confirmation(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions?number=30333")
    page.locator("tr[data-id='3']").wait_for()
    page.get_by_role("button", name="Transcribe…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Failed: 1").click()
    dialog.get_by_role("button", name="Transcribe 1 call").click()
    page.get_by_test_id("stToast").get_by_text("1 recording queued").wait_for()
    expect(page.locator("tr[data-id='3']")).to_contain_text("Queued")


def test_the_worker_prepares_a_long_recording_and_the_player_appears(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions?call=5&t=650")
    page.get_by_text("Preparing the audio (11 min 40 s)").wait_for()
    page.get_by_role("button", name="Play", exact=True).wait_for(timeout=90_000)
    audio = page.locator("audio")
    wait_until("the player is at the second", lambda: position_s(audio) == pytest.approx(650, abs=0.1))
