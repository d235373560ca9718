"""Each filter of each page lists the matching calls of the demo, is in the URL, and survives a reload."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import col, select

from pbx.demo.company import UNUSED_PHONE, ZONE, PlannedCall
from pbx.demo.simulated_history import calls_of_day, recorded_calls
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow, RecordingRow, SegmentRow, Transcript
from pbx.store.notes import set_tags
from pbx.store.search_index import index_segment, unindex_segment
from tests.browser.actions import (
    choose,
    close_overlay,
    count_text,
    headline_figure,
    open_path,
    press_option,
    reload,
    select_box,
    type_and_enter,
    yesterday,
)
from tests.browser.checks import open_page, open_tab, settle
from tests.browser.demo import Demo
from tests.simulator.call_scripts import CALL_SCRIPTS

BUSIEST, AGENT, TRUNK = "601", "Harun Malik", "harbour-sip"
SERVED = ("answered", "transferred")


def expect_listed(page: Page, calls: Iterable[object]) -> None:
    """Expect the page to list this many calls, or to say that none match."""
    count = len(list(calls))
    text = f"{count_text(count)}, times in" if count else "No calls match these filters"
    expect(page.get_by_test_id("stMain").get_by_text(text).first).to_be_visible()


def stored_by_queue(demo: Demo) -> Counter[str]:
    """How many of yesterday's calls in the demo's database have each queue."""
    zone = ZoneInfo(ZONE)
    since, until = (datetime.combine(day, time.min, zone) for day in (yesterday(), yesterday() + timedelta(days=1)))
    began = col(CallRow.started_at)
    with reading(demo.engine) as session:
        return Counter(session.exec(select(CallRow.queue).where(began >= since, began < until)).all())


def test_filters_of_interactions(page: Page, demo: Demo) -> None:
    recorded = {call.uniqueid for call in recorded_calls(datetime.now(UTC))}
    calls = calls_of_day(yesterday())
    filters: dict[str, tuple[str, str, Callable[[PlannedCall], bool]]] = {
        "Direction": ("Outbound", "direction", lambda call: call.direction == "outbound"),
        "Recording": ("Recorded", "state", lambda call: call.uniqueid in recorded),
        "Transcript": ("Completed", "transcription", lambda call: call.uniqueid in recorded),
    }
    open_path(page, demo, "interactions")
    choose(page, "Period", "Yesterday")
    expect_listed(page, calls)
    for label, (option, key, wanted) in filters.items():
        choose(page, label, option)
        expect_listed(page, filter(wanted, calls))
        expect(page).to_have_url(re.compile(f"[?&]{key}="))
        choose(page, label, "All")
    choose(page, "Queue", BUSIEST)
    expect_listed(page, range(stored_by_queue(demo)[BUSIEST]))
    choose(page, "Queue", "All")
    choose(page, "Direction", "Inbound")
    number = next(call.from_number for call in calls if call.queue == BUSIEST)
    page.get_by_label("Number", exact=True).fill(number[2:])
    from_there = [call for call in calls if call.direction == "inbound" and call.from_number == number]
    expect_listed(page, from_there)
    reload(page)
    expect_listed(page, from_there)
    expect(select_box(page, "Period")).to_have_value("Yesterday")
    expect(select_box(page, "Direction")).to_have_value("Inbound")
    expect(page.get_by_label("Number", exact=True)).to_have_value(number[2:])


def test_searches_and_filters_of_transcripts(page: Page, demo: Demo) -> None:
    def found(speaker: str = "", queue: str = "") -> str:
        of = Counter(
            script.name
            for script in CALL_SCRIPTS.values()
            for line in script.lines
            if re.search(r"\binvoice\b", line.text, re.IGNORECASE)
            and speaker in ("", line.kind)
            and queue in ("", script.queue)
        )
        return hits_text(of)

    open_path(page, demo, "transcripts")
    search = page.get_by_role("searchbox", name="Search what was said")
    search.fill("invoice")
    search.press("Enter")
    expect(page.get_by_text(found(), exact=True)).to_be_visible()
    for label, option, expected in (
        ("Speaker", "Agent", found(speaker="agent")),
        ("Speaker", "Caller", found(speaker="caller")),
        ("Queue", "602", found(queue="billing")),
        ("Direction", "Inbound", found()),
        ("Period", "Last 30 days", found()),
    ):
        choose(page, label, option)
        expect(page.get_by_text(expected, exact=True)).to_be_visible()
        choose(page, label, "All time" if label == "Period" else "All")
    choose(page, "Speaker", "Agent")
    reload(page)
    expect(page.get_by_text(found(speaker="agent"), exact=True)).to_be_visible()
    expect(search).to_have_value("invoice")
    page.locator("a.hit").first.wait_for()
    assert set(page.locator("a.hit .speaker").all_inner_texts()) == {"Agent"}
    assert "invoice" in {mark.lower() for mark in page.locator("a.hit mark").all_inner_texts()}


def hits_text(found: dict[str, int]) -> str:
    """The page's text for these mentions, counted by script."""
    mentions = sum(found.values())
    return f"{mentions} mention{'s' * (mentions != 1)} in {count_text(len(found))}"


