"""Every way from one page to another, left with each of its filters set: the page that comes has its own address alone,
and Back leads to the page as it was left.
"""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from pbx.demo.company import SUPPORT
from tests.browser.actions import start, yesterday
from tests.browser.checks import PATIENCE_S, faults, open_page, settle
from tests.browser.demo import Demo
from tests.lab.process import wait_until

Asked = dict[str, list[str]]
DAY = yesterday().isoformat()
BETWEEN = f"period=Between&days={DAY}&days={DAY}"
LEFT = {  # a page with all its filters away from their defaults
    "Today": "",
    "Interactions": "interactions?period=Yesterday&direction=Inbound&number=0&queue=601&state=Not+recorded"
    "&transcription=New",
    "Transcripts": "transcripts?q=invoice&period=Last+30+days&speaker=Agent&queue=602&direction=Inbound&number=0"
    "&doubtful=true&sort=Newest",
    "Explore": "explore?period=Yesterday&queue=601&direction=Inbound&by=Outcome",
    "Queues": f"queues?{BETWEEN}&queue=601&target=90&week=Abandon+rate&list=Abandoned&owed=true",
    "Wallboard": "wallboard?queue=601&warn=45&bad=90",
    "Trunks": "trunks?period=Yesterday&trunk=harbour-sip&trunk_view=Calls",
    "Agents": "agents?period=Yesterday&queue=601&agent=Harun+Malik",
    "Extensions & calls": "extensions?devices=Free",
}
OWN = {  # the parameters that a page's address may have
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
    "Explore": {"period", "days", "queue", "direction", "by", "behind"},
    "Queues": {"period", "days", "queue", "show", "target", "week", "list", "owed", "behind"},
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


CALL: Asked = {"call": [r"\d+"]}
WAYS: list[tuple[str, Callable[[Page], None], str, Asked]] = [
    # the page left, the way, the page that comes, all that its address has
    (
        LEFT["Explore"],
        button("Open in Interactions"),
        "interactions",
        {"period": ["Between"], "days": [DAY, DAY], "direction": ["Inbound"], "queue": ["601"]},
    ),
    (
        f"explore?{BETWEEN}&behind=queue%3D",
        button("Open in Interactions"),
        "interactions",
        {"period": ["Between"], "days": [DAY, DAY], "queue": ["No queue"]},
    ),
    (LEFT["Explore"], row("Calls"), "interactions", CALL),
    ("explore?period=Between&days=2020-01-01&days=2020-01-02&by=Hour", button("Import data"), "data-import", {}),
    (LEFT["Queues"].replace("&owed=true", ""), row("Abandoned calls"), "interactions", CALL),
    (LEFT["Queues"].replace("&owed=true", ""), called_back, "interactions", CALL),
    (LEFT["Queues"].replace("=Abandoned", "=Calls"), row("Calls"), "interactions", CALL),
    (
        LEFT["Queues"].replace("=Abandoned", "=Repeated+callers"),
        row("Repeated callers"),
        "interactions",
        {"number": [r"\d+"]},
    ),
    (LEFT["Trunks"], row("Calls over trunks"), "interactions", CALL),
    (
        "trunks?period=Between&days=2020-01-01&days=2020-01-02&trunk_view=Calls",
        button("Import data"),
        "data-import",
        {},
    ),
    (LEFT["Agents"], row("Calls taken"), "interactions", CALL),
    ("agents?period=Between&days=2020-01-01&days=2020-01-02", button("Import data"), "data-import", {}),
    (LEFT["Transcripts"], hit, "interactions", CALL | {"recording": [r"\d+"], "t": [r"[\d.]+"]}),
    ("transcripts?period=Last+30+days&queue=602", row("Latest transcripts"), "interactions", CALL),
    ("", row("Latest calls"), "interactions", CALL),
    ("", button("See yesterday in the Support queue"), "queues", {"period": ["Yesterday"], "queue": [SUPPORT]}),
    ("", button("Find “invoice”"), "transcripts", {"q": ["invoice"]}),
    ("", button("Play a call"), "interactions", CALL),
    ("", link("Queues"), "queues", {}),
]


def chosen(page: Page) -> list[str]:
    """What stands in the boxes of a page."""
    boxes = page.get_by_test_id("stMain").get_by_role("combobox")
    found: list[str] = boxes.evaluate_all("boxes => boxes.map((box) => box.value)")
    return found


def asked(page: Page) -> Asked:
    return parse_qs(urlsplit(page.url).query)


def asks_for(page: Page, query: Asked) -> None:
    """The address has these parameters alone, each value as its pattern says."""

    def fits() -> bool:
        found = asked(page)
        return {name: len(values) for name, values in found.items()} == {n: len(v) for n, v in query.items()} and all(
            re.fullmatch(want, got) for name in query for want, got in zip(query[name], found[name], strict=True)
        )

    wait_until(f"the address asks for {query}", fits, PATIENCE_S)
    settle(page)
    assert fits(), page.url


def has_come(page: Page, path: str) -> None:
    expect(page).to_have_url(re.compile(rf"/{path}(\?.*)?$"))
    page.locator(".demo-pill").wait_for()
    settle(page)


def goes_back(page: Page, url: str, boxes: list[str], title: str) -> None:
    """One step back is the page as it was left."""
    page.go_back()

    def is_back() -> bool:  # the title too: right after the step, the page left may still show the same boxes
        settle(page)
        return (page.url, chosen(page), page.title()) == (url, boxes, title)

    wait_until("the page left is back", is_back, PATIENCE_S)
    settle(page)
    assert (page.url, chosen(page)) == (url, boxes)


@pytest.mark.parametrize(
    ("left", "way", "comes", "query"), WAYS, ids=[f"{n} {w[0][:12]} to {w[2]}" for n, w in enumerate(WAYS)]
)
def test_a_way_leads_to_the_page_with_its_own_address_and_back(
    page: Page, demo: Demo, left: str, way: Callable[[Page], None], comes: str, query: Asked
) -> None:
    start(page, demo, left)
    url, boxes, title = page.url, chosen(page), page.title()
    way(page)
    has_come(page, comes)
    asks_for(page, query)
    assert faults(page) == []
    goes_back(page, url, boxes, title)


@pytest.mark.parametrize("left", LEFT)
def test_the_navigation_leaves_every_page_with_all_its_filters_and_back(page: Page, demo: Demo, left: str) -> None:
    start(page, demo, LEFT[left])
    url, boxes, title = page.url, chosen(page), page.title()
    for other in ("Interactions", "Transcripts", "Explore", "Queues", "Today"):
        if other == left:
            continue
        if left == "Wallboard" and other != "Queues":  # it stands alone
            continue
        open_page(page, other)
        assert asked(page).keys() <= OWN[other], other
        assert faults(page) == []
        goes_back(page, url, boxes, title)


def test_a_closed_call_is_one_step_back_and_a_filter_none(page: Page, demo: Demo) -> None:
    start(page, demo, "explore")
    start(page, demo, "interactions?period=Yesterday")
    row("Calls")(page)
    page.get_by_role("button", name="Close").wait_for()
    settle(page)
    page.go_back()
    expect(page.get_by_role("button", name="Close")).to_have_count(0)
    expect(page).to_have_url(re.compile(r"interactions\?period=Yesterday$"))
    page.go_back()
    has_come(page, "explore")


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [
        (["2026-03-02"], "02032026", "02032026"),
        (["2026-03-02", "2026-03-02"], "02032026", "02032026"),
        (["2026-03-04", "2026-03-02"], "02032026", "04032026"),
        (["2026-03-02", "2026-03-03", "2026-03-05"], "02032026", "05032026"),
    ],
    ids=["half", "one day", "reversed", "three"],
)
def test_days_of_a_link_are_shown_and_kept_as_they_are_understood(
    page: Page, demo: Demo, days: list[str], first: str, last: str
) -> None:
    kept = [f"{day[4:]}-{day[2:4]}-{day[:2]}" for day in (first, last)]
    for path in ("explore", "interactions"):
        start(page, demo, f"{path}?period=Between&" + "&".join(f"days={day}" for day in days))
        for _ in range(2):  # as loaded, and loaded again
            asks_for(page, {"period": ["Between"], "days": kept})
            shown = re.sub(r"\D", "", page.get_by_test_id("stDateInput").inner_text())
            assert shown == first + last
            page.reload()
            page.locator(".demo-pill").wait_for()
            settle(page)


