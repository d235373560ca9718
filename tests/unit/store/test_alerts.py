"""Alert rules store their addresses encrypted, and only one worker sends each message."""

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
from tests.unit.both_databases import sqlite_only

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


def evaluate_rule(engine: Engine, rule: int, seconds: int, *subjects: str) -> None:
    with writing(engine) as session:
        alerts.update_alerts(session, rule, RuleCheck(after(seconds), dict.fromkeys(subjects, "A caller waits.")))


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def claim(engine: Engine, settings: Settings, pbx: int, seconds: float) -> ClaimedMessage | None:
    with writing(engine) as session:
        return alerts.claim_message(session, settings, pbx, after(seconds))


def not_none(claimed: ClaimedMessage | None) -> ClaimedMessage:
    assert claimed is not None
    return claimed


def record_sent(engine: Engine, claimed: ClaimedMessage, *ids: str, seconds: float = 0) -> None:
    with writing(engine) as session:
        for id_ in ids:
            assert alerts.record_sent(session, claimed, id_, after(seconds))


def record_failure(engine: Engine, claimed: ClaimedMessage, seconds: float = 0) -> None:
    with writing(engine) as session:
        alerts.record_send_error(session, claimed, "Webhook could not be reached.", after(seconds))


def only_alert(engine: Engine) -> Alert:
    with reading(engine) as session:
        return session.get_one(Alert, 1)


def test_addresses_are_encrypted_in_the_database_and_decrypted_when_read(
    engine: Engine, settings: Settings, pbx: int
) -> None:
    rule = add_rule(engine, settings, pbx, MAIL, HOOK)
    with reading(engine) as session:
        stored = session.get_one(AlertRule, rule)
        rows = session.execute(text("SELECT * FROM alert_rules")).all()
    assert SECRET not in repr(rows)
    found = alerts.targets_of(settings, stored)
    assert [target.url.get_secret_value() for target in found] == [MAIL, HOOK]
    assert SECRET not in repr(found)


def test_no_addresses_are_stored_as_an_empty_text(settings: Settings) -> None:
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
def test_a_label_contains_no_secret(url: str, label: str) -> None:
    assert AlertTarget(SecretStr(url)).label == label


def test_only_one_worker_claims_a_message(engine: Engine, settings: Settings, pbx: int) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    first = not_none(claim(engine, settings, pbx, 1))
    assert (first.alert.subject, first.targets, first.attempt) == ("sales", ("0", "1"), 1)
    assert claim(engine, settings, pbx, 2) is None
    record_sent(engine, first, "0", "1")
    assert claim(engine, settings, pbx, 1e6) is None
    assert (only_alert(engine).start_sent, only_alert(engine).end_sent) == (True, False)


def test_the_message_of_an_end_is_sent_once(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL)
    evaluate_rule(engine, rule, 0, "sales")
    record_sent(engine, not_none(claim(engine, settings, pbx, 1)), "0")
    evaluate_rule(engine, rule, 60)
    assert claim(engine, settings, pbx, 61) is None
    evaluate_rule(engine, rule, 120)
    end = not_none(claim(engine, settings, pbx, 121))
    assert (end.alert.ended_at, end.targets) == (after(60), ("0",))
    record_sent(engine, end, "0")
    assert claim(engine, settings, pbx, 1e6) is None


def test_an_alert_that_ends_before_its_first_message_sends_one_message(
    engine: Engine, settings: Settings, pbx: int
) -> None:
    rule = add_rule(engine, settings, pbx, MAIL)
    for seconds, subjects in ((0, ["sales"]), (60, []), (120, [])):
        evaluate_rule(engine, rule, seconds, *subjects)
    end = not_none(claim(engine, settings, pbx, 121))
    assert end.alert.ended_at is not None
    record_sent(engine, end, "0")
    assert claim(engine, settings, pbx, 1e6) is None


def test_a_failed_message_is_retried_with_longer_pauses_and_then_dropped(
    engine: Engine, settings: Settings, pbx: int
) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    at = 0.0
    for attempt, pause_s in enumerate((*RETRY_PAUSES_S, None), start=1):
        claimed = not_none(claim(engine, settings, pbx, at))
        assert (claimed.attempt, claimed.targets) == (attempt, ("0", "1") if attempt == 1 else ("1",))
        if attempt == 1:
            record_sent(engine, claimed, "0", seconds=at)
        record_failure(engine, claimed, at)
        if pause_s:
            assert claim(engine, settings, pbx, at + pause_s - 1) is None
            at += pause_s
    assert claim(engine, settings, pbx, 1e7) is None
    assert (only_alert(engine).pending_targets, only_alert(engine).send_error) == ([], "Webhook could not be reached.")


