"""Alerts are sent by mail and webhook: once at the start and at the end, retried after a failure, without secrets."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from pbx.alerts import delivery
from pbx.alerts.delivery import SendError, alert_message, check_target, send, send_due_messages
from pbx.errors import SettingsError
from pbx.jobs.worker import run_worker
from pbx.settings import Settings
from pbx.store.alerts import RETRY_PAUSES_S, AlertTarget
from pbx.store.models import Alert, AlertRule
from tests.unit.alerts.alert_database import (
    T0,
    add_rule,
    alert_changes,
    alerts,
    minutes,
    pbx,
    record_snapshot_of,
    waiting,
)
from tests.unit.alerts.receivers import (
    PASSWORD,
    TOKEN,
    MailReceiver,
    WebReceiver,
    free_port,
    mail_receiver,
    web_receiver,
)

FAST = "?cto=1&rto=0.3"  # timeouts in seconds


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as received:
        yield received


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with mail_receiver() as received:
        yield received


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The times that the delivery module sees; the last element is the current time."""
    times = [T0]
    monkeypatch.setattr("pbx.alerts.delivery.now", lambda: times[-1])
    return times


def send_due(engine: Engine, settings: Settings) -> int:
    """Send the messages that are due, and return how many were sent."""
    return send_due_messages(engine, settings, pbx(engine, settings), threading.Event())


def run_minutes(engine: Engine, settings: Settings, clock: list[datetime], *waits_s: int) -> None:
    """For each wait, one minute apart: record a snapshot, evaluate the rules and send the due messages."""
    for minute, wait_s in enumerate(waits_s):
        clock.append(minutes(minute))
        record_snapshot_of(engine, settings, clock[-1], waiting("sales", wait_s))
        alert_changes(engine, settings, clock[-1])
        send_due(engine, settings)


def test_mail_and_webhook_get_one_message_at_the_start_and_one_at_the_end(
    engine: Engine, settings: Settings, web: WebReceiver, mail: MailReceiver, clock: list[datetime]
) -> None:
    zoned = settings.model_copy(update={"freepbx_timezone": "Europe/Berlin"})
    add_rule(engine, zoned, "longest_wait", 60, "", web.url, mail.url)
    run_minutes(engine, zoned, clock, 90, 95, 0, 0, 0)
    start = (
        "The first caller has been waiting for 1 min 30 s, longer than 1 min. 1 caller waiting.\n"
        "Started at 11:00:00. PBX: 127.0.0.1. Times are in Europe/Berlin."
    )
    end = (
        "From 11:00:00 to 11:02:00 (2 min). At the start: "
        "The first caller has been waiting for 1 min 30 s, longer than 1 min. 1 caller waiting.\n"
        "PBX: 127.0.0.1. Times are in Europe/Berlin."
    )
    title = "Long wait in queue sales"
    assert [(one["title"], one["message"]) for one in web.messages] == [
        (f"PBX Notebook: {title}", start),
        (f"PBX Notebook: resolved: {title}", end),
    ]
    assert [one["Subject"] for one in mail.messages] == [f"PBX Notebook: {title}", f"PBX Notebook: resolved: {title}"]
    assert [one.get_content().strip().replace("\r\n", "\n") for one in mail.messages] == [start, end]
    assert {(one["From"], one["To"]) for one in mail.messages} == {("pbx@example.com", "ada@example.com")}
    assert alerts(engine)[0].send_error == ""


@pytest.mark.parametrize("fault", ["500", "slow", "refused"])
def test_a_failed_target_is_retried_and_the_others_get_the_message_immediately(
    engine: Engine, settings: Settings, web: WebReceiver, mail: MailReceiver, clock: list[datetime], fault: str
) -> None:
    url = {"refused": f"json://127.0.0.1:{free_port()}/{TOKEN}"}.get(fault, web.url)
    web.status, web.slow_s = (500, 0) if fault == "500" else (200, 0.5 if fault == "slow" else 0)
    add_rule(engine, settings, "longest_wait", 60, "", url + FAST, mail.url)
    run_minutes(engine, settings, clock, 90)
    assert (len(mail.messages), len(alerts(engine)[0].pending_targets)) == (1, 1)
    reason = (
        "the server answered with HTTP status 500"
        if fault == "500"
        else "the server is unreachable, was too slow, or refused"
    )
    assert alerts(engine)[0].send_error.startswith(f"Webhook to 127.0.0.1: the message wasn’t sent ({reason}")
    assert alerts(engine)[0].send_error.endswith("Attempt 1 of 5.")
    assert TOKEN not in repr(alerts(engine))
    assert send_due(engine, settings) == 0  # not before the retry pause is over
    if fault != "refused":
        web.status, web.slow_s = 200, 0
        clock.append(minutes(1))
        assert send_due(engine, settings) == 1
        assert (web.messages[-1]["title"], alerts(engine)[0].send_error) == (
            "PBX Notebook: Long wait in queue sales",
            "",
        )
    assert len(mail.messages) == 1


def test_sending_stops_after_five_attempts_and_the_alert_shows_it(
    engine: Engine, settings: Settings, web: WebReceiver, clock: list[datetime]
) -> None:
    web.status = 403
    add_rule(engine, settings, "longest_wait", 60, "", web.url)
    run_minutes(engine, settings, clock, 90)
    for day in range(1, 10):
        clock.append(minutes(1440 * day))
        send_due(engine, settings)
    assert web.tried == len(RETRY_PAUSES_S) + 1
    assert alerts(engine)[0].send_error.endswith("HTTP status 403). Attempt 5 of 5.")


