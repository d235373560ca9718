"""What is seen of a page: whether it is at rest, and what is wrong with how it looks."""

from playwright.sync_api import Page, expect

from tests.lab.process import wait_until

PATIENCE_S = 60  # with what is tried until it is done
MEASURES = ("overflow", "cut", "charts", "faint")


def settle(page: Page) -> None:
    """Wait until the page is drawn whole: nothing runs, nothing is left of what was there before."""
    page.wait_for_function("() => checks.atRest()", polling=50)


def open_page(page: Page, title: str) -> None:
    """Follow the navigation to a page, and wait until it is drawn."""
    if page.locator(".board").count():  # the wallboard stands alone
        page.get_by_role("link", name="Back to Queues").click()
        page.get_by_role("heading", name="Queues", level=1).wait_for()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    expect(page).to_have_title(f"{title} – PBX Notebook")
    (page.locator(".board") if title == "Wallboard" else page.get_by_role("heading", name=title, level=1)).wait_for()
    settle(page)


def open_tab(page: Page, name: str) -> None:
    """Choose a tab, and wait until it is drawn."""
    tab = page.get_by_role("tab", name=name, exact=True)

    def is_open() -> bool:  # a click just when what was there before is drawn anew may be lost
        if tab.get_attribute("aria-selected") != "true":
            tab.click()
            page.wait_for_timeout(300)
        settle(page)
        return tab.get_attribute("aria-selected") == "true"

    wait_until(f"{name} is open", is_open, PATIENCE_S)


def wrongs(page: Page) -> list[str]:
    """What is wrong with how a page looks, in words; what only passes by while it is drawn is not."""
    found = _measured(page)
    if found:
        page.wait_for_timeout(500)
        settle(page)
        found &= _measured(page)
    return sorted(found)


def _measured(page: Page) -> set[str]:
    return {told for measure in MEASURES for told in page.evaluate(f"checks.{measure}()")}


def faults(page: Page) -> list[str]:
    """Exceptions shown, tracebacks, and what the browser complained about since it was asked last."""
    shown = page.get_by_test_id("stException").all_inner_texts()
    shown += ["a traceback"] if "Traceback" in page.locator("body").inner_text() else []
    complaints: list[str] = page.complaints  # type: ignore[attr-defined]
    told = shown + complaints
    complaints.clear()
    return told


def tab(page: Page) -> tuple[str, str]:
    """Press Tab: the role and name of where the focus is then, and the name of where it was if it wasn't seen there."""
    page.keyboard.press("Tab")
    found = page.evaluate("checks.stop()")
    return found["name"], found["unseen"]
