"""What a person does on a page: opens it, chooses, types, points at a chart, clicks on it, reads a figure."""

import re
from datetime import UTC, date, datetime, timedelta

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLate

from pbx.demo.story import local_day
from tests.browser.checks import PATIENCE_S, settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

SOON_MS = 3_000
MARKS = ".cartesianlayer :is(.points path, .hm path)"


def start(page: Page, demo: Demo, path: str) -> None:
    """Come to a page by its address."""
    page.goto(f"{demo.address}/{path}")
    page.locator(".demo-pill").wait_for()
    settle(page)


def reload(page: Page) -> None:
    """Load the page anew: only what its address keeps is still so."""
    page.reload()
    page.locator(".demo-pill").wait_for()
    settle(page)


def yesterday() -> date:
    """The newest day of the demo that is over."""
    return local_day(datetime.now(UTC)) - timedelta(days=1)


def box(page: Page, label: str) -> Locator:
    return page.get_by_role("combobox", name=label, exact=True)


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a box; it is kept in the address."""
    pick(page, label, option)
    expect(box(page, label)).to_have_value(option)
    settle(page)


def pick(page: Page, label: str, option: str) -> None:
    """Click on an option of a box's list."""
    chosen, wanted = box(page, label), page.get_by_role("option", name=option, exact=True)

    def is_picked() -> bool:  # it closes when the page scrolls beneath it
        if chosen.get_attribute("aria-expanded") != "true":
            chosen.click()
        try:
            wanted.click(timeout=SOON_MS)
        except TooLate:
            return False
        return True

    wait_until(f"{option} is picked", is_picked, PATIENCE_S)


def pick_and_close(page: Page, label: str, option: str) -> None:
    """Add an option to a box that takes several, and close its list, which else may hide what is clicked next."""
    pick(page, label, option)
    chosen = box(page, label)

    def is_closed() -> bool:
        if chosen.get_attribute("aria-expanded") == "true":
            chosen.press("Escape")
            page.wait_for_timeout(100)
        return chosen.get_attribute("aria-expanded") == "false" and page.get_by_role("option").count() == 0

    wait_until("the list is closed", is_closed, PATIENCE_S)


def press(page: Page, group: str, option: str) -> None:
    """Press one of several buttons of which one is pressed."""
    wanted = page.get_by_role("radiogroup", name=group).get_by_role("radio", name=re.compile(rf"^{option}\b"))

    def is_pressed() -> bool:  # a click just when what was there before is drawn anew may be lost
        if not wanted.is_checked():
            wanted.click()
        return wanted.is_checked()

    wait_until(f"{option} is pressed", is_pressed, PATIENCE_S)
    settle(page)


def enter(field: Locator, value: str) -> None:
    """Type into a field and press Enter in it, wherever what has just opened has put the focus."""
    field.fill(value)
    expect(field).to_have_value(value)
    field.press("Enter")


def close(page: Page, within: Locator) -> None:
    """Close what has opened over the page by Escape; `within`: something in it, gone when it is closed."""

    def is_closed() -> bool:
        if within.is_visible():
            page.keyboard.press("Escape")
            page.wait_for_timeout(100)
        return not within.is_visible()

    wait_until("it is closed", is_closed, PATIENCE_S)


def figure(page: Page, name: str) -> Locator:
    """The value of a headline figure."""
    return page.locator(f".st-key-figure_{name.lower().replace(' ', '_')}").get_by_test_id("stMetricValue")


def chart(page: Page, title: str) -> Locator:
    drawn = page.locator(".js-plotly-plot").filter(has=page.locator(".gtitle", has_text=title))
    drawn.scroll_into_view_if_needed()
    return drawn


def point_at(page: Page, drawn: Locator, number: int) -> str:
    """Move the mouse onto a mark of a chart: what the chart says then."""
    return hover(page, drawn.locator(MARKS).nth(number))


def hover(page: Page, mark: Locator) -> str:
    """Move the mouse onto a mark, wherever it has come to stand: what its chart says then."""
    told = page.locator(".hoverlayer :is(.hovertext, .legend)")
    page.mouse.move(0, 0)

    def is_told() -> bool:
        seen = mark.bounding_box()
        assert seen is not None
        page.mouse.move(seen["x"] + seen["width"] / 2, seen["y"] + seen["height"] / 2 + 1)
        page.mouse.move(seen["x"] + seen["width"] / 2, seen["y"] + seen["height"] / 2)
        page.wait_for_timeout(100)
        return told.count() > 0

    wait_until("the chart says what is there", is_told, PATIENCE_S)
    return " ".join(told.first.locator("text").all_text_contents())


def click_on(page: Page, drawn: Locator, number: int) -> int:
    """Click on a mark of a chart: how many calls it says are there."""
    said = re.search(r"([\d,]+) (?:calls?|of)\b", told := point_at(page, drawn, number))
    assert said, told
    page.mouse.down()
    page.mouse.up()
    return int(said[1].replace(",", ""))


def count_text(count: int) -> str:
    return f"{count:,} call" if count == 1 else f"{count:,} calls"
