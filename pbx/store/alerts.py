"""Alerts: their rules, the addresses to notify, active and past alerts, and the messages still to send.

A worker claims a message in one transaction that also marks it as sent, so only one of several workers sends it.
Targets that could not be reached stay in `pending_targets` and are claimed again later. Addresses are encrypted
(pbx.store.vault).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlmodel import Session, and_, col, delete, or_, select
from sqlmodel.sql.expression import Select

from pbx.errors import SettingsError
from pbx.settings import Settings
from pbx.store.models import Alert, AlertRule
from pbx.store.vault import Vault

RuleKind = Literal["longest_wait", "service_level", "trunk_down", "no_agent", "sync_failing"]
RULE_KINDS: tuple[RuleKind, ...] = get_args(RuleKind)

CLEAR_AFTER_S = 30  # an alert ends when its rule's condition has not been met for this long, at two checks or more
CLAIM_TIMEOUT_S = 600  # a worker that reports nothing on its claim for this long counts as dead
RETRY_PAUSES_S = (60, 300, 900, 3600)  # seconds before each further attempt to send
_SERVICES = {  # display names of URL schemes, if not the capitalized scheme
    "mailto": "E-mail",
    "mailtos": "E-mail",
    "json": "Webhook",
    "jsons": "Webhook",
    "form": "Webhook",
    "forms": "Webhook",
    "xml": "Webhook",
    "xmls": "Webhook",
    "msteams": "Teams",
    "workflow": "Teams",
    "workflows": "Teams",
    "tgram": "Telegram",
    "mmost": "Mattermost",
    "mmosts": "Mattermost",
    "ntfys": "ntfy",
    "ntfy": "ntfy",
}
_HOST_IS_NO_SECRET = {"E-mail", "Webhook", "Mattermost"}  # other services have a token in place of the host


@dataclass(frozen=True)
class AlertTarget:
    """An address to notify: an Apprise URL. `url` includes its tokens and passwords."""

    url: SecretStr
    id: str = field(default_factory=lambda: token_hex(4))

    @property
    def label(self) -> str:
        """The part that is safe to show: the service, and its host unless that is a secret."""
        return target_label(self.url.get_secret_value())


@dataclass(frozen=True)
class RuleCheck:
    """The result of checking a rule.

    `matches` is {subject: description} of the subjects that meet the rule's condition. There is no data for the
    subjects in `unknown`; no other subject meets it. `at` is the time of the data.
    """

    at: datetime
    matches: Mapping[str, str]
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AlertChange:
    """An alert that began or ended."""

    alert_id: int
    rule_id: int
    subject: str
    event: Literal["started", "ended"]


@dataclass(frozen=True)
class ClaimedMessage:
    """A claimed message: an alert and its rule, the ids of the targets to notify, and the attempt number, from 1."""

    alert: Alert
    rule: AlertRule
    targets: tuple[str, ...]
    attempt: int


def target_label(url: str) -> str:
    """Describe an address without its secrets: E-mail by smtp.example.com, Webhook to hooks.example.com, Slack."""
    scheme, _, _ = url.partition("://")
    name = _SERVICES.get(scheme.lower(), scheme.capitalize() if scheme.isalnum() and scheme != url else "Address")
    if name not in _HOST_IS_NO_SECRET:
        return name
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return f"{name} {'by' if name == 'E-mail' else 'to'} {host}" if host else name


def seal_targets(settings: Settings, targets: Sequence[AlertTarget]) -> str:
    """Encrypt a rule's addresses. Raises SettingsError for a malformed key, and DataError."""
    pairs = [[target.id, target.url.get_secret_value()] for target in targets]
    return Vault(settings).seal(SecretStr(json.dumps(pairs) if pairs else ""))


def targets_of(settings: Settings, rule: AlertRule) -> list[AlertTarget]:
    """Decrypt a rule's addresses. Raises SettingsError if the key that encrypted them was changed or is missing."""
    try:
        opened = Vault(settings).unseal(rule.targets_encrypted).get_secret_value()
    except SettingsError:
        raise SettingsError(
            "The addresses of an alert can't be read: the key is not the one they were saved with, or is gone.",
            "Bring back the old PBX_SECRET_KEY or secret.key, or enter the addresses again under Settings > Alerts.",
        ) from None
    return [AlertTarget(SecretStr(url), id_) for id_, url in json.loads(opened or "[]")]