def test_concurrent_workers_send_each_message_once(engine: Engine, settings: Settings, web: WebReceiver) -> None:
    for number in range(4):
        add_rule(engine, settings, "longest_wait", 60 + number, "", web.url)
    record_snapshot_of(engine, settings, T0, waiting("sales", 90))
    assert len(alert_changes(engine, settings, T0)) == 4
    with ThreadPoolExecutor(6) as pool:
        sent = sum(pool.map(lambda _: send_due(engine, settings), range(6)))
    assert (sent, len(web.messages)) == (4, 4)


def test_the_worker_sends_due_messages(engine: Engine, settings: Settings, web: WebReceiver) -> None:
    add_rule(engine, settings, "longest_wait", 60, "", web.url)
    record_snapshot_of(engine, settings, datetime.now(UTC), waiting("sales", 90))
    run_worker(settings, once=True)
    run_worker(settings, once=True)
    assert [one["title"] for one in web.messages] == ["PBX Notebook: Long wait in queue sales"]


def test_refused_mail_and_a_refused_login_have_different_errors(mail: MailReceiver) -> None:
    mail.refusal = "550 No such user here"
    with pytest.raises(
        SendError, match=r"E-mail by 127\.0\.0\.1: the message wasn’t sent \(the server refused the message"
    ):
        send(AlertTarget(SecretStr(mail.url)), "Title", "Text")
    with pytest.raises(SendError, match="refused the login"):
        send(AlertTarget(SecretStr(mail.url.replace(PASSWORD, "wrong"))), "Title", "Text")
    assert mail.messages == []


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["endless headers", "endless body"]
)
@pytest.mark.parametrize(("piece", "pause_s"), [(b"x", 0.2), (b"x" * 60_000, 0.0)], ids=["slow", "fast"])
def test_an_endless_answer_ends_at_the_timeout(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, piece: bytes, pause_s: float
) -> None:
    monkeypatch.setattr("pbx.alerts.send_process.SEND_TIMEOUT_S", 4.0)
    connection_closed = threading.Event()

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock, suppress(OSError):
            sock.recv(65536)
            sock.sendall(answer)
            while True:
                sock.sendall(piece)
                time.sleep(pause_s)
        connection_closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with pytest.raises(SendError, match="Webhook to 127") as caught:
            send(AlertTarget(SecretStr(f"json://127.0.0.1:{listener.getsockname()[1]}/{TOKEN}")), "Title", "Text")
        assert connection_closed.wait(10)  # the sending process has ended
    assert TOKEN not in caught.value.advice


def test_a_redirect_is_not_followed(web: WebReceiver) -> None:
    web.status = 302
    with pytest.raises(SendError, match="HTTP status 302"):
        send(AlertTarget(SecretStr(web.url)), "Title", "Text")


@pytest.mark.parametrize("url", ["", "nonsense", "http//x", f"slack://{TOKEN}", f"json://[{TOKEN}", "mailto://"])
def test_the_error_of_an_invalid_address_omits_the_address(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_target(url)
    assert TOKEN not in caught.value.advice


@pytest.mark.parametrize("url", [url for _, url in delivery.ADDRESS_EXAMPLES])
def test_the_address_examples_are_valid(url: str) -> None:
    filled = (
        url.replace("TOKEN_A", "T1JJ3T3L2")
        .replace("TOKEN_B", "A1BRTD4JD")
        .replace("TOKEN_C", "TIiajkdnlazkcOXrIdevi7FQ")
        .replace("BOT_TOKEN", "123456789:alphanumeric-0000_abcdef")
        .replace("CHAT_ID", "12315544")
    )
    check_target(filled)


def test_no_log_contains_a_secret(
    engine: Engine,
    settings: Settings,
    web: WebReceiver,
    mail: MailReceiver,
    clock: list[datetime],
    caplog: pytest.LogCaptureFixture,
) -> None:
    web.status = 500
    mail.refusal = "550 No"
    unreachable = f"json://127.0.0.1:{free_port()}/{TOKEN}{FAST}"
    add_rule(engine, settings, "longest_wait", 60, "", web.url, mail.url, unreachable, f"slack://{TOKEN}")
    with caplog.at_level(logging.DEBUG):
        run_minutes(engine, settings, clock, 90)
    own_records = [record for record in caplog.records if not record.name.startswith("mail.")]  # not the receiver's
    assert any("could not be sent" in record.getMessage() for record in own_records)
    logged = "\n".join(
        [*(f"{record.getMessage()} {record.exc_text}" for record in own_records), *map(repr, alerts(engine))]
    )
    assert TOKEN not in logged
    assert PASSWORD not in logged


def test_an_alert_of_a_rule_without_targets_counts_as_sent(
    engine: Engine, settings: Settings, clock: list[datetime]
) -> None:
    add_rule(engine, settings, "longest_wait", 60)
    run_minutes(engine, settings, clock, 90)
    assert (alerts(engine)[0].start_sent, alerts(engine)[0].send_error) == (True, "")


@pytest.mark.parametrize(
    ("kind", "subject", "title"),
    [
        ("service_level", "400", "PBX Notebook: Low service level in queue 400"),
        ("trunk_down", "carrier", "PBX Notebook: Trunk carrier is down"),
        ("no_agent", "400", "PBX Notebook: No agent in queue 400"),
        ("sync_failing", "", "PBX Notebook: Recording sync is failing"),
    ],
)
def test_each_kind_of_rule_has_its_title(kind: str, subject: str, title: str) -> None:
    alert = Alert(rule_id=1, subject=subject, started_at=T0, description="So it is.")
    rule = AlertRule(connection_id=1, kind=kind)
    message = alert_message(alert, rule, "pbx.example.com", ZoneInfo("Europe/Berlin"), T0)
    assert message[0] == title
    assert message[1] == "So it is.\nStarted at 11:00:00. PBX: pbx.example.com. Times are in Europe/Berlin."