def test_a_successful_retry_clears_the_error(engine: Engine, settings: Settings, pbx: int) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, HOOK), 0, "sales")
    record_failure(engine, not_none(claim(engine, settings, pbx, 0)))
    record_sent(engine, not_none(claim(engine, settings, pbx, 60)), "0")
    assert only_alert(engine).send_error == ""


def test_the_message_of_an_end_does_not_wait_for_a_failed_start(engine: Engine, settings: Settings, pbx: int) -> None:
    rule = add_rule(engine, settings, pbx, MAIL, HOOK)
    evaluate_rule(engine, rule, 0, "sales")
    begin = not_none(claim(engine, settings, pbx, 0))
    record_sent(engine, begin, "0")
    record_failure(engine, begin)
    evaluate_rule(engine, rule, 1)
    evaluate_rule(engine, rule, 31)
    end = not_none(claim(engine, settings, pbx, 32))
    assert (end.targets, end.attempt) == (("0", "1"), 1)
    with writing(engine) as session:  # a slow worker can't record its delivery: a newer message has replaced it
        assert not alerts.record_sent(session, begin, "1", after(33))
    record_sent(engine, end, "0", "1")
    assert claim(engine, settings, pbx, 1e6) is None


def test_another_worker_takes_over_the_claim_of_a_dead_worker(engine: Engine, settings: Settings, pbx: int) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    dead = not_none(claim(engine, settings, pbx, 0))
    record_sent(engine, dead, "0", seconds=5)
    assert claim(engine, settings, pbx, CLAIM_TIMEOUT_S + 4) is None
    taken_over = not_none(claim(engine, settings, pbx, CLAIM_TIMEOUT_S + 5))
    assert (taken_over.targets, taken_over.attempt) == (("1",), 2)
    with writing(engine) as session:
        assert not alerts.record_sent(session, dead, "1", after(CLAIM_TIMEOUT_S + 6))


def test_a_lost_key_is_recorded_as_the_error_and_blocks_no_other_message(
    engine: Engine, settings: Settings, pbx: int
) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, HOOK), 0, "sales")
    (settings.pbx_data_dir / "secret.key").write_bytes(Fernet.generate_key())
    assert claim(engine, settings, pbx, 0) is None
    assert "enter the addresses again under Settings > Alerts" in only_alert(engine).send_error
    with reading(engine) as session:
        assert not alerts.has_due_message(session, pbx, after(1))
        with pytest.raises(SettingsError, match="addresses of an alert"):
            alerts.targets_of(settings, alerts.list_rules(session, pbx)[0])


def test_deleting_a_rule_deletes_its_alerts(engine: Engine, settings: Settings, pbx: int) -> None:
    kept, deleted = (add_rule(engine, settings, pbx, HOOK) for _ in range(2))
    evaluate_rule(engine, kept, 0, "sales")
    evaluate_rule(engine, deleted, 0, "sales")
    with writing(engine) as session:
        alerts.delete_rule(session, deleted)
    with reading(engine) as session:
        assert [rule.id for _, rule in alerts.past_alerts(session, pbx, 10)] == [kept]
        assert [rule.id for _, rule in alerts.current_alerts(session, pbx)] == [kept]
    evaluate_rule(engine, deleted, 60, "support")  # from an evaluation that was already running
    with reading(engine) as session:
        assert len(alerts.past_alerts(session, pbx, 10)) == 1


def test_each_pbx_has_its_own_alerts(engine: Engine, settings: Settings, pbx: int) -> None:
    other = save_connection(engine, settings, Connection(host="other.example.com", ari_port=1, ami_port=1))
    evaluate_rule(engine, add_rule(engine, settings, other, HOOK), 0, "sales")
    assert claim(engine, settings, pbx, 1) is None
    assert not_none(claim(engine, settings, other, 1)).alert.subject == "sales"


@sqlite_only
def test_the_database_file_contains_no_secret(engine: Engine, settings: Settings, pbx: int) -> None:
    evaluate_rule(engine, add_rule(engine, settings, pbx, MAIL, HOOK), 0, "sales")
    record_failure(engine, not_none(claim(engine, settings, pbx, 0)))
    file = settings.pbx_data_dir / "pbx.sqlite"
    with sqlite3.connect(file) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    assert SECRET.encode() not in file.read_bytes()
