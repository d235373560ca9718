"""Every page of the demo is complete and readable in the wide, narrow, light and dark layouts."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.app import navigation
from tests.browser.checks import open_page, open_tab, page_errors, settle, visual_problems

PAGES = list(navigation().values())
TABS = {
    "Transcripts": ("Trends", "Topics"),
    "Queues": ("Abandoned", "By queue", "By number called", "Agents", "Repeat callers", "Transfers"),
    "Trunks": ("Calls", "Load"),
}
# An element that appears last on each page.
LAST_ELEMENT = dict.fromkeys(("Today", "Interactions", "Explore", "Queues", "Agents"), "tr[data-id]") | {
    "Transcripts": "tr[data-id], a.hit",
    "Wallboard": ".board section",
    "Trunks": ".js-plotly-plot",
    "Extensions & calls": "[aria-label=Extensions]",
    "FreePBX integration": ".st-key-demo_about",
    "Transcription": "[data-testid=stForm]",
}
CHARTS = {"Today": 1, "Explore": 5, "Queues": 8, "Trunks": 1, "Agents": 1}  # at least this many


@pytest.mark.parametrize("title", PAGES)
def test_a_page_is_complete_and_readable(layout_page: Page, title: str) -> None:
    open_page(layout_page, title)
    expect(layout_page.locator(".data-label-pill")).to_be_in_viewport()
    layout_page.locator(LAST_ELEMENT.get(title, "h1")).first.wait_for()
    settle(layout_page)
    found = visual_problems(layout_page) + page_errors(layout_page)
    for tab in TABS.get(title, ()):
        open_tab(layout_page, tab)
        found += [f"{tab}: {problem}" for problem in visual_problems(layout_page) + page_errors(layout_page)]
    assert found == []
    if title in CHARTS:
        layout_page.locator(".js-plotly-plot").nth(CHARTS[title] - 1).wait_for(state="attached")


def test_the_navigation_has_every_page(page: Page) -> None:
    open_page(page, "Today")
    links = page.get_by_test_id("stSidebarNav").get_by_role("link")
    assert [link.inner_text().splitlines()[-1].strip() for link in links.all()] == PAGES


def test_the_next_page_starts_at_its_top(page: Page) -> None:
    for title in ("Trunks", "Agents", "Explore", "Queues", "Interactions"):
        open_page(page, title)
        expect(page.get_by_role("heading", name=title, level=1)).to_be_in_viewport()
        page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
        page.wait_for_timeout(200)


def test_an_agents_page_is_complete_and_readable(layout_page: Page) -> None:
    open_page(layout_page, "Agents")
    layout_page.get_by_role("table", name="Agents").locator("tr[data-id]").first.click()
    layout_page.get_by_role("button", name="All agents").wait_for()
    settle(layout_page)
    assert visual_problems(layout_page) + page_errors(layout_page) == []
    layout_page.get_by_role("button", name="All agents").click()
    settle(layout_page)