def list_rules(session: Session, connection_id: int, *, enabled: bool | None = None) -> list[AlertRule]:
    """Return the rules of a PBX in order of creation. `enabled` selects only the enabled or only the disabled ones."""
    query = select(AlertRule).where(AlertRule.connection_id == connection_id).order_by(col(AlertRule.id))
    if enabled is not None:
        query = query.where(col(AlertRule.enabled) == enabled)
    return list(session.exec(query).all())


def save_rule(session: Session, rule: AlertRule, at: datetime) -> int:
    """Store a new or changed rule and return its id. Active alerts of a disabled rule end without a message."""
    stored = session.merge(rule)
    session.flush()
    if not stored.enabled:
        for alert in _open_alerts(session, cast(int, stored.id)):
            alert.sqlmodel_update({"ended_at": at, "start_sent": True, "end_sent": True, "pending_targets": []})
            session.add(alert)
    return cast(int, stored.id)


def delete_rule(session: Session, rule_id: int) -> None:
    """Delete a rule and its alerts."""
    session.exec(delete(Alert).where(col(Alert.rule_id) == rule_id))
    session.exec(delete(AlertRule).where(col(AlertRule.id) == rule_id))


def current_alerts(session: Session, connection_id: int) -> list[tuple[Alert, AlertRule]]:
    """Return the active alerts of a PBX, oldest first."""
    mine = _of_connection(connection_id).where(col(Alert.ended_at).is_(None))
    return [(alert, rule) for alert, rule in session.exec(mine.order_by(col(Alert.started_at), col(Alert.id))).all()]


def past_alerts(session: Session, connection_id: int, limit: int, *, offset: int = 0) -> list[tuple[Alert, AlertRule]]:
    """Return up to `limit` alerts of a PBX, active ones included, newest first."""
    mine = _of_connection(connection_id).order_by(col(Alert.started_at).desc(), col(Alert.id).desc())
    return [(alert, rule) for alert, rule in session.exec(mine.limit(limit).offset(offset)).all()]


def would_update_alerts(session: Session, rule_id: int, check: RuleCheck) -> bool:
    """Return whether `update_alerts` would change anything. Calling this first spares most checks the write lock."""
    active = {alert.subject: alert for alert in _open_alerts(session, rule_id)}
    if check.matches.keys() - active.keys():
        return True
    return any(_step(alert, check) != "none" for alert in active.values())


def update_alerts(session: Session, rule_id: int, check: RuleCheck) -> list[AlertChange]:
    """Start and end alerts according to a check of their rule, and return the changes.

    An alert starts with the first check at which a subject meets the rule's condition. It ends with the first check at
    which the subject no longer meets it, once a check at least `CLEAR_AFTER_S` seconds later confirms this.
    """
    if session.get(AlertRule, rule_id) is None:  # deleted meanwhile
        return []
    active = {alert.subject: alert for alert in _open_alerts(session, rule_id)}
    changes = []
    for alert in active.values():
        step = _step(alert, check)
        if step == "clear":
            alert.cleared_at = check.at
        elif step == "hold":
            alert.cleared_at = None
        elif step == "end":
            alert.ended_at = alert.cleared_at
            changes.append(AlertChange(cast(int, alert.id), rule_id, alert.subject, "ended"))
        session.add(alert)
    for subject, about in check.matches.items():
        if subject not in active:
            alert = Alert(rule_id=rule_id, subject=subject, started_at=check.at, description=about)
            session.add(alert)
            session.flush()
            changes.append(AlertChange(cast(int, alert.id), rule_id, subject, "started"))
    return changes


def has_due_message(session: Session, connection_id: int, at: datetime) -> bool:
    """Return whether `claim_message` would return a message."""
    return session.exec(_due_messages(connection_id, at)).first() is not None


