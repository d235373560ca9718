"""One demo PBX for all tests, entered as a newcomer enters it, and one browser that looks at it in four ways."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import demo as demos
from tests.browser.chromium import launched, open_page
from tests.browser.demo import Demo
from tests.browser.seen import faults, settle

SLOW_MS = 45_000
expect.set_options(timeout=SLOW_MS)


@pytest.hookimpl(tryfirst=True)  # before markers are asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def demo(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demos.running_demo(chromium, tmp_path_factory.mktemp("demo") / "data") as demo:
        yield demo


@pytest.fixture(scope="session")
def opened(demo: Demo, chromium: Browser) -> Iterator[Callable[[int, bool], Page]]:
    """A page as wide, light or dark; each is opened once and then walked through the app."""
    pages: dict[tuple[int, bool], Page] = {}

    def open_once(width: int, dark: bool) -> Page:
        if (width, dark) not in pages:
            page = pages[width, dark] = open_page(chromium, width, dark=dark)
            page.set_default_timeout(SLOW_MS)
            page.goto(demo.address)
            page.get_by_text("Latest calls").wait_for()
        return pages[width, dark]

    yield open_once
    for page in pages.values():
        page.context.close()


@pytest.fixture(scope="session")
def worked_on(demo: Demo, chromium: Browser) -> Iterator[Page]:
    """A page that tests choose and search on; those that only look have pages of their own."""
    page = open_page(chromium)
    page.set_default_timeout(SLOW_MS)
    page.goto(demo.address)
    page.get_by_text("Latest calls").wait_for()
    yield page
    page.context.close()


@pytest.fixture
def page(worked_on: Page) -> Iterator[Page]:
    """A wide light page; at the test's end nothing has gone wrong on it."""
    yield worked_on
    settle(worked_on)
    assert faults(worked_on) == []
