"""One demo PBX for all tests, entered as a newcomer enters it, and one browser that looks at it in four ways."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import demo as demos
from tests.browser.checks import faults, settle
from tests.browser.chromium import SLOW_MS, launched, open_page
from tests.browser.demo import Demo

LOOKS = {f"{width} {mode}": (width, mode == "dark") for width in (1440, 820) for mode in ("light", "dark")}


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


def shown(chromium: Browser, demo: Demo, width: int = 1440, *, dark: bool = False) -> Iterator[Page]:
    """A page of the app, closed afterwards: what stands open draws itself anew every second."""
    page = open_page(chromium, width, dark=dark)
    page.set_default_timeout(SLOW_MS)
    page.goto(demo.address)
    page.get_by_text("Latest calls").wait_for()
    yield page
    page.context.close()


@pytest.fixture(scope="module", params=LOOKS.values(), ids=list(LOOKS))
def look(demo: Demo, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page as wide, light or dark, that a module's tests walk through."""
    width, dark = request.param
    yield from shown(chromium, demo, width, dark=dark)


@pytest.fixture(scope="module")
def worked_on(demo: Demo, chromium: Browser) -> Iterator[Page]:
    """A page that tests choose and search on; those that only look have pages of their own."""
    yield from shown(chromium, demo)


@pytest.fixture
def page(worked_on: Page) -> Iterator[Page]:
    """A wide light page; at the test's end nothing has gone wrong on it."""
    yield worked_on
    settle(worked_on)
    assert faults(worked_on) == []