@contextmanager
def doubtful_and_tagged(demo: Demo, call_id: int, tag: str) -> Iterator[None]:
    """Tag a call and mark its complete text as doubtful; undone at the end."""

    def change(tags: list[str], doubtful: bool) -> None:
        with writing(demo.engine) as session:
            set_tags(session, call_id, tags)
            of_call = col(SegmentRow.transcript_id).in_(
                select(Transcript.id).join(RecordingRow).where(RecordingRow.call_id == call_id)
            )
            for row in session.exec(select(SegmentRow).where(of_call, SegmentRow.text > "")).all():
                unindex_segment(session, row.id or 0)
                row.flags = "unsure" if doubtful else ""
                session.add(row)
                session.flush()
                index_segment(session, row.id or 0)

    change([tag], True)
    try:
        yield
    finally:
        change([], False)


def test_more_filters_of_transcripts(page: Page, demo: Demo) -> None:
    recorded = {call.recording: call for call in recorded_calls(datetime.now(UTC))}
    found = {
        script.name: count
        for script in CALL_SCRIPTS.values()
        if (count := sum(bool(re.search(r"\binvoice\b", line.text, re.IGNORECASE)) for line in script.lines))
    }
    with reading(demo.engine) as session:
        stored = {call.uniqueid: call for call in session.exec(select(CallRow)).all()}
    calls = {name: stored[recorded[name].uniqueid] for name in found}
    name = next(iter(found))
    chosen = calls[name]

    def only(wanted: Callable[[CallRow], bool]) -> str:
        return hits_text({name: count for name, count in found.items() if wanted(calls[name])})

    def shows(expected: str) -> None:
        expect(page.get_by_text(expected, exact=True)).to_be_visible()

    with doubtful_and_tagged(demo, chosen.id or 0, "Refund"):
        open_path(page, demo, "transcripts?q=invoice")
        shows(only(lambda call: call is not chosen))
        page.get_by_text("Include doubtful passages").click()
        shows(hits_text(found))
        settle(page)
        for label, option, expected in (
            ("Agent", chosen.agent, only(lambda call: call.agent == chosen.agent)),
            ("Tag", "Refund", only(lambda call: call is chosen)),
        ):
            choose(page, label, option)
            shows(expected)
            choose(page, label, "All")
            shows(hits_text(found))
        page.get_by_label("Number", exact=True).fill(chosen.from_number[2:])
        shows(of_number := only(lambda call: call.from_number == chosen.from_number))
        reload(page)
        shows(of_number)
        expect(page).to_have_url(re.compile("doubtful=true"))


