"""The page Alerts: adding, changing, testing and deleting rules, past alerts, and the alerts that Today shows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from pbx.settings import Settings, load_settings
from pbx.store.alerts import (
    AlertTarget,
    RuleCheck,
    delete_rule,
    list_rules,
    past_alerts,
    save_rule,
    seal_targets,
    targets_of,
    update_alerts,
)
from pbx.store.engine import reading, writing
from pbx.store.models import AlertRule
from tests.pages.page_reader import open_page, page_text, press, tables, without_errors
from tests.pages.sample_data import TEXTS_WITH_MARKUP, add_sample_data, save_pbx
from tests.unit.alerts.receivers import TOKEN, WebReceiver, web_receiver

pytestmark = pytest.mark.usefixtures("no_worker")

PAGE = "pages/settings/alerts.py"
NOW = datetime.now(UTC)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as received:
        yield received


def add_rule(engine: Engine, pbx: int, *urls: str, **changes: Any) -> int:
    """Save a rule that notifies these addresses, and return its ID."""
    sealed = seal_targets(load_settings(), [AlertTarget(SecretStr(url)) for url in urls])
    defaults: dict[str, Any] = {"kind": "longest_wait", "threshold": 60, "targets_encrypted": sealed}
    with writing(engine) as session:
        return save_rule(session, AlertRule(connection_id=pbx, **defaults | changes), NOW)


def start_alert(engine: Engine, rule: int, subject: str, about: str = "It is so.", minutes: float = 3) -> None:
    with writing(engine) as session:
        update_alerts(session, rule, RuleCheck(NOW - timedelta(minutes=minutes), {subject: about}))


def rules(engine: Engine, pbx: int) -> list[AlertRule]:
    with reading(engine) as session:
        return list_rules(session, pbx)


def by_label(app: AppTest, kind: str, label: str) -> Any:
    return next(field for field in app.get(kind) if field.label == label)


def plain_text(app: AppTest) -> str:
    return page_text(app).replace("\\", "")


def test_without_rules_the_page_says_so(engine: Engine) -> None:
    save_pbx(engine)
    text = page_text(without_errors(open_page(PAGE)))
    assert "No alert rules yet" in text
    assert "No alerts yet" in text


def test_a_rule_is_added(engine: Engine, settings: Settings) -> None:
    pbx = add_sample_data(engine)
    app = press(without_errors(open_page(PAGE)), "Add an alert rule")
    by_label(app, "selectbox", "Alert when").set_value("trunk_down")
    app = without_errors(app.run())
    by_label(app, "selectbox", "Trunk").set_value("carrier")
    by_label(app, "number_input", "Minutes").set_value(7)
    by_label(app, "text_area", "Notify: add one address per line").set_value(
        f"json://h.example.com/{TOKEN}\n\nslack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    )
    press(app, "Save")
    rule = rules(engine, pbx)[0]
    assert (rule.kind, rule.subject, rule.threshold, rule.enabled) == ("trunk_down", "carrier", 7.0, True)
    assert [target.label for target in targets_of(settings, rule)] == ["Webhook to h.example.com", "Slack"]
    app = without_errors(open_page(PAGE))
    text = plain_text(app)
    assert "A trunk is unregistered or unreachable for 7 min" in text
    assert "Trunk carrier · Webhook to h.example.com, Slack" in text
    assert TOKEN not in repr(app.main)


def test_a_rule_is_changed_without_showing_its_addresses(engine: Engine, settings: Settings) -> None:
    pbx = add_sample_data(engine)
    add_rule(engine, pbx, f"json://h.example.com/{TOKEN}", f"json://other.example.com/{TOKEN}")
    before = targets_of(settings, rules(engine, pbx)[0])
    app = press(without_errors(open_page(PAGE)), "Edit")
    assert TOKEN not in repr(app)
    assert TOKEN not in repr([element.proto for element in app.main])
    by_label(app, "number_input", "Seconds").set_value(90)
    addresses = by_label(app, "multiselect", "Saved addresses")
    assert addresses.options == ["1. Webhook to h.example.com", "2. Webhook to other.example.com"]
    addresses.set_value([before[1].id])
    press(app, "Save")
    changed = rules(engine, pbx)
    assert [rule.threshold for rule in changed] == [90.0]
    assert targets_of(settings, changed[0]) == before[1:]


def test_an_invalid_address_is_reported_by_its_number(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    app = press(without_errors(open_page(PAGE)), "Add an alert rule")
    by_label(app, "text_area", "Notify: add one address per line").set_value(f"json://h.example.com/x\nslack://{TOKEN}")
    app = press(app, "Save")
    assert "Address 2 can’t be used" in plain_text(app)
    assert TOKEN not in page_text(app)
    assert rules(engine, pbx) == []


def test_a_test_message_arrives_and_its_failure_is_reported(engine: Engine, web: WebReceiver) -> None:
    pbx = add_sample_data(engine)
    add_rule(engine, pbx, web.url)
    app = press(press(without_errors(open_page(PAGE)), "Edit"), "Send a test message")
    assert "Test message sent to" in plain_text(app) + "".join(one.value for one in app.success)
    assert [one["title"] for one in web.messages] == ["PBX Notebook: test message"]
    assert "Alerts for the PBX pbx.example.com will arrive here" in web.messages[0]["message"]
    web.status = 500
    text = plain_text(press(app, "Send a test message"))
    assert "the server answered with HTTP status 500" in text
    assert TOKEN not in text


def test_deleting_a_rule_needs_confirmation(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    rule = add_rule(engine, pbx)
    app = without_errors(open_page(PAGE))
    app = without_errors(next(button for button in app.button if button.key == f"ask_delete_{rule}").click().run())
    assert len(rules(engine, pbx)) == 1
    press(app, "Delete")
    assert rules(engine, pbx) == []


def test_switching_off_a_rule_ends_its_active_alerts(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    start_alert(engine, add_rule(engine, pbx), "support")
    app = without_errors(open_page(PAGE))
    assert "Active: support, since" in plain_text(app)
    app = without_errors(by_label(app, "toggle", "On").set_value(False).run())
    assert "notifications_off: Off" in page_text(app)
    with reading(engine) as session:
        assert [alert.ended_at is None for alert, _ in past_alerts(session, pbx, 5)] == [False]


def test_a_switch_on_an_outdated_page_undoes_no_change(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    changed, deleted = add_rule(engine, pbx), add_rule(engine, pbx)
    pages = {rule: without_errors(open_page(PAGE)) for rule in (changed, deleted)}
    with writing(engine) as session:
        save_rule(session, AlertRule(connection_id=pbx, id=changed, kind="longest_wait", threshold=90), NOW)
        delete_rule(session, deleted)
    for rule, app in pages.items():
        without_errors(next(one for one in app.toggle if one.key == f"enabled_{rule}").set_value(False).run())
    assert [(rule.id, rule.threshold, rule.enabled) for rule in rules(engine, pbx)] == [(changed, 90, False)]


def test_each_rule_shows_its_status(engine: Engine) -> None:
    pbx = save_pbx(engine)
    add_rule(engine, pbx)
    assert "No current data: no snapshot yet" in plain_text(without_errors(open_page(PAGE)))
    add_sample_data(engine)
    assert "All clear" in page_text(without_errors(open_page(PAGE)))


def test_past_alerts_show_whether_a_message_was_sent(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    sent, failed, without_address = (
        add_rule(engine, pbx, "json://h.example.com"),
        add_rule(engine, pbx, "json://i.example.com"),
        add_rule(engine, pbx),
    )
    for minutes, (rule, subject) in enumerate(((sent, "a"), (failed, "b"), (without_address, "c")), start=2):
        start_alert(engine, rule, subject, minutes=minutes)
    with writing(engine) as session:
        for alert, rule in past_alerts(session, pbx, 5):
            changes = {"start_sent": True}
            if rule.id == failed:
                error = "Webhook to i.example.com: the message wasn’t sent "
                error += "(the server answered with HTTP status 500)."
                changes |= {"send_error": error}
            session.add(alert.sqlmodel_update(changes))
        first = past_alerts(session, pbx, 1)[0][0]
        session.add(first.sqlmodel_update({"ended_at": first.started_at + timedelta(seconds=83), "end_sent": True}))
    shown = tables(without_errors(open_page(PAGE)))["Past alerts"]
    assert [row[1:] for row in shown] == [
        ["Long wait in queue a | It is so.", "1 min 23 s", "Sent"],
        [
            "Long wait in queue b | It is so.",
            "Ongoing",
            "Not sent | Webhook to i.example.com: the message wasn’t sent (the server answered with HTTP status 500).",
        ],
        ["Long wait in queue c | It is so.", "Ongoing", "Only on Today"],
    ]


def test_today_shows_active_alerts_only(engine: Engine) -> None:
    pbx = add_sample_data(engine)
    rule = add_rule(engine, pbx)
    assert "notifications_active" not in page_text(without_errors(open_page()))
    start_alert(engine, rule, "support", "The first of 2 callers has waited 2 min.")
    start_alert(engine, add_rule(engine, pbx, kind="trunk_down"), "carrier")
    text = plain_text(without_errors(open_page()))
    assert "Long wait in queue support" in text
    assert "The first of 2 callers has waited 2 min." in text
    assert "Trunk carrier is down" in text


@pytest.mark.parametrize(
    ("kind", "page", "subject", "selected"),
    [
        ("longest_wait", "pages/live/queues.py", "support", {"Queue": "support"}),
        ("trunk_down", "pages/live/trunks.py", "carrier", {"Trunk": "carrier"}),
        ("no_agent", "pages/live/queues.py", "Sales & Co", {}),  # this queue no longer exists
    ],
)
def test_an_alert_links_to_its_queue_or_trunk(
    engine: Engine, kind: str, page: str, subject: str, selected: dict[str, str]
) -> None:
    start_alert(engine, add_rule(engine, add_sample_data(engine), kind=kind), subject)
    links = [link.proto for link in without_errors(open_page()).get("page_link") if link.proto.query_string]
    (link,) = links
    assert link.page == page.rpartition("/")[2].removesuffix(".py")
    query = dict(parse_qsl(link.query_string))
    assert list(query.values()) == [subject]
    app = without_errors(open_page(page, **query))
    assert {field.label: field.value for field in app.selectbox if field.label in selected} == selected


@pytest.mark.parametrize("name", TEXTS_WITH_MARKUP)
def test_names_with_markup_are_shown_as_text(engine: Engine, name: str) -> None:
    pbx = add_sample_data(engine, name)
    rule = add_rule(engine, pbx, subject=name)
    start_alert(engine, rule, name, name)
    for page in (PAGE, "pages/today/overview.py"):
        text = page_text(without_errors(open_page(page)))
        assert "<script>" not in text.replace("\\<script\\>", "")
        assert "*bold*" not in text.replace("\\*bold\\*", "")
