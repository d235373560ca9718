"""Checks whether a page is completely drawn, and finds its errors and visual problems."""

from playwright.sync_api import Page, expect

from tests.lab.process import wait_until

PATIENCE_S = 60  # how long to retry an action
MEASURES = ("overflow", "cut", "charts", "faint")


def settle(page: Page) -> None:
    """Wait until the page is completely drawn: no script runs, nothing of an earlier page remains."""
    page.wait_for_function("() => checks.atRest()", polling=50)


def open_page(page: Page, title: str) -> None:
    """Open a page with the navigation and wait until it is drawn."""
    if page.locator(".board").count():  # the wallboard has no navigation
        page.get_by_role("link", name="Back to Queues").click()
        page.get_by_role("heading", name="Queues", level=1).wait_for()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    expect(page).to_have_title(f"{title} – PBX Notebook")
    (page.locator(".board") if title == "Wallboard" else page.get_by_role("heading", name=title, level=1)).wait_for()
    settle(page)


def open_tab(page: Page, name: str) -> None:
    """Open a tab and wait until it is drawn."""
    tab = page.get_by_role("tab", name=name, exact=True)

    def is_open() -> bool:  # a redraw at the moment of the click may cancel it
        if tab.get_attribute("aria-selected") != "true":
            tab.click()
            page.wait_for_timeout(300)
        settle(page)
        return tab.get_attribute("aria-selected") == "true"

    wait_until(f"{name} is open", is_open, PATIENCE_S)


def visual_problems(page: Page) -> list[str]:
    """Descriptions of a page's visual problems, such as cut text, low contrast and empty charts, if they last."""
    found = _measured(page)
    if found:
        page.wait_for_timeout(500)
        settle(page)
        found &= _measured(page)
    return sorted(found)


def _measured(page: Page) -> set[str]:
    return {problem for measure in MEASURES for problem in page.evaluate(f"checks.{measure}()")}


def page_errors(page: Page) -> list[str]:
    """The page's exceptions and tracebacks, and the console errors since the last call."""
    shown = page.get_by_test_id("stException").all_inner_texts()
    shown += ["a traceback"] if "Traceback" in page.locator("body").inner_text() else []
    console_errors: list[str] = page.console_errors  # type: ignore[attr-defined]
    errors = shown + console_errors
    console_errors.clear()
    return errors


def press_tab(page: Page) -> tuple[str, str]:
    """Press Tab. Returns the focused element's role and name, and the previous element's if its focus was invisible."""
    page.keyboard.press("Tab")
    found = page.evaluate("checks.stop()")
    return found["name"], found["unseen"]
