"""Fixtures: one demo for all tests, and one browser with four layouts (two widths, light and dark)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import demo as demos
from tests.browser.checks import page_errors, settle
from tests.browser.chromium import SLOW_MS, launch_chromium, open_page
from tests.browser.demo import Demo

LAYOUTS = {f"{width} {mode}": (width, mode == "dark") for width in (1440, 820) for mode in ("light", "dark")}


@pytest.hookimpl(tryfirst=True)  # before pytest reads the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with launch_chromium() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def demo(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demos.running_demo(chromium, tmp_path_factory.mktemp("demo") / "data") as demo:
        yield demo


def opened_page(chromium: Browser, demo: Demo, width: int = 1440, *, dark: bool = False) -> Iterator[Page]:
    """Open a page of the app, and close it afterwards because open pages redraw every second and slow other tests."""
    page = open_page(chromium, width, dark=dark)
    page.set_default_timeout(SLOW_MS)
    page.goto(demo.address)
    page.get_by_text("Latest calls").wait_for()
    yield page
    page.context.close()


@pytest.fixture(scope="module", params=LAYOUTS.values(), ids=list(LAYOUTS))
def layout_page(demo: Demo, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page in one of the four layouts, shared by the tests of a module."""
    width, dark = request.param
    yield from opened_page(chromium, demo, width, dark=dark)


@pytest.fixture(scope="module")
def shared_page(demo: Demo, chromium: Browser) -> Iterator[Page]:
    """A wide light page on which tests change filters, shared by the tests of a module."""
    yield from opened_page(chromium, demo)


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    """A wide light page; the test fails if the page has errors at its end."""
    yield shared_page
    settle(shared_page)
    assert page_errors(shared_page) == []
