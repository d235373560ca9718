"""The player in a real browser: words that are heard where they are clicked, keys, speed, edits, links to a moment."""

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
DRAWN_MS = 90_000  # until a hundred thousand words are, on a machine that has much else to do
# At one moment, as what is said moves on while a browser looks from afar: whether any of its light is seen.
LIT_IS_SEEN = """(box) => {
  const lit = box.querySelector(".spoken")?.getBoundingClientRect(), seen = box.getBoundingClientRect()
  return Boolean(lit) && lit.bottom > Math.max(seen.top, 0) && lit.top < Math.min(seen.bottom, innerHeight)
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
    return heard_after(audio, clicked.click)


def heard_after(audio: Locator, act: Callable[[], None]) -> float:
    """Where the sound goes on after what somebody does."""
    audio.evaluate(
        "audio => audio.addEventListener('seeking', () => { audio.sought = audio.currentTime }, {once: true})"
    )
    act()
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
        assert heard_from(audio, word(page, text, number)) == pytest.approx(at_s, abs=NEAR_S), text
    word(page, "Hello").click()
    page.wait_for_function(PAUSED_AFTER, arg=3)
    starts = {text: start_s for start_s, _, text, _ in words_of(2.0, SPOKEN[0][2])}
    lit = max((text for text in starts if starts[text] <= place(audio)), key=starts.__getitem__)
    expect(page.locator(".spoken")).to_have_text(lit)


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
    marked = page.locator(".line.marked")
    wait_until("it is wound there", lambda: place(audio) == pytest.approx(24.5, abs=0.01))
    page.wait_for_timeout(500)
    assert place(audio) == pytest.approx(24.5, abs=0.01)
    assert paused(audio)
    expect(marked).to_contain_text("مرحبا")
    expect(marked).to_be_in_viewport()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Copy link to this moment").click()
    expect(page.locator(".status")).to_contain_text("0:29")
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
    assert edited.locator(".edited").get_attribute("title") == "The model’s original text: It is four seven one one"
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
    expect(doubted.nth(1)).to_contain_text("Doubtful: a phrase that models invent in silence")
    assert word(page, "invoice").get_attribute("title") == "The model is only 31% sure of this word"
    expect(page.locator(".said", has_text="<img src=x")).to_be_visible()
    assert page.get_by_role("region", name="Transcript", exact=True).locator("img").count() == 0
    assert page.locator(".lane").count() == 2


def test_what_was_made_of_it_leads_to_its_sound_and_notes_are_kept(page: Page, address: str, data_dir: Path) -> None:
    audio = open_call(page, address)
    question = page.get_by_role("table", name="Questions").locator("tr[data-id]").first
    assert 6 <= heard_from(audio, question) < 12
    page.get_by_role("tab", name="Notes").click()
    page.get_by_label("Note", exact=True).press_sequentially("Wants a refund j k l")
    expect(page.locator(".note p")).to_have_text("Saved")
    page.get_by_role("radio", name="4 out of 5 stars").click()
    engine = open_engine(Settings(_env_file=None, pbx_data_dir=data_dir))

    def kept() -> tuple[str, int | None, list[str]]:
        with reading(engine) as session:
            note = get_note(session, 1)
            return (note.note, note.rating, tags_of(session, 1)) if note else ("", None, [])

    wait_until("both are kept", lambda: kept() == ("Wants a refund j k l", 4, []))
    engine.dispose()


def test_a_hundred_thousand_words_stay_light(page: Page, address: str) -> None:
    audio = open_call(page, address, call=2, t=35)
    expect(page.locator(".line.marked")).to_contain_text(re.compile(r"word35\d\dx0"), timeout=DRAWN_MS)
    expect(page.locator(".line")).to_have_count(4000, timeout=DRAWN_MS)  # until then they move
    expect(page.locator(".line.marked")).to_be_in_viewport()
    assert heard_from(audio, page.locator(".line.marked .word").nth(3)) == pytest.approx(35.05, abs=NEAR_S)
    page.wait_for_function(PAUSED_AFTER, arg=36)
    lit = page.locator(".spoken").first  # a line every hundredth of a second
    wait_until("its word is lit", lambda: abs(int(lit.inner_text().split("x")[0][4:]) / 100 - place(audio)) < NEAR_S)


def test_states_are_said_with_what_can_be_done(page: Page, address: str) -> None:
    open_call(page, address, call=3)
    page.get_by_text("The recording could not be transcribed. The file holds no speech.").wait_for()
    page.get_by_role("button", name="Try again").wait_for()
    open_call(page, address, call=4)
    page.get_by_text("Queued for transcription").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Not transcribed yet").wait_for()
    page.get_by_role("button", name="Transcribe", exact=True).click()
    page.get_by_text("Queued for transcription").wait_for()


def test_the_transcript_scrolls_along_until_somebody_scrolls_it(page: Page, address: str) -> None:
    audio = open_call(page, address, call=2)
    page.locator(".word").first.click()
    page.wait_for_function("document.querySelector('audio').currentTime > 1.5")
    transcript = page.locator(".transcript")
    wait_until("what is said is seen", lambda: transcript.evaluate(LIT_IS_SEEN))
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_be_hidden()
    transcript.hover()
    for _ in range(3):
        page.mouse.wheel(0, -50_000)
        page.wait_for_timeout(100)
    expect(page.locator(".line").first).to_be_in_viewport()
    page.wait_for_timeout(1000)
    expect(page.locator(".line").first).to_be_in_viewport()
    assert not transcript.evaluate(LIT_IS_SEEN)
    follow.click()
    wait_until("what is said is seen again", lambda: transcript.evaluate(LIT_IS_SEEN))
    expect(follow).to_be_hidden()
    assert not paused(audio)


def test_lines_are_reached_and_edited_with_keys_alone(page: Page, address: str) -> None:
    audio = open_call(page, address)
    page.locator(".line").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert 10.4 < heard_after(audio, lambda: page.keyboard.press("Enter")) < 13
    page.keyboard.press("Space")
    wait_until("it pauses", lambda: paused(audio))
    page.keyboard.press("F2")
    field = page.get_by_role("textbox", name="What was said at 0:10")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(page.locator(".line").nth(2)).to_be_focused()


def test_a_call_picked_from_the_list_plays_at_a_press_of_space(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions")
    page.locator("tr[data-id='1']").click()
    audio = page.locator("audio")
    audio.wait_for(state="attached")
    page.get_by_role("region", name="Transcript", exact=True).wait_for()
    wait_until("the sound is there", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    page.keyboard.press("Space")
    wait_until("it plays", lambda: not paused(audio) and place(audio) > 0.2)
    page.locator("tr[data-id='2']").click()
    page.locator(".said", has_text="word0x0").wait_for()
    assert paused(audio)


def test_all_that_is_new_is_queued_once_confirmed(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions?number=30333")
    page.locator("tr[data-id='3']").wait_for()
    page.get_by_role("button", name="Transcribe…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Failed: 1").click()
    dialog.get_by_role("button", name="Transcribe 1 call").click()
    page.get_by_test_id("stToast").get_by_text("1 recording queued").wait_for()
    expect(page.locator("tr[data-id='3']")).to_contain_text("Queued")


def test_a_long_recording_is_prepared_by_the_worker_and_appears_by_itself(page: Page, address: str) -> None:
    page.goto(f"{address}/interactions?call=5&t=650")
    page.get_by_text("Preparing the audio (11 min 40 s)").wait_for()
    page.get_by_role("button", name="Play", exact=True).wait_for(timeout=90_000)
    audio = page.locator("audio")
    wait_until("it is wound to its second", lambda: place(audio) == pytest.approx(650, abs=0.1))