def test_filters_of_explore(page: Page, demo: Demo) -> None:
    calls = calls_of_day(yesterday())
    open_path(page, demo, "explore")
    choose(page, "Period", "Yesterday")
    expect(headline_figure(page, "Calls")).to_have_text(f"{len(calls):,}")
    press_option(page, "By", "Queue")
    by_queue = stored_by_queue(demo)
    for name, count in by_queue.items():
        row = page.get_by_role("table", name="Calls by Queue").locator(f"tr[data-id='{name}']")
        expect(row.locator("td").nth(1)).to_have_text(f"{count:,}")
    choose(page, "Queue", BUSIEST)
    expect(headline_figure(page, "Calls")).to_have_text(f"{by_queue[BUSIEST]:,}")
    choose(page, "Queue", "All")
    press_option(page, "Direction", "Outbound")
    outbound = f"{sum(call.direction == 'outbound' for call in calls):,}"
    expect(headline_figure(page, "Calls")).to_have_text(outbound)
    reload(page)
    expect(headline_figure(page, "Calls")).to_have_text(outbound)
    expect(select_box(page, "Period")).to_have_value("Yesterday")
    expect(page.get_by_role("radio", name="Outbound")).to_be_checked()


def test_filters_of_queues(page: Page, demo: Demo) -> None:
    visits = [call for call in calls_of_day(yesterday()) if call.joined_at is not None]
    open_path(page, demo, "queues?period=Yesterday")
    expect(headline_figure(page, "Offered")).to_have_text(f"{len(visits):,}")
    of_queue = [call for call in visits if call.queue == BUSIEST]
    choose(page, "Queue", BUSIEST)
    expect(headline_figure(page, "Offered")).to_have_text(f"{len(of_queue):,}")
    expect(headline_figure(page, "Answered")).to_have_text(f"{sum(call.outcome in SERVED for call in of_queue):,}")
    expect(headline_figure(page, "Abandoned")).to_have_text(
        f"{sum(call.outcome == 'abandoned' for call in of_queue):,}"
    )
    press_option(page, "Week", "Abandon rate")
    page.locator(".gtitle", has_text="Abandon rate by weekday and hour").wait_for()
    page.get_by_role("button", name="Set service-level goal").click()
    target = page.get_by_role("spinbutton", name="Goal (%)")
    type_and_enter(target, "90")
    page.locator(".js-plotly-plot", has_text="Goal 90%").wait_for()
    close_overlay(page, target)
    open_tab(page, "By queue")
    row = page.get_by_role("table", name="By queue").locator(f"tr[data-id='{BUSIEST}']")
    expect(row.locator("td").nth(1)).to_have_text(f"{len(of_queue):,}")
    reload(page)
    expect(headline_figure(page, "Offered")).to_have_text(f"{len(of_queue):,}")
    expect(page.get_by_role("tab", name="By queue")).to_have_attribute("aria-selected", "true")
    page.locator(".js-plotly-plot", has_text="Goal 90%").wait_for()


def test_filters_of_trunks(page: Page, demo: Demo) -> None:
    seizures = [call for call in calls_of_day(yesterday()) if call.trunk]
    open_path(page, demo, "trunks")
    choose(page, "Period", "Yesterday")
    expect(headline_figure(page, "Call attempts (seizures)")).to_have_text(f"{len(seizures):,}")
    choose(page, "Trunk", TRUNK)
    of_trunk = f"{sum(call.trunk == TRUNK for call in seizures):,}"
    expect(headline_figure(page, "Call attempts (seizures)")).to_have_text(of_trunk)
    open_tab(page, "Load")
    expect(page).to_have_url(re.compile("trunk_view=Load"))
    reload(page)
    expect(headline_figure(page, "Call attempts (seizures)")).to_have_text(of_trunk)
    expect(page.get_by_role("tab", name="Load")).to_have_attribute("aria-selected", "true")


