"""Links between pages, with all filters set: the new page has its own URL parameters only, and Back works."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from pbx.demo.company import SUPPORT
from tests.browser.actions import open_path, yesterday
from tests.browser.checks import PATIENCE_S, open_page, page_errors, settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

Query = dict[str, list[str]]
DAY = yesterday().isoformat()
CUSTOM_RANGE = f"period=Custom+range&days={DAY}&days={DAY}"
PAGES = {  # each page with all its filters changed from their defaults
    "Today": "",
    "Interactions": "interactions?period=Yesterday&direction=Inbound&number=0&queue=601&state=Not+recorded"
    "&transcription=New",
    "Transcripts": "transcripts?q=invoice&period=Last+30+days&speaker=Agent&queue=602&direction=Inbound&number=0"
    "&doubtful=true&sort=Newest",
    "Explore": "explore?period=Yesterday&queue=601&direction=Inbound&by=Outcome",
    "Queues": f"queues?{CUSTOM_RANGE}&queue=601&goal=90&week=Abandon+rate&list=Abandoned&owed=true",
    "Wallboard": "wallboard?queue=601&warn=45&bad=90",
    "Trunks": "trunks?period=Yesterday&trunk=harbour-sip&trunk_view=Calls",
    "Agents": "agents?period=Yesterday&queue=601&agent=Harun+Malik",
    "Extensions & calls": "extensions?devices=Free",
}
OWN_PARAMETERS = {  # the parameters that a page's URL may have
    "Today": set[str](),
    "Interactions": {"period", "days", "direction", "number", "queue", "state", "transcription", "call", "recording"},
    "Transcripts": {
        "q",
        "period",
        "days",
        "speaker",
        "queue",
        "direction",
        "agent",
        "number",
        "tag",
        "doubtful",
        "sort",
    }
    | {"view", "phrases", "by", "measure"},
    "Explore": {"period", "days", "queue", "direction", "by", "selection"},
    "Queues": {"period", "days", "queue", "show", "goal", "week", "list", "owed", "selection"},
    "Wallboard": {"queue", "warn", "bad"},
}


def row(table: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("table", name=table, exact=True).locator("tr[data-id]").first.click()


def button(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("button", name=name).first.click()


def link(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_test_id("stMain").get_by_role("link", name=name).first.click()


def hit(page: Page) -> None:
    page.locator("a.hit").first.click()


def called_back(page: Page) -> None:
    page.get_by_role("table", name="Abandoned calls").get_by_role("button", name="Called back after").first.click()


CALL: Query = {"call": [r"\d+"]}
LINKS: list[tuple[str, Callable[[Page], None], str, Query]] = [
    # the page to start from, the click, the new page, and its complete query
    (
        PAGES["Explore"],
        button("Open in Interactions"),
        "interactions",
        {"period": ["Custom range"], "days": [DAY, DAY], "direction": ["Inbound"], "queue": ["601"]},
    ),
    (
        f"explore?{CUSTOM_RANGE}&selection=queue%3D",
        button("Open in Interactions"),
        "interactions",
        {"period": ["Custom range"], "days": [DAY, DAY], "queue": ["No queue"]},
    ),
    (PAGES["Explore"], row("Calls"), "interactions", CALL),
    ("explore?period=Custom+range&days=2020-01-01&days=2020-01-02&by=Hour", button("Import data"), "data-import", {}),
    (PAGES["Queues"].replace("&owed=true", ""), row("Abandoned calls"), "interactions", CALL),
    (PAGES["Queues"].replace("&owed=true", ""), called_back, "interactions", CALL),
    (PAGES["Queues"].replace("=Abandoned", "=Calls"), row("Calls"), "interactions", CALL),
    (
        PAGES["Queues"].replace("=Abandoned", "=Repeat+callers"),
        row("Repeat callers"),
        "interactions",
        {"number": [r"\d+"]},
    ),
    (PAGES["Trunks"], row("Calls over trunks"), "interactions", CALL),
    (
        "trunks?period=Custom+range&days=2020-01-01&days=2020-01-02&trunk_view=Calls",
        button("Import data"),
        "data-import",
        {},
    ),
    (PAGES["Agents"], row("Calls taken"), "interactions", CALL),
    ("agents?period=Custom+range&days=2020-01-01&days=2020-01-02", button("Import data"), "data-import", {}),
    (PAGES["Transcripts"], hit, "interactions", CALL | {"recording": [r"\d+"], "t": [r"[\d.]+"]}),
    ("transcripts?period=Last+30+days&queue=602", row("Latest transcripts"), "interactions", CALL),
    ("", row("Latest calls"), "interactions", CALL),
    ("", button("See yesterday in queue 601"), "queues", {"period": ["Yesterday"], "queue": [SUPPORT]}),
    ("", button("Search transcripts for “invoice”"), "transcripts", {"q": ["invoice"]}),
    ("", button("Play a call"), "interactions", CALL),
    ("", link("Queues"), "queues", {}),
]


def selected_values(page: Page) -> list[str]:
    """The values of the page's select boxes."""
    boxes = page.get_by_test_id("stMain").get_by_role("combobox")
    found: list[str] = boxes.evaluate_all("boxes => boxes.map((box) => box.value)")
    return found