def test_one_day_is_never_half_of_a_period_while_its_page_opens(page: Page, demo: Demo) -> None:
    start(page, demo, LEFT["Explore"])
    page.evaluate(
        """() => {
            window.addresses = []
            const replace = history.replaceState.bind(history)
            history.replaceState = (...what) => { replace(...what); addresses.push(location.href) }
        }"""
    )
    button("Open in Interactions")(page)
    has_come(page, "interactions")
    asks_for(page, {"period": ["Between"], "days": [DAY, DAY], "direction": ["Inbound"], "queue": ["601"]})
    seen = [parse_qs(urlsplit(one).query).get("days") for one in [*page.evaluate("addresses"), page.url]]
    assert all(days == [DAY, DAY] for days in seen), seen


def test_a_filter_cleared_stays_cleared(page: Page, demo: Demo) -> None:
    start(page, demo, "transcripts?q=invoice&tag=Nothing+has+it&agent=Nobody&number=000000&doubtful=true")
    page.get_by_role("button", name="Search in all calls").click()
    page.locator("a.hit").first.wait_for()
    settle(page)
    assert asked(page) == {"q": ["invoice"]}
    search = page.get_by_role("searchbox", name="Search what was said")
    search.fill("order")
    search.press("Enter")
    page.locator("a.hit mark", has_text=re.compile("order", re.IGNORECASE)).first.wait_for()
    settle(page)
    assert asked(page) == {"q": ["order"]}
    assert set(chosen(page)) == {"All time", "All"}


def test_an_hour_clicked_stays_chosen_in_every_list(page: Page, demo: Demo) -> None:
    start(page, demo, f"queues?period=Yesterday&behind=weekday%3D{yesterday().weekday()}%26hour%3D11")
    words = re.compile(rf": {yesterday():%a} 11:00–12:00$")
    for name in ("Abandoned", "By queue", "By number called", "Agents", "Calls"):
        page.get_by_role("tab", name=name, exact=True).click()
        settle(page)
        expect(page.get_by_text(words).filter(visible=True)).to_be_visible()
    assert "behind" in asked(page)


def test_a_place_found_opens_its_call_though_a_filter_was_being_typed(page: Page, demo: Demo) -> None:
    start(page, demo, "transcripts?q=invoice")
    page.get_by_label("Number", exact=True).fill("0")
    page.locator("a.hit").first.click()
    has_come(page, "interactions")
    page.locator("audio").wait_for(state="attached")
    assert asked(page).keys() == {"call", "recording", "t"}
