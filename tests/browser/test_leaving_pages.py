"""A page whose parts are drawn anew by timers is left just when they ask for it: the next one comes, and stays."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.app import running_app
from tests.browser.checks import faults
from tests.browser.chromium import SLOW_MS, open_page

# Timers of seconds come every 20 ms, so that one of them comes between any click and its page.
HASTY = "const real = setInterval; window.setInterval = (act, ms, ...more) => real(act, ms >= 1000 ? 20 : ms, ...more)"


def test_the_page_that_comes_stays(chromium: Browser, tmp_path: Path) -> None:
    with running_app(tmp_path / "data") as address:
        page = open_page(chromium)
        page.set_default_timeout(SLOW_MS)
        page.add_init_script(HASTY)
        page.goto(address)
        page.get_by_role("button", name="Connect a FreePBX").click()
        page.get_by_label("Host name or address").wait_for()
        page.wait_for_timeout(1000)
        assert page.get_by_label("Host name or address").is_visible()
        assert faults(page) == []
        page.context.close()
