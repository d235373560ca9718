"""Forms save what you enter, and show errors in it."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlmodel import select

from pbx.store.engine import reading
from pbx.store.models import AlertRule
from pbx.store.transcription_queue import rules_of
from tests.browser.actions import choose, open_path, pick_and_close
from tests.browser.demo import Demo
from tests.unit.alerts.receivers import free_port


def saved_rules(demo: Demo) -> list[tuple[str, str, float, bool]]:
    with reading(demo.engine) as session:
        return [(rule.kind, rule.subject, rule.threshold, rule.enabled) for rule in session.exec(select(AlertRule))]


def rule(page: Page, words: str) -> Locator:
    return page.locator("[class*='st-key-rule_']").filter(has_text=words)


def test_an_alert_is_added_tested_changed_and_deleted(page: Page, demo: Demo) -> None:
    before = saved_rules(demo)
    open_path(page, demo, "alerts")
    page.get_by_role("button", name="Add an alert rule").click()
    form = page.get_by_role("dialog")
    choose(page, "Alert when", "Trunk down")
    choose(page, "Trunk", "harbour-sip")
    form.get_by_role("spinbutton", name="Minutes").fill("7")
    addresses = form.get_by_role("textbox", name="Notify: add one address per line")
    addresses.fill("nonsense")
    addresses.press("Control+Enter")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_text("Address 1 can’t be used.")).to_be_visible()
    addresses.fill(f"json://127.0.0.1:{free_port()}/alerts")
    addresses.press("Control+Enter")
    form.get_by_role("button", name="Send a test message").click()
    expect(form.get_by_role("alert").filter(has_text="127.0.0.1").first).to_be_visible()
    assert saved_rules(demo) == before
    form.get_by_role("button", name="Save").click()
    expect(form).to_have_count(0)
    assert saved_rules(demo) == [*before, ("trunk_down", "harbour-sip", 7.0, True)]

    row = rule(page, "for 7 min")
    row.get_by_role("button", name="Edit").click()
    form.get_by_role("spinbutton", name="Minutes").fill("9")
    form.get_by_role("button", name="Save").click()
    row = rule(page, "for 9 min")
    row.get_by_text("On", exact=True).click()
    expect(row.get_by_text(re.compile(r"\bOff$"))).to_be_visible()
    assert saved_rules(demo) == [*before, ("trunk_down", "harbour-sip", 9.0, False)]

    row.get_by_role("button").last.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert saved_rules(demo) == before


def test_the_transcription_rules_are_saved(page: Page, demo: Demo) -> None:
    open_path(page, demo, "transcription")
    form = page.get_by_test_id("stForm")
    shortest = form.get_by_role("spinbutton", name="Minimum length (seconds)")
    shortest.fill("20")
    for label, option in (("Queues", "601"), ("Directions", "↙ Inbound")):
        pick_and_close(page, label, option)
    form.get_by_role("button", name="Save rules").click()
    expect(page.get_by_text("Rules saved.")).to_be_visible()
    with reading(demo.engine) as session:
        rules = rules_of(session, 1)
    assert (rules.min_duration_s, rules.queues, rules.directions) == (20, ["601"], ["inbound"])
    open_path(page, demo, "transcription")
    expect(shortest).to_have_value("20")
    expect(form.get_by_text("601", exact=True)).to_be_visible()


@pytest.mark.parametrize(("button", "then"), [("Pause", "Resume"), ("Resume", "Pause")])
def test_transcription_is_paused_and_resumed(page: Page, demo: Demo, button: str, then: str) -> None:
    open_path(page, demo, "transcription")
    page.get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("button", name=then, exact=True)).to_be_visible()
    expect(page.get_by_text("Transcription is paused.")).to_have_count(int(button == "Pause"))
