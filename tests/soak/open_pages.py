"""Opens the app's pages in turn in a real browser until killed: `python -m tests.soak.open_pages ADDRESS`.

It prints one line of JSON for each page: the path, the state and the text seen. The states are "well", "broken" (the
page shows an error), "unseen" (the app is up but the page didn't load) and "away" (the app is down).
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
LONGEST_MS = 30_000
DRAWN = '[data-testid="stApp"][data-test-script-state="notRunning"]'
LOOKS_S = 2.0  # long enough for a page to refresh itself once


def look(page: Page, address: str, path: str) -> tuple[str, str]:
    try:
        page.goto(f"{address}/{path}", timeout=LONGEST_MS, wait_until="domcontentloaded")
        page.locator(DRAWN).wait_for(timeout=LONGEST_MS)
        time.sleep(LOOKS_S)
        shown = page.get_by_test_id("stException")
        if shown.count():
            return "broken", shown.first.inner_text(timeout=2000)[:2000]
        text = page.locator("body").inner_text(timeout=5000)
        return ("broken", text[:2000]) if "Traceback" in text else ("well", "")
    except Error as error:
        return ("unseen" if is_app_up(address) else "away"), str(error)[:500]


def main(address: str) -> None:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1200, "height": 800})
        for path in itertools.cycle(PATHS):
            begun = time.monotonic()
            state, seen = look(page, address, path)
            took_s = round(time.monotonic() - begun, 1)
            print(json.dumps({"path": path, "state": state, "seen": seen, "took_s": took_s}), flush=True)
            if state == "away":
                time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
