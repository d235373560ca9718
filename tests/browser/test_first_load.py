"""The first load of a page: its layout doesn't shift while it is drawn. Calendars begin weeks on Monday."""

import pytest
from playwright.sync_api import Browser

from tests.browser.app import navigation
from tests.browser.checks import settle
from tests.browser.chromium import open_page
from tests.browser.demo import Demo

PATHS = list(navigation())
MAX_SHIFT = 0.1  # a good Cumulative Layout Shift: https://web.dev/articles/cls
MEASURE_SHIFT = """
window.shifted = 0
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value
}).observe({ type: "layout-shift", buffered: true })
"""


@pytest.mark.parametrize("width", [1440, 820])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path or "today")
def test_a_page_does_not_move_while_it_is_drawn(chromium: Browser, demo: Demo, path: str, width: int) -> None:
    page = open_page(chromium, width)  # a new context: nothing is cached
    try:
        page.add_init_script(MEASURE_SHIFT)
        page.goto(f"{demo.address}/{path}")
        page.locator(".data-label-pill").wait_for()
        page.wait_for_timeout(2500)
        settle(page)
        assert page.evaluate("window.shifted") < MAX_SHIFT
    finally:
        page.context.close()


def test_weeks_begin_on_monday_in_every_language(chromium: Browser, demo: Demo) -> None:
    context = chromium.new_context(locale="en-US")  # where weeks begin on Sunday by default
    try:
        page = context.new_page()
        page.goto(f"{demo.address}/explore?period=Custom+range")
        page.get_by_test_id("stDateInputCalendarButton").first.click()
        calendar = page.get_by_test_id("stDateInputCalendar")
        calendar.wait_for()
        assert calendar.locator("th").all_text_contents() == ["M", "T", "W", "T", "F", "S", "S"]
    finally:
        context.close()