def test_filters_of_agents(page: Page, demo: Demo) -> None:
    taken = [call for call in calls_of_day(yesterday()) if call.outcome in SERVED and call.agent]
    open_path(page, demo, "agents")
    choose(page, "Period", "Yesterday")
    expect(headline_figure(page, "Calls taken")).to_have_text(f"{len(taken):,}")
    choose(page, "Queue", BUSIEST)
    of_queue = Counter(call.agent.name for call in taken if call.agent and call.queue == BUSIEST)
    expect(headline_figure(page, "Calls taken")).to_have_text(f"{sum(of_queue.values()):,}")
    name, count = of_queue.most_common(1)[0]
    row = page.get_by_role("table", name="Agents").locator("tr[data-id]", has_text=name)
    expect(row.locator("td").nth(1).locator(".text")).to_have_text(f"{count:,}")
    row.click()
    page.get_by_role("table", name="Calls taken").wait_for()
    reload(page)
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(select_box(page, "Queue")).to_have_value(BUSIEST)


def test_filters_of_the_wallboard(page: Page, demo: Demo) -> None:
    open_path(page, demo, "wallboard")
    expect(page.locator(".board section")).to_have_count(3)
    choose(page, "Queue", BUSIEST)
    expect(page.locator(".board section")).to_have_count(1)
    type_and_enter(page.get_by_role("spinbutton", name="Warn after waiting (s)"), "45")
    expect(page).to_have_url(re.compile(r"warn=45"))
    reload(page)
    expect(page.locator(".board h2")).to_have_text([BUSIEST])
    expect(page.get_by_role("spinbutton", name="Warn after waiting (s)")).to_have_value("45")


def test_the_device_filter_of_extensions(page: Page, demo: Demo) -> None:
    open_path(page, demo, "extensions")
    press_option(page, "Device state", "Unreachable")
    rows = page.get_by_role("table", name="Extensions").locator("tbody tr")
    expect(rows.filter(has_text=UNUSED_PHONE.extension)).to_have_count(1)
    expect(rows.filter(has_text="Free")).to_have_count(0)
    reload(page)
    expect(rows.filter(has_text=UNUSED_PHONE.extension)).to_have_count(1)
    expect(rows.filter(has_text="Free")).to_have_count(0)
    press_option(page, "Device state", "All")
    expect(rows.filter(has_text="Free").first).to_be_visible()


@pytest.mark.parametrize("period", ["Today", "Last 7 days", "Last 30 days"])
def test_a_period_has_the_expected_number_of_calls(page: Page, demo: Demo, period: str) -> None:
    """A longer period has more calls; Today has the calls so far."""
    open_path(page, demo, f"explore?period={period}")
    expect(select_box(page, "Period")).to_have_value(period)
    shown = int(headline_figure(page, "Calls").inner_text().replace(",", ""))
    of_yesterday = len(calls_of_day(yesterday()))
    assert shown > 3 * of_yesterday if period != "Today" else shown < 500


def test_a_custom_range_filters_all_pages(page: Page, demo: Demo) -> None:
    """Typed days are in the URL, and other pages use them too."""
    days = [yesterday() - timedelta(days=back) for back in (4, 2)]
    within = sum(len(calls_of_day(days[0] + timedelta(days=day))) for day in range(3))
    open_path(page, demo, "explore")
    choose(page, "Period", "Custom range")
    for end, day in zip(("start", "end"), days, strict=True):
        page.get_by_role("spinbutton", name=f"year, From – to {end} date").click()
        page.keyboard.type(f"{day:%Y%m%d}")
    page.keyboard.press("Escape")  # closes the calendar
    expect(headline_figure(page, "Calls")).to_have_text(f"{within:,}")
    expect(page).to_have_url(re.compile(f"{days[0]:%Y-%m-%d}.*{days[1]:%Y-%m-%d}"))
    reload(page)
    expect(headline_figure(page, "Calls")).to_have_text(f"{within:,}")
    open_page(page, "Queues")
    expect(page).to_have_url(re.compile(f"queues.*{days[0]:%Y-%m-%d}.*{days[1]:%Y-%m-%d}"))
    visits = sum(call.joined_at is not None for day in range(3) for call in calls_of_day(days[0] + timedelta(days=day)))
    expect(headline_figure(page, "Offered")).to_have_text(f"{visits:,}")
