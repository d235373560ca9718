"""What users do on a page: open it, select, type, hover over a chart, click on it, read a figure."""

import re
from datetime import UTC, date, datetime, timedelta

from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as TooLate

from pbx.demo.simulated_history import local_day
from tests.browser.checks import PATIENCE_S, settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

SOON_MS = 3_000
# The marks of a chart: bars, points and squares.
MARKS = ".cartesianlayer :is(.points path, .hm path)"


def open_path(page: Page, demo: Demo, path: str) -> None:
    """Open a page by its path and query."""
    page.goto(f"{demo.address}/{path}")
    page.locator(".data-label-pill").wait_for()
    settle(page)


def reload(page: Page) -> None:
    """Reload the page, which keeps only what is in its URL."""
    page.reload()
    page.locator(".data-label-pill").wait_for()
    settle(page)


def yesterday() -> date:
    """The demo's most recent complete day."""
    return local_day(datetime.now(UTC)) - timedelta(days=1)


def select_box(page: Page, label: str) -> Locator:
    return page.get_by_role("combobox", name=label, exact=True)


def choose(page: Page, label: str, option: str) -> None:
    """Select an option of a select box, and wait until it is selected."""
    pick_option(page, label, option)
    expect(select_box(page, label)).to_have_value(option)
    settle(page)


def pick_option(page: Page, label: str, option: str) -> None:
    """Click an option in a select box's list."""
    box, wanted = select_box(page, label), page.get_by_role("option", name=option, exact=True)

    def is_picked() -> bool:  # the list closes when the page scrolls
        if box.get_attribute("aria-expanded") != "true":
            box.click()
        try:
            wanted.click(timeout=SOON_MS)
        except TooLate:
            return False
        return True

    wait_until(f"{option} is picked", is_picked, PATIENCE_S)


def pick_and_close(page: Page, label: str, option: str) -> None:
    """Add an option to a multi-select and close its list, which may hide what the test clicks next."""
    pick_option(page, label, option)
    box = select_box(page, label)

    def is_closed() -> bool:
        if box.get_attribute("aria-expanded") == "true":
            box.press("Escape")
            page.wait_for_timeout(100)
        return box.get_attribute("aria-expanded") == "false" and page.get_by_role("option").count() == 0

    wait_until("the list is closed", is_closed, PATIENCE_S)


def press_option(page: Page, group: str, option: str) -> None:
    """Press one button of a segmented control."""
    wanted = page.get_by_role("radiogroup", name=group).get_by_role("radio", name=re.compile(rf"^{option}\b"))

    def is_pressed() -> bool:  # a redraw at the moment of the click may cancel it
        if not wanted.is_checked():
            wanted.click()
        return wanted.is_checked()

    wait_until(f"{option} is pressed", is_pressed, PATIENCE_S)
    settle(page)


def type_and_enter(field: Locator, value: str) -> None:
    """Type into a field and press Enter in it, wherever the focus is."""
    field.fill(value)
    expect(field).to_have_value(value)
    field.press("Enter")


def close_overlay(page: Page, within: Locator) -> None:
    """Close a pop-up with Escape. `within` is an element of it."""

    def is_closed() -> bool:
        if within.is_visible():
            page.keyboard.press("Escape")
            page.wait_for_timeout(100)
        return not within.is_visible()

    wait_until("it is closed", is_closed, PATIENCE_S)


def headline_figure(page: Page, name: str) -> Locator:
    """The value of a headline figure."""
    key = re.sub("[^a-z0-9]", "_", name.lower())
    return page.locator(f".st-key-figure_{key}").get_by_test_id("stMetricValue")


def chart(page: Page, title: str) -> Locator:
    """The chart with exactly this title, scrolled into view."""
    exactly = re.compile(rf"^{re.escape(title)}$")
    drawn = page.locator(".js-plotly-plot").filter(has=page.locator(".gtitle", has_text=exactly))
    drawn.scroll_into_view_if_needed()
    return drawn


def hover_point(page: Page, drawn: Locator, number: int) -> str:
    """Hover over one mark of a chart, and return the tooltip's text."""
    return hover(page, drawn.locator(MARKS).nth(number))


def hover(page: Page, mark: Locator) -> str:
    """Hover over a mark, even if the layout moves it, and return the tooltip's text."""
    tooltip = page.locator(".hoverlayer :is(.hovertext, .legend)")
    page.mouse.move(0, 0)

    def is_shown() -> bool:
        bounds = mark.bounding_box()
        assert bounds is not None
        page.mouse.move(bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2 + 1)
        page.mouse.move(bounds["x"] + bounds["width"] / 2, bounds["y"] + bounds["height"] / 2)
        page.wait_for_timeout(100)
        return tooltip.count() > 0

    wait_until("the tooltip appears", is_shown, PATIENCE_S)
    return " ".join(tooltip.first.locator("text").all_text_contents())


def click_point(page: Page, drawn: Locator, number: int) -> int:
    """Click one mark of a chart, and return the number of calls in its tooltip."""
    match = re.search(r"([\d,]+) (?:calls?|of)\b", tooltip := hover_point(page, drawn, number))
    assert match, tooltip
    page.mouse.down()
    page.mouse.up()
    return int(match[1].replace(",", ""))


def count_text(count: int) -> str:
    return f"{count:,} call" if count == 1 else f"{count:,} calls"
