"""Pages with figures in a real browser: a click on a bar lists its calls, and tables and charts are downloaded."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from pbx.settings import Connection, Settings
from pbx.store.engine import open_engine, writing
from pbx.store.legs import store_legs
from pbx.store.pbx_connections import save_connection
from tests.browser.actions import close_overlay, hover
from tests.browser.checks import settle
from tests.lab.browser import browser, running_app
from tests.unit.sample_history import add_agents, add_calls, add_trunk_samples, clock, leg

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SLOW_MS = 30_000
DAY = {"period": "Custom range", "days": "2026-03-02"}
FORMULA = "=1+2"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("figures") / "data"
    settings = Settings(_env_file=None, pbx_data_dir=folder, pbx_database_url=None)
    engine = open_engine(settings)
    host = Connection(host="pbx.invalid", ari_port=8088, ami_port=5038, timezone="Europe/Berlin")
    pbx = save_connection(engine, settings, host)
    add_calls(engine, pbx)
    add_agents(engine, pbx)
    add_trunk_samples(engine, pbx)
    with writing(engine) as session:
        store_legs(session, pbx, [leg(7, clock(16), FORMULA, "1001", "NO ANSWER", 19, duration_s=20.0)], "cdr")
    engine.dispose()
    with running_app(folder) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with browser() as page:
        page.set_default_timeout(SLOW_MS)
        yield page
        assert page.console_errors == []  # type: ignore[attr-defined]


def open_page(page: Page, address: str, title: str, **query: str) -> None:
    page.goto(f"{address}/{title.lower()}?{urlencode(DAY | query)}")
    page.get_by_role("heading", name=title, level=1).wait_for()


def click_bar(page: Page, key: str, index: int) -> None:
    """Click a bar of a chart. `index` counts in the order in which Plotly draws them."""
    bar = page.locator(f"[class*='st-key-{key}_'] .bars .point path").nth(index)
    bar.wait_for()
    settle(page)  # the bar may still move until then
    bar.scroll_into_view_if_needed()
    hover(page, bar)
    page.mouse.down()
    page.mouse.up()


def rows(page: Page, label: str, count: int) -> list[list[str]]:
    """Wait until a table has `count` rows, and return the texts of its cells."""
    table_rows = page.get_by_role("table", name=label, exact=True).locator("tr[data-id]")
    expect(table_rows).to_have_count(count, timeout=SLOW_MS)
    return [[cell.strip() for cell in row.locator("td").all_inner_texts()] for row in table_rows.all()]


def download_export(page: Page, key: str, name: str) -> bytes:
    """Download a file with a button of an export menu, and return its bytes."""
    page.locator(f".st-key-{key}_export button").first.click()
    button = page.get_by_role("button", name=name, exact=True)
    with page.expect_download() as download:
        button.click()
    close_overlay(page, button)
    return Path(download.value.path()).read_bytes()


def test_a_click_on_a_bar_lists_its_calls_for_export(page: Page, address: str) -> None:
    open_page(page, address, "Explore")
    rows(page, "Calls", 6)
    click_bar(page, "calls_by_disposition", 1)  # the second bar, for calls that weren't answered
    expect(page.get_by_text("2 calls: Not answered")).to_be_visible(timeout=SLOW_MS)
    listed = rows(page, "Calls", 2)
    assert [row[1] for row in listed] == [FORMULA, "+4930111"]
    expect(page).to_have_url(re.compile("selection=disposition"))
    page.reload()
    assert rows(page, "Calls", 2) == listed  # the address is enough to list them

    exported = list(csv.reader(io.StringIO(download_export(page, "selected_calls", "CSV").decode("utf-8-sig"))))
    assert [line[1] for line in exported] == ["From", f"'{FORMULA}", "'+4930111"]
    with zipfile.ZipFile(io.BytesIO(download_export(page, "selected_calls", "Excel"))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        texts = book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in sheet
    assert sheet.count("<row ") == 3
    assert f">{FORMULA}<" in texts


def test_a_chart_is_downloaded_as_a_picture(page: Page, address: str) -> None:
    open_page(page, address, "Explore")
    chart = page.locator("[class*='st-key-calls_by_time_']")
    chart.locator(".js-plotly-plot").hover()
    with page.expect_download() as download:
        chart.locator(".modebar-btn").first.click()
    assert Path(download.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_click_on_a_hangup_cause_lists_calls_that_open(page: Page, address: str) -> None:
    open_page(page, address, "Trunks", trunk_view="Calls")
    rows(page, "Calls over trunks", 6)
    click_bar(page, "trunk_causes", 0)  # the most frequent cause: normal clearing
    listed = rows(page, "Calls over trunks", 2)
    assert [row[2] for row in listed] == ["040222", "1001"]
    page.get_by_role("table", name="Calls over trunks").locator("tr[data-id]").first.click()
    page.get_by_role("heading", name="Interactions", level=1).wait_for()
    expect(page).to_have_url(re.compile("call="))


def test_a_click_on_a_call_in_an_agents_timeline_lists_it(page: Page, address: str) -> None:
    open_page(page, address, "Agents", agent="Ada")
    rows(page, "Calls taken", 2)
    bars = page.locator("[class*='st-key-agent_timeline_'] .bars .point path")
    bars.first.wait_for()
    settle(page)
    click_bar(page, "agent_timeline", bars.count() - 1)  # calls are drawn last, and the latest call at the end
    assert [row[0] for row in rows(page, "Calls taken", 1)] == ["2 Mar 10:00:00"]
