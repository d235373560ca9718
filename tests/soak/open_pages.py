"""Opens the app's pages in turn in a real browser until killed: `python -m tests.soak.open_pages ADDRESS`.

It prints one line of JSON for each page: the path, the state and the text seen. The states are "ok", "error" (the
page shows one), "not loaded" (though the app is up) and "app down".
"""

import itertools
import json
import sys
import time

from playwright.sync_api import Error, Page, sync_playwright

from tests.lab.browser import CHROMIUM
from tests.soak.app_processes import is_app_up

PATHS = (
    *("", "interactions", "transcripts", "explore", "queues", "wallboard", "trunks", "agents", "extensions"),
    *("freepbx", "transcription", "alerts"),
)
TIMEOUT_MS = 30_000
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'
STAY_S = 2.0  # long enough for a page to refresh once


def open_page(page: Page, address: str, path: str) -> tuple[str, str]:
    """Open one page, and return its state and the text of an error."""
    try:
        page.goto(f"{address}/{path}", timeout=TIMEOUT_MS, wait_until="domcontentloaded")
        page.locator(DRAWN).wait_for(timeout=TIMEOUT_MS)
        time.sleep(STAY_S)
        exception = page.get_by_test_id("stException")
        if exception.count():
            return "error", exception.first.inner_text(timeout=2000)[:2000]
        text = page.locator("body").inner_text(timeout=5000)
        return ("error", text[:2000]) if "Traceback" in text else ("ok", "")
    except Error as error:
        return ("not loaded" if is_app_up(address) else "app down"), str(error)[:500]


def main(address: str) -> None:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1200, "height": 800})
        for path in itertools.cycle(PATHS):
            started = time.monotonic()
            state, text = open_page(page, address, path)
            took_s = round(time.monotonic() - started, 1)
            print(json.dumps({"path": path, "state": state, "text": text, "took_s": took_s}), flush=True)
            if state == "app down":
                time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