def query_of(page: Page) -> Query:
    return parse_qs(urlsplit(page.url).query)


def expect_query(page: Page, query: Query) -> None:
    """The URL has exactly these parameters, and each value matches its pattern."""

    def fits() -> bool:
        found = query_of(page)
        return {name: len(values) for name, values in found.items()} == {n: len(v) for n, v in query.items()} and all(
            re.fullmatch(want, got) for name in query for want, got in zip(query[name], found[name], strict=True)
        )

    wait_until(f"the URL has {query}", fits, PATIENCE_S)
    settle(page)
    assert fits(), page.url


def expect_page(page: Page, path: str) -> None:
    expect(page).to_have_url(re.compile(rf"/{path}(\?.*)?$"))
    page.locator(".data-label-pill").wait_for()
    settle(page)


def expect_back(page: Page, url: str, boxes: list[str], title: str) -> None:
    """Go back one step, and expect the page as it was."""
    page.go_back()

    def is_back() -> bool:  # the title too: right after the step, the other page may still be shown
        settle(page)
        return (page.url, selected_values(page), page.title()) == (url, boxes, title)

    wait_until("the first page is back", is_back, PATIENCE_S)
    settle(page)
    assert (page.url, selected_values(page)) == (url, boxes)


@pytest.mark.parametrize(
    ("start", "follow", "target", "query"), LINKS, ids=[f"{n} {w[0][:12]} to {w[2]}" for n, w in enumerate(LINKS)]
)
def test_a_link_opens_its_page_and_back_restores_the_first(
    page: Page, demo: Demo, start: str, follow: Callable[[Page], None], target: str, query: Query
) -> None:
    open_path(page, demo, start)
    url, boxes, title = page.url, selected_values(page), page.title()
    follow(page)
    expect_page(page, target)
    expect_query(page, query)
    assert page_errors(page) == []
    expect_back(page, url, boxes, title)


@pytest.mark.parametrize("start", PAGES)
def test_the_navigation_works_with_all_filters_set_and_back_restores_them(page: Page, demo: Demo, start: str) -> None:
    open_path(page, demo, PAGES[start])
    url, boxes, title = page.url, selected_values(page), page.title()
    for other in ("Interactions", "Transcripts", "Explore", "Queues", "Today"):
        if other == start:
            continue
        if start == "Wallboard" and other != "Queues":  # the wallboard has no navigation
            continue
        open_page(page, other)
        assert query_of(page).keys() <= OWN_PARAMETERS[other], other
        assert page_errors(page) == []
        expect_back(page, url, boxes, title)


