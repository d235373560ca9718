"""Rules with sealed addresses, and messages that are claimed once."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Engine, text

from pbx.errors import SettingsError
from pbx.settings import Connection, Settings
from pbx.store import alerts
from pbx.store.alerts import CLAIM_TIMEOUT_S, RETRY_PAUSES_S, AlertTarget, ClaimedMessage, RuleCheck
from pbx.store.engine import reading, writing
from pbx.store.models import Alert, AlertRule
from pbx.store.pbx_connections import save_connection

T0 = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
SECRET = "t0p-s3cret"
MAIL = f"mailtos://ada:{SECRET}@smtp.example.com?to=ada@example.com"
HOOK = f"jsons://hooks.example.com/{SECRET}"


@pytest.fixture
def pbx(engine: Engine, settings: Settings) -> int:
    return save_connection(engine, settings, Connection(host="pbx.example.com", ari_port=1, ami_port=1))


def add_rule(engine: Engine, settings: Settings, pbx: int, *urls: str) -> int:
    sealed = alerts.seal_targets(settings, [AlertTarget(SecretStr(url), str(i)) for i, url in enumerate(urls)])
    rule = AlertRule(connection_id=pbx, kind="longest_wait", threshold=60, targets_encrypted=sealed)
    with writing(engine) as session:
        return alerts.save_rule(session, rule, T0)


def settle(engine: Engine, rule: int, seconds: int, *subjects: str) -> None:
    with writing(engine) as session:
        alerts.update_alerts(session, rule, RuleCheck(after(seconds), dict.fromkeys(subjects, "A caller waits.")))


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def claim(engine: Engine, settings: Settings, pbx: int, seconds: float) -> ClaimedMessage | None:
    with writing(engine) as session:
        return alerts.claim_message(session, settings, pbx, after(seconds))


def needed(claimed: ClaimedMessage | None) -> ClaimedMessage:
    assert claimed is not None
    return claimed


def sent(engine: Engine, claimed: ClaimedMessage, *ids: str, seconds: float = 0) -> None:
    with writing(engine) as session:
        for id_ in ids:
            assert alerts.record_sent(session, claimed, id_, after(seconds))


def failed(engine: Engine, claimed: ClaimedMessage, seconds: float = 0) -> None:
    with writing(engine) as session:
        alerts.record_send_error(session, claimed, "Webhook could not be reached.", after(seconds))


def only(engine: Engine) -> Alert:
    with reading(engine) as session:
        return session.get_one(Alert, 1)


def test_addresses_are_sealed_and_come_back(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL, HOOK)
    with reading(engine) as session:
        stored = session.get_one(AlertRule, rule)
        rows = session.execute(text("SELECT * FROM alert_rules")).all()
    assert SECRET not in repr(rows)
    found = alerts.targets_of(settings, stored)
    assert [target.url.get_secret_value() for target in found] == [MAIL, HOOK]
    assert SECRET not in repr(found)


def test_no_address_is_no_address(settings: Settings) -> None:
    assert alerts.seal_targets(settings, []) == ""
    assert alerts.targets_of(settings, AlertRule(connection_id=1, kind="no_agent")) == []


@pytest.mark.parametrize(
    ("url", "label"),
    [
        (MAIL, "E-mail by smtp.example.com"),
        (HOOK, "Webhook to hooks.example.com"),
        (f"slack://{SECRET}/B/C", "Slack"),
        (f"workflows://{SECRET}/B/C", "Teams"),
        (f"tgram://{SECRET}/1", "Telegram"),
        (f"gotify://host/{SECRET}", "Gotify"),
        (f"json://[{SECRET}", "Webhook"),
        (SECRET, "Address"),
    ],
)
def test_a_label_tells_no_secret(url: str, label: str) -> None:
    assert AlertTarget(SecretStr(url)).label == label


def test_a_message_is_claimed_once(engine: Engine, settings: Settings, pbx: int) -> None:
    settle(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    first = needed(claim(engine, settings, pbx, 1))
    assert (first.alert.subject, first.targets, first.attempt) == ("sales", ("0", "1"), 1)
    assert claim(engine, settings, pbx, 2) is None
    sent(engine, first, "0", "1")
    assert claim(engine, settings, pbx, 1e6) is None
    assert (only(engine).start_sent, only(engine).end_sent) == (True, False)


def test_its_end_is_told_once_too(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL)
    settle(engine, rule, 0, "sales")
    sent(engine, needed(claim(engine, settings, pbx, 1)), "0")
    settle(engine, rule, 60)
    assert claim(engine, settings, pbx, 61) is None
    settle(engine, rule, 120)
    end = needed(claim(engine, settings, pbx, 121))
    assert (end.alert.ended_at, end.targets) == (after(60), ("0",))
    sent(engine, end, "0")
    assert claim(engine, settings, pbx, 1e6) is None


def test_what_ended_before_it_was_told_is_told_once(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL)
    for seconds, subjects in ((0, ["sales"]), (60, []), (120, [])):
        settle(engine, rule, seconds, *subjects)
    end = needed(claim(engine, settings, pbx, 121))
    assert end.alert.ended_at is not None
    sent(engine, end, "0")
    assert claim(engine, settings, pbx, 1e6) is None


def test_a_failure_is_tried_again_with_growing_pauses_and_then_left(
    engine: Engine, settings: Settings, pbx: int
) -> None:
    settle(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    at = 0.0
    for attempt, pause_s in enumerate((*RETRY_PAUSES_S, None), start=1):
        claimed = needed(claim(engine, settings, pbx, at))
        assert (claimed.attempt, claimed.targets) == (attempt, ("0", "1") if attempt == 1 else ("1",))
        if attempt == 1:
            sent(engine, claimed, "0", seconds=at)
        failed(engine, claimed, at)
        if pause_s:
            assert claim(engine, settings, pbx, at + pause_s - 1) is None
            at += pause_s
    assert claim(engine, settings, pbx, 1e7) is None
    assert (only(engine).pending_targets, only(engine).send_error) == ([], "Webhook could not be reached.")


def test_sent_at_last_it_failed_no_more(engine: Engine, settings: Settings, pbx: int) -> None:
    settle(engine, add_rule(engine, settings, pbx, HOOK), 0, "sales")
    failed(engine, needed(claim(engine, settings, pbx, 0)))
    sent(engine, needed(claim(engine, settings, pbx, 60)), "0")
    assert only(engine).send_error == ""


def test_the_end_does_not_wait_for_what_failed(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL, HOOK)
    settle(engine, rule, 0, "sales")
    begin = needed(claim(engine, settings, pbx, 0))
    sent(engine, begin, "0")
    failed(engine, begin)
    settle(engine, rule, 1)
    settle(engine, rule, 31)
    end = needed(claim(engine, settings, pbx, 32))
    assert (end.targets, end.attempt) == (("0", "1"), 1)
    with writing(engine) as session:  # a worker that took long finds that it is another message now
        assert not alerts.record_sent(session, begin, "1", after(33))
    sent(engine, end, "0", "1")
    assert claim(engine, settings, pbx, 1e6) is None


def test_a_claim_of_a_worker_that_died_is_taken_over(engine: Engine, settings: Settings, pbx: int) -> None:
    settle(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    dead = needed(claim(engine, settings, pbx, 0))
    sent(engine, dead, "0", seconds=5)
    assert claim(engine, settings, pbx, CLAIM_TIMEOUT_S + 4) is None
    taken = needed(claim(engine, settings, pbx, CLAIM_TIMEOUT_S + 5))
    assert (taken.targets, taken.attempt) == (("1",), 2)
    with writing(engine) as session:
        assert not alerts.record_sent(session, dead, "1", after(CLAIM_TIMEOUT_S + 6))


def test_a_lost_key_is_said_and_holds_up_nothing(engine: Engine, settings: Settings, pbx: int) -> None:
    settle(engine, add_rule(engine, settings, pbx, HOOK), 0, "sales")
    (settings.pbx_data_dir / "secret.key").write_bytes(Fernet.generate_key())
    assert claim(engine, settings, pbx, 0) is None
    assert "enter the addresses again under Settings > Alerts" in only(engine).send_error
    with reading(engine) as session:
        assert not alerts.has_due_message(session, pbx, after(1))
        with pytest.raises(SettingsError, match="addresses of an alert"):
            alerts.targets_of(settings, alerts.list_rules(session, pbx)[0])


def test_deleting_a_rule_takes_its_alerts(engine: Engine, settings: Settings, pbx: int) -> None:
    keep, gone = (add_rule(engine, settings, pbx, HOOK) for _ in range(2))
    settle(engine, keep, 0, "sales")
    settle(engine, gone, 0, "sales")
    with writing(engine) as session:
        alerts.delete_rule(session, gone)
    with reading(engine) as session:
        assert [rule.id for _, rule in alerts.past_alerts(session, pbx, 10)] == [keep]
        assert [rule.id for _, rule in alerts.current_alerts(session, pbx)] == [keep]
    settle(engine, gone, 60, "support")  # a look that was under way
    with reading(engine) as session:
        assert len(alerts.past_alerts(session, pbx, 10)) == 1


def test_alerts_of_another_pbx_are_its_own(engine: Engine, settings: Settings, pbx: int) -> None:
    other = save_connection(engine, settings, Connection(host="other.example.com", ari_port=1, ami_port=1))
    settle(engine, add_rule(engine, settings, other, HOOK), 0, "sales")
    assert claim(engine, settings, pbx, 1) is None
    assert needed(claim(engine, settings, other, 1)).alert.subject == "sales"


def test_no_secret_is_in_the_files(engine: Engine, settings: Settings, pbx: int) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("only SQLite's files lie here to be searched; a server's are its own")
    settle(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    failed(engine, needed(claim(engine, settings, pbx, 0)))
    file = settings.pbx_data_dir / "pbx.sqlite"
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    assert SECRET.encode() not in file.read_bytes()
