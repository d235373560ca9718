"""The main path in a real browser on real Asterisk: settings, connection check, sync, playing a call, live pages."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from pbx.model.snapshot import Queue, Snapshot, SnapshotPart
from pbx.settings import Connection, load_settings
from pbx.store.engine import open_engine, writing
from pbx.store.pbx_connections import save_connection
from pbx.store.snapshots import record_snapshot
from tests.lab.browser import browser, enter_pbx, go, running_app
from tests.lab.calls import place_queue_call
from tests.lab.process import wait_until
from tests.lab.servers import ODD_MEMBER, LabServer

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
SLOW_MS = 60_000
JOINER = "\u2060"  # invisible; keeps text from becoming a link or an emoji
MARKUP_NAMES = [
    '<img src=x onerror="document.title=1"> <b>bold</b> &amp; "quotes"',
    "*b* _i_ ~~s~~ `c` $x^2$ [l](http://x.example) ![i](http://x.example/y.png)",
    "a@b.example http://x.example www.x.example :smile: :material/delete: :red[x] -> <-",
    "# h | 1. one | \\ back\\*slash 🛠️ 日本",
]
TITLES = [
    *("Today", "Interactions", "Transcripts", "Explore", "Queues", "Trunks", "Agents", "Extensions & calls"),
    *("FreePBX integration", "Transcription", "Alerts"),
]


@pytest.fixture
def page(no_real_data: Path) -> Iterator[Page]:
    with running_app(no_real_data) as address, browser() as page:
        page.goto(address)
        yield page


def test_the_main_path_from_settings_to_live_pages(server: LabServer, page: Page) -> None:
    place_queue_call(server, "answered")
    connect(page, server)
    sync(page)
    play_a_call(page)
    open_live_pages(page)
    delete_settings(page)
    assert page.console_errors == []  # type: ignore[attr-defined]


def connect(page: Page, server: LabServer) -> None:
    page.get_by_text("No PBX is connected yet").wait_for(timeout=SLOW_MS)
    page.get_by_role("button", name="Connect your FreePBX").click()
    page.get_by_label("Host name or address").wait_for()
    enter_pbx(page, server)
    page.get_by_role("button", name="Check connection").click()
    expect(page.get_by_test_id("stAlert")).to_contain_text("steps", timeout=SLOW_MS)
    expect(page.get_by_test_id("stAlert")).not_to_contain_text("failed")
    page.get_by_role("button", name="Save settings").click()
    page.get_by_text("Settings saved.").wait_for()
    password = page.get_by_label("AMI password", exact=True)
    expect(password).to_have_attribute("placeholder", "Saved; leave empty to keep it")
    expect(password).to_have_value("")
    assert server.ami_secret not in page.content()


def sync(page: Page) -> None:
    page.get_by_role("button", name="Sync FreePBX").click()
    toasts = page.get_by_test_id("stToast")  # the worker may already have started a sync
    toasts.filter(has_text=re.compile("Sync queued|A sync is already running")).first.wait_for()
    toasts.filter(has_text="Sync done:").first.wait_for(timeout=SLOW_MS)


def play_a_call(page: Page) -> None:
    go(page, "Interactions")
    row = page.locator("tr[data-id]", has_text="Recorded").first
    expect(row).to_contain_text("FreePBX")
    row.click()
    player = page.locator("audio")
    player.wait_for(state="attached")
    expect(page).to_have_url(re.compile("call="))
    page.get_by_role("button", name="Play", exact=True).click()
    wait_until("the sound is playing", lambda: player.evaluate("audio => audio.currentTime") > 0.5)
    page.get_by_role("tab", name="Details").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the recording").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"RIFF"
    page.reload()
    page.locator("audio").wait_for(state="attached", timeout=SLOW_MS)  # the address is enough to open the call
    page.get_by_role("button", name="Close").click()
    expect(page.locator("audio")).to_have_count(0)


def open_live_pages(page: Page) -> None:
    go(page, "Queues")
    for name in ("sales", "support", "billing"):
        page.locator("td", has_text=name).first.wait_for(timeout=SLOW_MS)
    page.locator("tr[data-id=sales]").click()
    page.get_by_role("heading", name="Agents in queue sales").wait_for()
    page.get_by_text(ODD_MEMBER).first.wait_for()
    go(page, "Trunks")
    for name, state in (("badcarrier", "Rejected"), ("carrier", "Registered"), ("peer-down", "Unreachable")):
        row = page.get_by_role("table", name="Trunks", exact=True).locator("tr", has=page.get_by_text(name, exact=True))
        expect(row).to_contain_text(state)
    go(page, "Extensions & calls")
    page.get_by_text("1001", exact=True).first.wait_for()
    for title in TITLES:
        go(page, title)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        assert "Traceback" not in page.content()


def delete_settings(page: Page) -> None:
    go(page, "FreePBX integration")
    page.get_by_role("button", name="Delete saved settings").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No PBX is set up yet").wait_for()


def test_names_with_markup_are_shown_as_plain_text(no_real_data: Path) -> None:
    engine = open_engine(load_settings())
    pbx = save_connection(engine, load_settings(), Connection(host="pbx.invalid", ari_port=8088, ami_port=5038))
    queues = tuple(Queue(name=name) for name in MARKUP_NAMES)
    with writing(engine) as session:
        record_snapshot(
            session, pbx, Snapshot(taken_at=datetime.now(UTC), queues=queues, parts={"queues": SnapshotPart()})
        )
    engine.dispose()
    with running_app(no_real_data) as address, browser() as page:
        for name in MARKUP_NAMES:
            page.goto(f"{address}/queues?{urlencode({'show': name})}")
            heading = page.get_by_role("heading", name="Agents in queue")
            heading.wait_for()
            assert heading.inner_text().replace(JOINER, "") == f"Agents in queue {name}"
            page.locator("td:first-child").nth(len(MARKUP_NAMES) - 1).wait_for()
            assert set(page.locator("tr[data-id] td:first-child").all_inner_texts()) == set(MARKUP_NAMES)
            assert page.get_by_test_id("stMain").locator("a[href^=http], img, b").count() == 0
        expect(page).to_have_title("Queues – PBX Notebook")
        assert page.console_errors == []  # type: ignore[attr-defined]
