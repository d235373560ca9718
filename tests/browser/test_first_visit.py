"""A first visit: three clicks on Today play a call, search for a word, and show a queue's day."""

from playwright.sync_api import Locator, Page, expect

from pbx.demo.company import SUPPORT
from pbx.demo.simulated_history import calls_of_day
from tests.browser.actions import headline_figure, select_box, yesterday
from tests.browser.checks import settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

COUNT_CLICKS = "window.clicks = 0; addEventListener('click', () => { window.clicks += 1 }, true)"


def back_to(page: Page, name: str) -> Locator:
    """Go back and return the button of that name once the page is drawn, so that no click is lost."""
    page.go_back()
    button = page.get_by_role("button", name=name)
    button.wait_for()
    settle(page)
    return button


def test_three_clicks_play_a_call_find_a_word_and_show_a_queues_day(page: Page, demo: Demo) -> None:
    page.goto(demo.address)
    page.get_by_role("button", name="Play a call").wait_for()
    settle(page)
    page.evaluate(COUNT_CLICKS)
    page.get_by_role("button", name="Play a call").click()
    audio = page.locator("audio")
    audio.wait_for(state="attached")
    wait_until("it plays", lambda: audio.evaluate("audio => audio.currentTime") > 1)
    expect(page.locator(".spoken").first).to_be_in_viewport()  # the text follows the sound
    assert len(page.locator(".line").all()) > 5
    expect(page.get_by_text("Transcript from a script")).to_be_visible()
    back_to(page, "invoice").click()
    page.locator("a.hit mark").first.wait_for()
    back_to(page, "See yesterday in queue 601").click()
    visits = [call for call in calls_of_day(yesterday()) if call.queue == SUPPORT and call.joined_at]
    expect(headline_figure(page, "Offered")).to_have_text(f"{len(visits):,}")
    expect(select_box(page, "Period")).to_have_value("Yesterday")
    page.locator(".js-plotly-plot").first.wait_for()
    assert page.evaluate("window.clicks") == 3
