"""A click on a table is not lost when a live page redraws the table."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from pbx.ui import page_elements as elements
from tests.browser.chromium import open_page

SCRIPT = "".join((elements.UI_DIR / name).read_text() for name in ("elements.js", "table.js"))
DRAW = """async ([script, waits]) => {
  const { default: draw } = await import("data:text/javascript," + encodeURIComponent(script))
  window.clicked ??= []
  const rows = ["600", "601"].map((id) => ({ id, cells: [id, waits] }))
  const columns = [{ title: "Queue", align: "" }, { title: "Longest wait", align: "" }]
  const data = { label: "Queues", columns, rows, pick: true }
  draw({ data, parentElement: document.body, setTriggerValue: (_, id) => clicked.push(id) })
}"""


@pytest.fixture
def blank(chromium: Browser) -> Iterator[Page]:
    page = open_page(chromium)
    page.set_content('<!DOCTYPE html><div class="table"></div>')
    yield page
    page.context.close()


def test_a_click_is_not_lost_while_the_figures_change(blank: Page) -> None:
    row = blank.locator("tr[data-id='601']")
    blank.evaluate(DRAW, [SCRIPT, "0:07"])
    row.hover()
    blank.mouse.down()
    for waits in ("0:08", "0:09"):
        blank.evaluate(DRAW, [SCRIPT, waits])
    blank.mouse.up()
    blank.wait_for_function("clicked.length > 0")
    assert blank.evaluate("clicked") == ["601"]
    expect(row).to_contain_text("0:09")
    blank.evaluate(DRAW, [SCRIPT, "0:10"])
    expect(row).to_contain_text("0:10")
