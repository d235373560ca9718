"""A click on a chart lists exactly the calls of its tooltip; downloads contain what the page shows."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Download, Page, expect

from pbx.demo.company import TRUNKS
from pbx.demo.simulated_history import calls_of_day
from pbx.export import FORMATS, ZIP_WITH_AUDIO
from tests.browser.actions import MARKS, chart, choose, click_point, count_text, hover_point, open_path, yesterday
from tests.browser.checks import PATIENCE_S, settle, visual_problems
from tests.browser.demo import Demo
from tests.lab.process import wait_until

BUSIEST = "601"
TRUNK = TRUNKS[0].name
# Seven complete days, so that the heat map has a square for every hour of the week.
A_WEEK = f"period=Custom+range&days={yesterday() - timedelta(days=6)}&days={yesterday()}"


def open_drawn(page: Page, demo: Demo, path: str) -> None:
    open_path(page, demo, path)
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    settle(page)


def download(page: Page, click: Callable[[], None]) -> tuple[str, bytes]:
    """The name and content of the file that a click downloads."""
    with page.expect_download() as event:
        click()
    found: Download = event.value
    return found.suggested_filename, Path(found.path()).read_bytes()


@pytest.mark.parametrize(
    ("path", "title", "mark"),
    [
        ("explore?period=Yesterday", "Calls by outcome", 1),
        (f"explore?{A_WEEK}", "Calls by weekday and hour", yesterday().weekday() * 24 + 11),
        ("queues?period=Yesterday", "Calls by outcome", 1),
        ("queues?period=Yesterday", "Calls offered", 11),
        ("trunks?period=Yesterday&trunk_view=Calls", "Calls by hang-up cause (Q.850)", 0),
    ],
    ids=["outcomes", "heat map", "outcomes of queues", "an hour of queues", "causes of trunks"],
)
def test_a_click_on_a_chart_lists_its_calls(page: Page, demo: Demo, path: str, title: str, mark: int) -> None:
    open_drawn(page, demo, path)
    shown = click_point(page, chart(page, title), mark)
    settle(page)
    listed = page.get_by_text(re.compile(rf"^{count_text(shown)}[,:] ")).filter(visible=True)
    expect(listed.first).to_be_visible()


def test_a_click_on_a_snapshot_lists_the_callers_of_that_time(page: Page, demo: Demo) -> None:
    open_drawn(page, demo, f"queues?period=Yesterday&queue={BUSIEST}")
    drawn = chart(page, "Callers waiting")
    heading = page.get_by_text(re.compile(r"waiting or in progress \w{3} \d+ \w{3} \d\d:\d\d–\d\d:\d\d, queue 601$"))

    def shows_list() -> bool:  # the snapshots are redrawn every 30 seconds, which may cancel the click
        hover_point(page, drawn, drawn.locator(MARKS).count() // 2)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_timeout(500)
        settle(page)
        return heading.count() > 0

    wait_until("the list is that of the point", shows_list, PATIENCE_S)
    selection = dict(parse_qsl(dict(parse_qsl(urlsplit(page.url).query))["selection"], keep_blank_values=True))
    since, until = (datetime.fromtimestamp(int(selection[name]), UTC) for name in ("from", "until"))
    callers = [
        call
        for call in calls_of_day(yesterday())
        if call.queue == BUSIEST
        and call.joined_at
        and call.joined_at < until
        and call.left_at
        and call.left_at >= since
    ]
    expect(heading).to_have_text(re.compile(f"^{count_text(len(callers))}: "))


def test_the_table_of_figures_is_exported_as_csv_and_excel(page: Page, demo: Demo) -> None:
    calls = calls_of_day(yesterday())
    open_drawn(page, demo, "explore?period=Yesterday")
    page.get_by_role("button", name="Export").last.click()
    name, content = download(page, page.get_by_role("button", name="CSV").click)
    assert name.startswith("demo ")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert sum(int(row["Calls"]) for row in rows) == len(calls)
    name, content = download(page, page.get_by_role("button", name="Excel").click)
    assert name.endswith(".xlsx")
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        assert f"<v>{max(int(row['Calls']) for row in rows)}</v>" in book.read("xl/worksheets/sheet1.xml").decode()
    page.keyboard.press("Escape")


def test_a_chart_is_downloaded_as_png(page: Page, demo: Demo) -> None:
    open_drawn(page, demo, "explore?period=Yesterday")
    drawn = chart(page, "Calls by outcome")
    drawn.hover()
    name, content = download(page, drawn.locator(".modebar-btn").first.click)
    assert name == f"calls-by-outcome-{yesterday()}-demo.png"
    assert Image.open(io.BytesIO(content)).width > 600


@pytest.mark.parametrize("width", [1440, 820])
def test_a_chart_of_one_trunk_is_complete_on_the_page_and_as_png(page: Page, demo: Demo, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    try:
        open_drawn(page, demo, f"trunks?period=Last+7+days&trunk={TRUNK}")
        drawn = chart(page, "Registration")
        assert visual_problems(page) == []
        assert drawn.locator(".ytick").count() == 1
        drawn.hover()
        name, content = download(page, lambda: drawn.locator(".modebar-btn").first.dispatch_event("click"))
    finally:
        page.set_viewport_size({"width": 1440, "height": 900})
    assert re.fullmatch(r"trunk-registration-.+-\d{4}-\d\d-\d\d-to-\d{4}-\d\d-\d\d-demo\.png", name)
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    right, bottom = picture.width - 1, picture.height - 1
    sides = ((0, 0, 1, bottom), (right, 0, right + 1, bottom), (0, bottom, right, bottom + 1))
    edges = [picture.crop(side) for side in sides]
    ground = picture.getpixel((0, 0))
    assert [edge.getcolors() for edge in edges] == [[(edge.width * edge.height, ground)] for edge in edges]


def test_a_transcript_is_exported_in_every_format(page: Page, demo: Demo) -> None:
    open_call(page, demo)
    page.get_by_role("button", name="Export").click()
    found: dict[str, bytes] = {}
    for label, kind in FORMATS.items():
        choose(page, "Format", label)
        found[label] = exported_file(page, kind.extension)
    page.keyboard.press("Escape")
    word = "invoice"
    assert word in json.dumps(json.loads(found["JSON"]))
    assert all(word.encode() in found[label] for label in ("Text", "Subtitles (SRT)", "Subtitles (VTT)"))
    with zipfile.ZipFile(io.BytesIO(found[ZIP_WITH_AUDIO])) as packed:
        sounds = [name for name in packed.namelist() if name.endswith(".wav")]
        assert [packed.read(name)[:4] for name in sounds] == [b"RIFF"]
    with zipfile.ZipFile(io.BytesIO(found["Word"])) as document:
        assert word in document.read("word/document.xml").decode()


def exported_file(page: Page, extension: str) -> bytes:
    """The downloaded file; the button offers a newly selected format only after a moment.

    Until then the click brings the previous format, or an error that Streamlit shows for five seconds.
    """
    files: list[Download] = []

    def keep(file: Download) -> None:
        files.append(file)

    page.on("download", keep)
    refused = page.get_by_test_id("stDownloadButtonError")

    def is_of_the_format() -> bool:
        files.clear()
        page.get_by_role("button", name="Download 1 call").click()
        wait_until("a file or an error arrives", lambda: bool(files) or refused.is_visible(), PATIENCE_S)
        if not files:
            refused.wait_for(state="hidden")
            return False
        assert files[0].suggested_filename.startswith("demo ")
        return files[0].suggested_filename.endswith(f".{extension}")

    wait_until(f"a .{extension} arrives", is_of_the_format, PATIENCE_S)
    page.remove_listener("download", keep)
    return Path(files[0].path()).read_bytes()


def open_call(page: Page, demo: Demo) -> None:
    """Open the first call in which “invoice” was said."""
    page.goto(f"{demo.address}/transcripts?q=invoice")
    page.locator("a.hit").first.click()
    page.locator(".word").first.wait_for()
    settle(page)
