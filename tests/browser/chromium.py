"""Starts Chromium through Playwright, and collects console errors and requests to other machines."""

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    expect,
    sync_playwright,
)
from playwright.sync_api._generated import LocatorAssertions

CHROMIUM = "/usr/bin/chromium"
SLOW_MS = 45_000  # the machine may also run calls
# Streamlit first requests these below the page's own path; the 404 is expected.
EXPECTED_404 = ("_stcore/health", "_stcore/host-config")

expect.set_options(timeout=SLOW_MS)  # for all tests: the last module that sets it wins


def retry_while_ambiguous(act: Callable[..., object]) -> Callable[..., object]:
    """Retry an action while two elements match: during a redraw, Streamlit shows the old and the new one."""

    @functools.wraps(act)
    def retrying(*args: object, **options: object) -> object:
        deadline = time.monotonic() + SLOW_MS / 1000
        while True:
            try:
                return act(*args, **options)
            except (Error, AssertionError) as error:
                if "strict mode violation" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    return retrying


for kind in (Locator, LocatorAssertions):
    for name, act in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            setattr(kind, name, retry_while_ambiguous(act))


@contextmanager
def launch_chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def browser(width: int = 1440, height: int = 900, *, dark: bool = False) -> Iterator[Page]:
    """A page in a new browser, made by `open_page`."""
    with launch_chromium() as chromium:
        yield open_page(chromium, width, height, dark=dark)


def open_page(chromium: Browser, width: int = 1440, height: int = 900, *, dark: bool = False) -> Page:
    """A page in a browser context of its own; `page.console_errors` collects its errors."""
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    context.add_init_script(path=Path(__file__).with_name("checks.js"))
    page = context.new_page()
    found: list[str] = []
    page.on("console", lambda message: found.extend(unexpected_errors(message)))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda request: found.extend(requests_outside(request.url)))
    page.console_errors = found  # type: ignore[attr-defined]
    return page


def unexpected_errors(message: ConsoleMessage) -> list[str]:
    """The message as an error, unless it is no error or an expected one."""
    expected = message.location.get("url", "").endswith(EXPECTED_404)
    return [message.text] if message.type == "error" and not expected else []


def requests_outside(url: str) -> list[str]:
    """The request as an error if it goes to another machine."""
    return [] if url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")) else [f"requested {url}"]


def go(page: Page, title: str) -> None:
    """Follow the navigation to a page."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title).click()
    page.get_by_role("heading", name=title, level=1).wait_for()