def test_back_closes_an_open_call_but_undoes_no_filter(page: Page, demo: Demo) -> None:
    open_path(page, demo, "explore")
    open_path(page, demo, "interactions?period=Yesterday")
    row("Calls")(page)
    page.get_by_role("button", name="Close").wait_for()
    settle(page)
    page.go_back()
    expect(page.get_by_role("button", name="Close")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"interactions\?period=Yesterday$"))
    page.go_back()
    expect_page(page, "explore")


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [
        (["2026-03-02"], "2026-03-02", "2026-03-02"),
        (["2026-03-02", "2026-03-02"], "2026-03-02", "2026-03-02"),
        (["2026-03-04", "2026-03-02"], "2026-03-02", "2026-03-04"),
        (["2026-03-02", "2026-03-03", "2026-03-05"], "2026-03-02", "2026-03-05"),
    ],
    ids=["half", "one day", "reversed", "three"],
)
def test_days_in_a_link_are_normalised_and_shown(
    page: Page, demo: Demo, days: list[str], first: str, last: str
) -> None:
    for path in ("explore", "interactions"):
        open_path(page, demo, f"{path}?period=Custom+range&" + "&".join(f"days={day}" for day in days))
        for _ in range(2):  # as loaded, and loaded again
            expect_query(page, {"period": ["Custom range"], "days": [first, last]})
            shown = re.sub(r"\D", "", page.get_by_test_id("stDateInput").inner_text())
            assert shown == f"{first}{last}".replace("-", "")
            page.reload()
            page.locator(".data-label-pill").wait_for()
            settle(page)


def test_a_period_of_one_day_stays_complete_while_its_page_opens(page: Page, demo: Demo) -> None:
    open_path(page, demo, PAGES["Explore"])
    page.evaluate(
        """() => {
            window.addresses = []
            const replace = history.replaceState.bind(history)
            history.replaceState = (...what) => { replace(...what); addresses.push(location.href) }
        }"""
    )
    button("Open in Interactions")(page)
    expect_page(page, "interactions")
    expect_query(page, {"period": ["Custom range"], "days": [DAY, DAY], "direction": ["Inbound"], "queue": ["601"]})
    day_values = [parse_qs(urlsplit(one).query).get("days") for one in [*page.evaluate("addresses"), page.url]]
    assert all(days == [DAY, DAY] for days in day_values), day_values


def test_a_cleared_filter_stays_cleared(page: Page, demo: Demo) -> None:
    open_path(page, demo, "transcripts?q=invoice&tag=Nothing+has+it&agent=Nobody&number=000000&doubtful=true")
    page.get_by_role("button", name="Search all calls").click()
    page.locator("a.hit").first.wait_for()
    settle(page)
    assert query_of(page) == {"q": ["invoice"]}
    search = page.get_by_role("searchbox", name="Search what was said")
    search.fill("order")
    search.press("Enter")
    page.locator("a.hit mark", has_text=re.compile("order", re.IGNORECASE)).first.wait_for()
    settle(page)
    assert query_of(page) == {"q": ["order"]}
    assert set(selected_values(page)) == {"All time", "All"}


def test_a_clicked_hour_stays_selected_in_every_list(page: Page, demo: Demo) -> None:
    open_path(page, demo, f"queues?period=Yesterday&selection=weekday%3D{yesterday().weekday()}%26hour%3D11")
    words = re.compile(rf": {yesterday():%a} 11:00–12:00$")
    for name in ("Abandoned", "By queue", "By number called", "Agents", "Calls"):
        page.get_by_role("tab", name=name, exact=True).click()
        settle(page)
        expect(page.get_by_text(words).filter(visible=True)).to_be_visible()
    assert "selection" in query_of(page)


def test_a_search_hit_opens_its_call_while_a_filter_is_being_typed(page: Page, demo: Demo) -> None:
    open_path(page, demo, "transcripts?q=invoice")
    page.get_by_label("Number", exact=True).fill("0")
    page.locator("a.hit").first.click()
    expect_page(page, "interactions")
    page.locator("audio").wait_for(state="attached")
    assert query_of(page).keys() == {"call", "recording", "t"}
