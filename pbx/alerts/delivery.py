"""Sends alerts through Apprise (e-mail, webhooks, Slack, Teams and others): when one starts and when it ends."""

import logging
import threading
from datetime import datetime, tzinfo

from sqlalchemy import Engine

from pbx.alerts.rules import evaluate_rules
from pbx.alerts.send_process import check_address, send_in_process
from pbx.errors import PbxError
from pbx.formatting import duration_text, moment_text, zone_of, zone_text
from pbx.settings import Settings
from pbx.store.alerts import (
    RETRY_PAUSES_S,
    AlertTarget,
    ClaimedMessage,
    claim_message,
    has_due_message,
    record_send_error,
    record_sent,
    targets_of,
)
from pbx.store.engine import reading, writing
from pbx.store.models import Alert, AlertRule, PbxConnection, now
from pbx.store.pbx_connections import ActiveConnection, active_connection

ADDRESS_EXAMPLES = (  # placeholders in capitals
    ("E-mail", "mailtos://USER:PASSWORD@smtp.example.com?from=pbx@example.com&to=you@example.com"),
    ("Webhook", "jsons://hooks.example.com/pbx"),
    ("Slack", "slack://TOKEN_A/TOKEN_B/TOKEN_C/#channel"),
    ("Teams", "workflows://HOST/WORKFLOW/SIGNATURE"),
    ("Telegram", "tgram://BOT_TOKEN/CHAT_ID"),
    ("ntfy", "ntfys://ntfy.example.com/TOPIC"),
)
ALERT_TITLES = {
    "longest_wait": "Long wait in queue {}",
    "service_level": "Low service level in queue {}",
    "trunk_down": "Trunk {} is down",
    "no_agent": "No agent in queue {}",
    "sync_failing": "Recording sync is failing",
}

log = logging.getLogger("pbx.alerts")


class SendError(PbxError):
    """A message could not be sent. The error gives the reason, never the address."""


def update_and_send_alerts(engine: Engine, settings: Settings, stop: threading.Event) -> bool:
    """Evaluate the rules and send the messages that are due. Return whether an alert changed or a message was due.

    Raises SettingsError, DataError.
    """
    active = active_connection(engine, settings)
    if active is None:
        return False
    changes = evaluate_rules(engine, settings, active, now())
    for change in changes:
        log.info("Alert %s (rule %d, %s).", change.event, change.rule_id, change.subject or "sync")
    return bool(send_due_messages(engine, settings, active, stop) + len(changes))


def send_due_messages(engine: Engine, settings: Settings, active: ActiveConnection, stop: threading.Event) -> int:
    """Send every message that is due, and return their number. Raises DataError."""
    sent = 0
    while not stop.is_set():
        with reading(engine) as session:
            if not has_due_message(session, active.id, now()):
                break
        with writing(engine) as session:
            claimed = claim_message(session, settings, active.id, now())
        if claimed is not None:
            _send_claimed(engine, settings, active, claimed)
            sent += 1
    return sent


def send(target: AlertTarget, title: str, text: str) -> None:
    """Send one message now. Raises SendError if that fails, SettingsError for an unusable address."""
    reason = send_in_process(target.url.get_secret_value(), title, text)
    if reason:
        raise SendError(f"{target.label}: the message wasn’t sent ({reason}).", "Check the address and try again.")


def check_target(url: str) -> None:
    """Raise SettingsError if messages can't be sent to an address of this form. Nothing is sent."""
    check_address(url)


def sample_message(host: str) -> tuple[str, str]:
    """Return the title and text of a test message."""
    return (
        "PBX Notebook: test message",
        f"This is a test; nothing is wrong. Alerts for the PBX {host} will arrive here.",
    )


def alert_title(kind: str, subject: str) -> str:
    """Return an alert's title: Long wait in queue 400."""
    return ALERT_TITLES.get(kind, "Alert: {}").format(subject)


def alert_message(alert: Alert, rule: AlertRule, host: str, zone: tzinfo, at: datetime) -> tuple[str, str]:
    """Return the title and text of the message about an alert as it is at `at`, with times in the PBX's time zone."""
    title = alert_title(rule.kind, alert.subject)
    started = moment_text(alert.started_at, zone, at, seconds=True)
    where = f"PBX: {host}. Times are in {zone_text(zone, at)}."
    if alert.ended_at is None:
        return f"PBX Notebook: {title}", f"{alert.description}\nStarted at {started}. {where}"
    ended = moment_text(alert.ended_at, zone, at, seconds=True)
    duration = duration_text((alert.ended_at - alert.started_at).total_seconds())
    text = f"From {started} to {ended} ({duration}). At the start: {alert.description}\n{where}"
    return f"PBX Notebook: resolved: {title}", text


def _send_claimed(engine: Engine, settings: Settings, active: ActiveConnection, claimed: ClaimedMessage) -> None:
    with reading(engine) as session:
        row = session.get(PbxConnection, active.id)
    zone = zone_of(active.connection.timezone, row.utc_offset_s if row else None)
    title, text = alert_message(claimed.alert, claimed.rule, active.connection.host, zone, now())
    failures = []
    for target in targets_of(settings, claimed.rule):
        if target.id not in claimed.targets:
            continue
        try:
            send(target, title, text)
        except PbxError as error:
            failures.append(str(error))
            continue
        with writing(engine) as session:
            if not record_sent(session, claimed, target.id, now()):
                return  # another worker has replaced the message
    if failures:
        tries = f"Attempt {claimed.attempt} of {len(RETRY_PAUSES_S) + 1}."
        log.warning("An alert could not be sent. %s %s", " ".join(failures), tries)
        with writing(engine) as session:
            record_send_error(session, claimed, f"{' '.join(failures)} {tries}", now())
