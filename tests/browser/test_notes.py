"""A note is saved as you type, whatever you click next, even if you close the tab; no click is lost."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlmodel import col, select

from pbx.store.engine import reading, writing
from pbx.store.models import CallNote, CallRow
from pbx.store.notes import save_note, save_rating, set_tags, tags_of
from tests.browser.actions import open_path, reload
from tests.browser.checks import open_tab, page_errors, settle
from tests.browser.chromium import open_page as open_browser
from tests.browser.conftest import SLOW_MS
from tests.browser.demo import Demo
from tests.lab.process import wait_until


@pytest.fixture
def calls(demo: Demo) -> Iterator[list[int]]:
    """The ids of the two newest calls with a recording. They have no notes before and after the test."""
    recorded = select(CallRow.id).where(CallRow.state == "downloaded").order_by(col(CallRow.started_at).desc()).limit(2)
    with reading(demo.engine) as session:
        ids = [call_id for call_id in session.exec(recorded) if call_id]
    yield ids
    with writing(demo.engine) as session:
        for call_id in ids:
            save_note(session, call_id, "")
            save_rating(session, call_id, None)
            set_tags(session, call_id, [])


@pytest.fixture
def page(demo: Demo, chromium: Browser) -> Iterator[Page]:
    """A page in a browser context of its own, with its own local storage."""
    page = open_browser(chromium)
    page.set_default_timeout(SLOW_MS)
    yield page
    settle(page)
    assert page_errors(page) == []
    page.context.close()


def note_of(page: Page) -> Locator:
    return page.get_by_label("Note", exact=True)


def status_text(page: Page) -> Locator:
    return page.locator(".note p")


def open_call(page: Page, demo: Demo, call_id: int) -> None:
    open_path(page, demo, f"interactions?state=Recorded&call={call_id}")
    open_tab(page, "Notes")


def stored_note(demo: Demo, call_id: int) -> str:
    with reading(demo.engine) as session:
        note = session.get(CallNote, call_id)
        return note.note if note else ""


def wait_for_note(demo: Demo, call_id: int, text: str) -> None:
    wait_until(f"{text!r} is saved", lambda: stored_note(demo, call_id) == text)


def row(page: Page, call_id: int) -> Locator:
    return page.get_by_role("table", name="Calls").locator(f"tr[data-id='{call_id}']")


def test_a_note_is_saved_as_it_is_typed(page: Page, demo: Demo, calls: list[int]) -> None:
    text = "Wants a refund <b>j k l</b>\n“日本” 😀"
    open_call(page, demo, calls[0])
    expect(status_text(page)).to_have_text("Saved as you type")
    note_of(page).press_sequentially(text)
    expect(status_text(page)).to_have_text("Saved")
    assert stored_note(demo, calls[0]) == text
    expect(note_of(page)).to_be_focused()
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('pbx-note'))") == []
    reload(page)
    open_tab(page, "Notes")
    expect(note_of(page)).to_have_value(text)


def test_you_can_keep_typing_while_a_note_is_saved(page: Page, demo: Demo, calls: list[int]) -> None:
    open_call(page, demo, calls[0])
    text = "one two three four five six seven"
    note_of(page).press_sequentially(f"{text}.", delay=150)  # saved more than once while typing
    note_of(page).press("ArrowLeft")
    page.wait_for_timeout(1000)
    note_of(page).press_sequentially(" eight")
    wait_for_note(demo, calls[0], f"{text} eight.")
    expect(note_of(page)).to_have_value(f"{text} eight.")


@pytest.mark.parametrize("after_ms", [0, 600])
def test_a_note_is_saved_if_you_then_click_another_call(
    page: Page, demo: Demo, calls: list[int], after_ms: int
) -> None:
    first, second = calls[:2]
    open_call(page, demo, first)
    note_of(page).press_sequentially("first")
    page.wait_for_timeout(after_ms)
    row(page, second).click()
    page.wait_for_url(lambda address: f"call={second}" in address)
    settle(page)
    wait_for_note(demo, first, "first")  # although the call is no longer open
    row(page, first).click()
    page.wait_for_url(lambda address: f"call={first}" in address)
    open_tab(page, "Notes")
    expect(note_of(page)).to_have_value("first")
    assert stored_note(demo, second) == ""


@pytest.mark.parametrize("after_ms", [0, 600])
def test_a_note_is_saved_if_you_then_click_the_navigation(
    page: Page, demo: Demo, calls: list[int], after_ms: int
) -> None:
    open_call(page, demo, calls[0])
    note_of(page).press_sequentially("kept")
    page.wait_for_timeout(after_ms)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Trunks", exact=True).click()
    page.get_by_role("heading", name="Trunks", level=1).wait_for()
    settle(page)
    page.wait_for_timeout(1500)
    expect(page).to_have_title("Trunks – PBX Notebook")
    open_call(page, demo, calls[0])
    expect(note_of(page)).to_have_value("kept")
    wait_for_note(demo, calls[0], "kept")


def test_a_note_is_saved_if_you_then_close_the_tab(page: Page, demo: Demo, calls: list[int]) -> None:
    other = page.context.new_page()
    other.set_default_timeout(SLOW_MS)
    open_call(other, demo, calls[0])
    note_of(other).press_sequentially("closed immediately")
    other.close()
    open_call(page, demo, calls[0])
    expect(note_of(page)).to_have_value("closed immediately")
    wait_for_note(demo, calls[0], "closed immediately")


def test_a_note_of_an_outdated_tab_is_merged_with_the_saved_one(page: Page, demo: Demo, calls: list[int]) -> None:
    with writing(demo.engine) as session:
        save_note(session, calls[0], "before")
    other = page.context.new_page()
    other.set_default_timeout(SLOW_MS)
    for tab in (page, other):
        open_call(tab, demo, calls[0])
        expect(note_of(tab)).to_have_value("before")
    note_of(other).fill("before\ntheirs")
    expect(status_text(other)).to_have_text("Saved")
    note_of(page).press("End")
    note_of(page).press_sequentially("\nmine")
    wait_for_note(demo, calls[0], "before\nmine\ntheirs")
    expect(status_text(page)).to_have_text("Saved, including text added elsewhere")
    expect(note_of(page)).to_have_value("before\nmine\ntheirs")
    note_of(page).press_sequentially("!")  # where the cursor was
    wait_for_note(demo, calls[0], "before\nmine!\ntheirs")
    note_of(other).fill("")
    expect(status_text(other)).to_have_text("Saved, including text added elsewhere")
    assert stored_note(demo, calls[0]) == "mine!"
    other.close()


def test_a_note_that_is_too_long_stays_in_the_field_with_a_message(page: Page, demo: Demo, calls: list[int]) -> None:
    open_call(page, demo, calls[0])
    note_of(page).fill("x" * 20_001)
    expect(status_text(page)).to_contain_text("A note holds 20,000 characters; this one has 20,001")
    reload(page)
    open_tab(page, "Notes")
    expect(note_of(page)).to_have_value("x" * 20_001)
    note_of(page).fill("x" * 20_000)
    wait_for_note(demo, calls[0], "x" * 20_000)


def test_a_refused_note_stays_in_the_field_with_the_reason(page: Page, demo: Demo, calls: list[int]) -> None:
    open_call(page, demo, calls[0])
    page.locator(".note").evaluate("(root) => (root.note.data.longest = 1e9)")  # the field allows it, the app doesn't
    note_of(page).fill("x" * 20_001)
    expect(status_text(page)).to_contain_text(
        "Not saved. A note holds 20,000 characters; this one has 20,001. Shorten it."
    )
    expect(status_text(page)).to_contain_text("Your text is still here")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('pbx-note')).length") == 1
    note_of(page).fill("short")
    expect(status_text(page)).to_have_text("Saved")
    assert stored_note(demo, calls[0]) == "short"


def test_a_note_that_cannot_be_saved_yet_is_saved_later(page: Page, demo: Demo, calls: list[int]) -> None:
    open_call(page, demo, calls[0])
    with writing(demo.engine):  # the database is locked
        note_of(page).fill("patience")
        expect(status_text(page)).to_contain_text("Not saved yet: the app isn’t responding. Your text is still here")
        note_of(page).press_sequentially(" helps")
    expect(status_text(page)).to_have_text("Saved")
    assert stored_note(demo, calls[0]) == "patience helps"


def test_tags_and_rating_are_saved_immediately(page: Page, demo: Demo, calls: list[int]) -> None:
    open_call(page, demo, calls[0])
    tags = page.get_by_role("combobox", name="Tags")
    tags.click()
    tags.press_sequentially("Refund")
    tags.press("Enter")
    tags.press("Escape")
    page.get_by_role("radio", name="4 out of 5 stars").click()

    def is_saved() -> bool:
        with reading(demo.engine) as session:
            note = session.get(CallNote, calls[0])
            return bool(note and note.rating == 4) and tags_of(session, calls[0]) == ["Refund"]

    wait_until("both are saved", is_saved)
    reload(page)
    open_tab(page, "Notes")
    expect(page.get_by_role("radio", name="4 out of 5 stars")).to_be_checked()
    expect(page.get_by_test_id("stMultiSelect").get_by_text("Refund")).to_be_visible()
