"""The pages of figures in a real browser: a click on a chart lists its calls, tables and charts are taken away."""

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
from tests.unit.sample_history import add_agents, add_calls, clock, leg, look_at_trunk

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
    look_at_trunk(engine, pbx)
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
        assert page.complaints == []  # type: ignore[attr-defined]


def look(page: Page, address: str, title: str, **query: str) -> None:
    page.goto(f"{address}/{title.lower()}?{urlencode(DAY | query)}")
    page.get_by_role("heading", name=title, level=1).wait_for()


def click_bar(page: Page, key: str, which: int) -> None:
    """Click a bar of a chart, in the order in which Plotly draws them."""
    bar = page.locator(f"[class*='st-key-{key}_'] .bars .point path").nth(which)
    bar.wait_for()
    settle(page)  # until then it may still move
    bar.scroll_into_view_if_needed()
    hover(page, bar)
    page.mouse.down()
    page.mouse.up()


def rows(page: Page, label: str, count: int) -> list[list[str]]:
    """The texts of a table once it has so many rows."""
    found = page.get_by_role("table", name=label, exact=True).locator("tr[data-id]")
    expect(found).to_have_count(count, timeout=SLOW_MS)
    return [[cell.strip() for cell in row.locator("td").all_inner_texts()] for row in found.all()]


def taken(page: Page, key: str, name: str) -> bytes:
    """What a button of an export menu downloads."""
    page.locator(f".st-key-{key}_export button").first.click()
    button = page.get_by_role("button", name=name, exact=True)
    with page.expect_download() as download:
        button.click()
    close_overlay(page, button)
    return Path(download.value.path()).read_bytes()


def test_a_bar_of_figures_leads_to_its_calls_which_are_taken_away(page: Page, address: str) -> None:
    look(page, address, "Explore")
    rows(page, "Calls", 6)
    click_bar(page, "calls_by_disposition", 1)  # the second: as many as were answered
    expect(page.get_by_text("2 calls: Not answered")).to_be_visible(timeout=SLOW_MS)
    listed = rows(page, "Calls", 2)
    assert [row[1] for row in listed] == [FORMULA, "+4930111"]
    expect(page).to_have_url(re.compile("selection=disposition"))
    page.reload()
    assert rows(page, "Calls", 2) == listed  # the address alone leads there

    found = list(csv.reader(io.StringIO(taken(page, "selected_calls", "CSV").decode("utf-8-sig"))))
    assert [line[1] for line in found] == ["From", f"'{FORMULA}", "'+4930111"]
    with zipfile.ZipFile(io.BytesIO(taken(page, "selected_calls", "Excel"))) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        texts = book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in sheet
    assert sheet.count("<row ") == 3
    assert f">{FORMULA}<" in texts


def test_a_chart_is_taken_away_as_a_picture(page: Page, address: str) -> None:
    look(page, address, "Explore")
    chart = page.locator("[class*='st-key-calls_by_time_']")
    chart.locator(".js-plotly-plot").hover()
    with page.expect_download() as download:
        chart.locator(".modebar-btn").first.click()
    assert Path(download.value.path()).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_cause_of_trunks_leads_to_its_calls_and_on_to_one(page: Page, address: str) -> None:
    look(page, address, "Trunks", trunk_view="Calls")
    rows(page, "Calls over trunks", 6)
    click_bar(page, "trunk_causes", 0)  # the first of the most frequent: normal clearing
    listed = rows(page, "Calls over trunks", 2)
    assert [row[2] for row in listed] == ["040222", "1001"]
    page.get_by_role("table", name="Calls over trunks").locator("tr[data-id]").first.click()
    page.get_by_role("heading", name="Interactions", level=1).wait_for()
    expect(page).to_have_url(re.compile("call="))


def test_an_agents_call_of_the_day_leads_to_itself(page: Page, address: str) -> None:
    look(page, address, "Agents", agent="Ada")
    rows(page, "Calls taken", 2)
    paused = page.locator("[class*='st-key-agent_timeline_'] .bars .point path")
    paused.first.wait_for()
    settle(page)
    click_bar(page, "agent_timeline", paused.count() - 1)  # calls are drawn last, the later one at the end
    assert [row[0] for row in rows(page, "Calls taken", 1)] == ["2 Mar 10:00:00"]
