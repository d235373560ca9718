"""The app without a mouse: Tab reaches everything, the focus is visible, Enter and Space act like a click."""

import re

from playwright.sync_api import Page, expect

from tests.browser.actions import select_box
from tests.browser.checks import open_page, press_tab, settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

MAX_PRESSES = 120


def tab_until(page: Page, wanted: str, presses: int = MAX_PRESSES) -> tuple[list[str], list[str]]:
    """Press Tab until an element's name contains `wanted`. Returns all names, and those whose focus wasn't visible."""
    reached: list[str] = []
    unseen: list[str] = []
    for _ in range(presses):
        name, invisible = press_tab(page)
        reached.append(name)
        unseen += [invisible] if invisible else []
        if wanted in name:
            break
    return reached, unseen


def test_tab_reaches_everything_on_interactions(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.address}/interactions?period=Last+30+days&transcription=Completed")
    page.locator("tr[data-id]").nth(1).wait_for()
    settle(page)
    reached, unseen = tab_until(page, "tr ")
    wanted = ("Today", "Queues", "Sync FreePBX", "Period", "Direction", "Number", "Queue", "Recording", "Transcript")
    missing = [name for name in wanted if not any(name in stop for stop in reached)]
    assert (missing, unseen) == ([], [])
    assert "tr " in reached[-1]
    page.keyboard.press("ArrowDown")
    expect(page.locator("tr[data-id]").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(".word").first.wait_for()
    settle(page)
    play_with_keys(page)


def play_with_keys(page: Page) -> None:
    """Tab from the opened row to the player: Space plays and pauses, Enter plays a line."""
    audio = page.locator("audio")
    wait_until("the sound is there", lambda: audio.evaluate("audio => audio.readyState") >= 1)
    reached, unseen = tab_until(page, "Copy link")
    for name in ("Export", "Close", "Position in the recording", "Play", "Speed"):
        assert any(name in stop for stop in reached), (name, reached)
    assert unseen == []
    page.get_by_role("button", name="Play", exact=True).focus()
    page.keyboard.press("Space")
    wait_until("it plays", lambda: audio.evaluate("audio => audio.currentTime") > 0.3)
    page.keyboard.press("Space")
    wait_until("it pauses", lambda: bool(audio.evaluate("audio => audio.paused")))
    page.locator(".line").nth(2).focus()
    page.keyboard.press("Enter")
    wait_until("it plays from there", lambda: not audio.evaluate("audio => audio.paused"))
    page.keyboard.press("k")
    wait_until("it pauses again", lambda: bool(audio.evaluate("audio => audio.paused")))


def test_keys_open_a_page_and_set_a_filter(page: Page) -> None:
    open_page(page, "Today")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Explore").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Explore", level=1).wait_for()
    settle(page)
    period = select_box(page, "Period")
    period.focus()
    page.keyboard.press("ArrowDown")
    expect(period).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(period).to_have_value("Today")
    expect(page).to_have_url(re.compile("period=Today"))
    settle(page)
    page.get_by_role("radio", name="All", exact=True).focus()
    page.keyboard.press("ArrowRight")
    inbound = page.get_by_role("radio", name="Inbound")
    expect(inbound).to_be_focused()
    page.keyboard.press("Space")
    expect(inbound).to_be_checked()


def test_tab_reaches_the_figures_and_tabs_of_queues(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.address}/queues?period=Yesterday")
    page.locator(".js-plotly-plot").nth(4).wait_for()
    settle(page)
    page.get_by_role("link", name="Wallboard").last.focus()
    reached, unseen = tab_until(page, "Export", 150)
    for name in ("tr 600", "Period", "Queue", "Help for Offered", "Set service-level goal", "Offered", "Calls"):
        assert any(name in stop for stop in reached), (name, reached)
    assert unseen == []
