"""Leaving a page while its timers redraw it: the next page opens and stays open."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.app import running_app
from tests.browser.checks import page_errors
from tests.browser.chromium import SLOW_MS, open_page

# Runs timers of seconds every 20 ms, so that one of them fires between any click and the next page.
FAST_TIMERS = (
    "const real = setInterval; window.setInterval = (act, ms, ...more) => real(act, ms >= 1000 ? 20 : ms, ...more)"
)


def test_the_next_page_stays_open(chromium: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path / "data") as address:
        page = open_page(chromium)
        page.set_default_timeout(SLOW_MS)
        page.add_init_script(FAST_TIMERS)
        for _ in range(8):  # of eight clicks, one or two met a timer at the worst moment
            page.goto(address)
            page.get_by_role("button", name="Connect your FreePBX").click()
            page.get_by_label("Host name or address").wait_for()
        page.wait_for_timeout(1000)
        assert page.get_by_label("Host name or address").is_visible()
        assert page_errors(page) == []
        page.context.close()