def claim_message(session: Session, settings: Settings, connection_id: int, at: datetime) -> ClaimedMessage | None:
    """Claim the next message to send, so that no other worker sends it. Returns None if there is nothing to send.

    An alert that ended before its first message was sent gets only one message: that it ended. If its addresses can't
    be decrypted, the reason is stored with the alert and the message is dropped.
    """
    row = session.exec(_due_messages(connection_id, at)).first()
    if row is None:
        return None
    alert, rule = row
    over = alert.ended_at is not None
    is_new = not (alert.end_sent if over else alert.start_sent)
    try:
        known = [target.id for target in targets_of(settings, rule)]
    except SettingsError as error:
        _note_unsent(alert, at, error.advice, over=over)
        session.add(alert)
        return None
    targets = known if is_new else [id_ for id_ in alert.pending_targets if id_ in known]
    alert.sqlmodel_update(
        {
            "start_sent": True,
            "end_sent": over,
            "pending_targets": targets,
            "attempts": 1 if is_new else alert.attempts + 1,
            "retry_at": at + timedelta(seconds=CLAIM_TIMEOUT_S) if targets else None,
            "send_error": "" if is_new else alert.send_error,
        }
    )
    session.add(alert)
    session.flush()
    return ClaimedMessage(alert, rule, tuple(targets), alert.attempts)


def record_sent(session: Session, claimed: ClaimedMessage, target_id: str, at: datetime) -> bool:
    """Note that a target was reached. Returns False if another worker has claimed the message since."""
    alert = _claimed(session, claimed)
    if alert is None:
        return False
    alert.pending_targets = [id_ for id_ in alert.pending_targets if id_ != target_id]
    alert.retry_at = at + timedelta(seconds=CLAIM_TIMEOUT_S) if alert.pending_targets else None
    if not alert.pending_targets:
        alert.send_error = ""
    session.add(alert)
    return True


def record_send_error(session: Session, claimed: ClaimedMessage, why: str, at: datetime) -> None:
    """Note why some targets could not be reached, and schedule the next attempt, if any (`RETRY_PAUSES_S`).

    `why` must not contain a secret.
    """
    alert = _claimed(session, claimed)
    if alert is None:
        return
    pause_s = RETRY_PAUSES_S[claimed.attempt - 1] if claimed.attempt <= len(RETRY_PAUSES_S) else None
    alert.send_error = why
    if pause_s is None:
        alert.pending_targets, alert.retry_at = [], None
    else:
        alert.retry_at = at + timedelta(seconds=pause_s)
    session.add(alert)


def _step(alert: Alert, check: RuleCheck) -> Literal["none", "hold", "clear", "end"]:
    """Return what a check does to an active alert."""
    if alert.subject in check.unknown:
        return "none"
    if alert.subject in check.matches:
        return "hold" if alert.cleared_at else "none"
    if alert.cleared_at is None:
        return "clear"
    return "end" if (check.at - alert.cleared_at).total_seconds() >= CLEAR_AFTER_S else "none"


def _note_unsent(alert: Alert, at: datetime, why: str, *, over: bool) -> None:
    # The message counts as sent: trying again would not make the addresses readable.
    alert.sqlmodel_update(
        {"start_sent": True, "end_sent": over, "pending_targets": [], "retry_at": None, "send_error": why}
    )


def _open_alerts(session: Session, rule_id: int) -> list[Alert]:
    return list(session.exec(select(Alert).where(Alert.rule_id == rule_id, col(Alert.ended_at).is_(None))).all())


def _claimed(session: Session, claimed: ClaimedMessage) -> Alert | None:
    """Return the alert of a claim; None if it was claimed again since, or its message has changed."""
    alert = session.get(Alert, claimed.alert.id, populate_existing=True)
    same = alert and (alert.attempts, alert.end_sent) == (claimed.attempt, claimed.alert.end_sent)
    return alert if same else None


def _of_connection(connection_id: int) -> "Select[Alert, AlertRule]":
    return select(Alert, AlertRule).join(AlertRule).where(AlertRule.connection_id == connection_id)


def _due_messages(connection_id: int, at: datetime) -> "Select[Alert, AlertRule]":
    """Select the oldest alert that has a message to send now and that no worker is sending.

    The end of an alert is sent immediately, even if the message of its start is waiting for another attempt.
    """
    begins = and_(col(Alert.start_sent).is_(False), col(Alert.ended_at).is_(None))
    ends = and_(col(Alert.end_sent).is_(False), col(Alert.ended_at).is_not(None))
    free = or_(col(Alert.retry_at).is_(None), col(Alert.retry_at) <= at, col(Alert.send_error) != "")
    again = and_(col(Alert.retry_at).is_not(None), col(Alert.retry_at) <= at)
    due = or_(begins, and_(ends, free), again)
    return _of_connection(connection_id).where(due).order_by(col(Alert.started_at), col(Alert.id)).limit(1)
