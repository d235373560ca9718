"""Alerts: the rules, their current status, the addresses that receive messages, and past alerts."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import streamlit as st
from pydantic import SecretStr

from pbx import ui
from pbx.alerts.delivery import ADDRESS_EXAMPLES, alert_title, check_target, sample_message, send
from pbx.alerts.rules import MIN_CALLS, STALE_INTERVALS
from pbx.errors import PbxError, SettingsError
from pbx.formatting import ago_text, count_text, duration_text
from pbx.store.alerts import (
    RETRY_PAUSES_S,
    RULE_KINDS,
    AlertTarget,
    RuleKind,
    current_alerts,
    delete_rule,
    list_rules,
    past_alerts,
    save_rule,
    seal_targets,
    targets_of,
)
from pbx.store.engine import reading, writing
from pbx.store.job_queue import worker_alive
from pbx.store.models import Alert, AlertRule, now
from pbx.store.snapshots import latest_snapshot

ANY = ""
PAST_ROWS = 20
DIALOG = "alert_dialog"  # in the session: which dialog is open, and the id of its rule


@dataclass(frozen=True)
class Kind:
    """A kind of rule as the form offers it. A `maximum` of 0 means that it has no threshold."""

    name: str
    subject: Literal["queue", "trunk", ""]
    unit: str
    default: int
    maximum: int
    text: str
    help: str
    live: bool = False  # evaluated against the latest snapshot


OFFERED: dict[RuleKind, Kind] = {
    "longest_wait": Kind(
        "Longest wait",
        "queue",
        "Seconds",
        120,
        86_400,
        "A caller waits longer than {0:,.0f} s",
        "The current wait of the first caller in the queue.",
        live=True,
    ),
    "service_level": Kind(
        "Service level",
        "queue",
        "Percent",
        80,
        100,
        "Today’s service level is below {0:.0f}%",
        "(Answered + abandoned, both within target) ÷ (answered + abandoned), since midnight. Target: the queue’s "
        f"service level. Needs at least {MIN_CALLS} calls in the queue.",
    ),
    "trunk_down": Kind(
        "Trunk down",
        "trunk",
        "Minutes",
        5,
        10_080,
        "A trunk is unregistered or unreachable for {0:,.0f} min",
        "Time without data from the PBX is not counted.",
        live=True,
    ),
    "no_agent": Kind(
        "No agent",
        "queue",
        "",
        0,
        0,
        "No agent can take calls",
        "No agent is logged in, or all are paused or have unreachable phones.",
        live=True,
    ),
    "sync_failing": Kind(
        "Sync failing",
        "",
        "Consecutive syncs",
        3,
        100,
        "The last {0:,.0f} syncs of recordings failed",
        "Scheduled syncs and syncs that a user started.",
    ),
}


def subjects(site: ui.Site, of: str, current: str) -> list[str]:
    """The names of all queues or trunks in the latest snapshot, and the rule’s current one."""
    with reading(site.engine) as session:
        snapshot = latest_snapshot(session, site.active.id)
    names: list[str] = []
    if snapshot is not None:
        names = [one.name for one in (snapshot.queues if of == "queue" else snapshot.trunks)]
    return sorted({*names, current} - {ANY})


def subject_text(rule: AlertRule) -> str:
    """What a rule is about: Queue 400, Any trunk."""
    of = OFFERED[rule.kind].subject  # type: ignore[index]
    if not of:
        return "All recordings"
    return f"{of.capitalize()} {rule.subject}" if rule.subject else f"Any {of}"


def rule_text(rule: AlertRule) -> str:
    """A rule as a sentence: A caller waits longer than 120 s."""
    return OFFERED[rule.kind].text.format(rule.threshold)  # type: ignore[index]


def saved_targets(site: ui.Site, rule: AlertRule | None) -> list[AlertTarget]:
    """A rule's saved addresses. If they can't be decrypted, shows why and returns none."""
    try:
        return targets_of(site.settings, rule) if rule else []
    except SettingsError as error:
        st.error(ui.plain(error.advice))
        return []


def open_dialog(what: Literal["edit", "delete"], rule_id: int | None) -> None:
    """Open a dialog on the next run, for a rule or (None) a new one."""
    st.session_state[DIALOG] = (what, rule_id)


def close_dialog() -> None:
    """Close the dialog on the next run."""
    st.session_state.pop(DIALOG, None)


def close_with_toast(text: str, icon: str) -> None:
    """Close the dialog and show a toast."""
    close_dialog()
    st.session_state["toast"] = (text, f":material/{icon}:")
    st.rerun()


@st.dialog("Alert", width="medium", on_dismiss=close_dialog)
def edit(site: ui.Site, rule: AlertRule | None) -> None:
    """The form of a rule, or of a new one if `rule` is None."""
    kind: RuleKind = rule.kind if rule else "longest_wait"  # type: ignore[assignment]
    if rule is None:
        kind = st.selectbox("Alert when", RULE_KINDS, format_func=lambda one: OFFERED[one].name, key="kind") or kind
    about = OFFERED[kind]
    st.caption(f"{ui.plain(about.text.format(rule.threshold if rule else about.default))}. {ui.plain(about.help)}")
    subject, threshold = rule.subject if rule else ANY, float(about.default)
    left, right = st.columns(2)
    if about.subject:
        names = [ANY, *subjects(site, about.subject, subject)]
        labels = {ANY: f"Any {about.subject}"}
        subject = left.selectbox(
            about.subject.capitalize(),
            names,
            names.index(subject),
            format_func=lambda name: labels.get(name, name),
            key=f"subject_{about.subject}",
        )
    if about.maximum:
        start = int(rule.threshold) if rule else about.default
        threshold = (right if about.subject else left).number_input(
            about.unit, 1, about.maximum, start, key=f"threshold_{kind}"
        )
    targets = choose_targets(site, rule)
    save_or_test(site, rule, kind, subject or ANY, float(threshold), targets)


def choose_targets(site: ui.Site, rule: AlertRule | None) -> list[AlertTarget]:
    """The fields for addresses: the saved ones to keep, shown without their secrets, and new ones."""
    saved = saved_targets(site, rule)
    selected = saved
    if saved:
        labels = {target.id: f"{number}. {target.label}" for number, target in enumerate(saved, 1)}
        chosen = st.multiselect(
            "Saved addresses",
            list(labels),
            list(labels),
            format_func=labels.__getitem__,
            placeholder="None",
            key="kept",
        )
        selected = [target for target in saved if target.id in chosen]
    typed = st.text_area(
        "Notify: add one address per line",
        key="typed",
        placeholder=ADDRESS_EXAMPLES[0][1],
        help="Addresses in Apprise’s format. They are stored encrypted and never shown again.",
        height=80,
    )
    with st.expander("Examples of addresses"):
        st.code("\n".join(url for _, url in ADDRESS_EXAMPLES), language=None, wrap_lines=True)
        ui.note("Replace the words in capitals. Without an address, the alert appears only on the page Today.")
    return selected + [AlertTarget(SecretStr(line.strip())) for line in typed.splitlines() if line.strip()]


def save_or_test(
    site: ui.Site, rule: AlertRule | None, kind: RuleKind, subject: str, threshold: float, targets: list[AlertTarget]
) -> None:
    """The buttons of the form, and what they do: save the rule, or send a test message to its addresses."""
    with st.container(horizontal=True):
        save = st.button("Save", type="primary", icon=":material/save:", key="save_rule")
        test = st.button("Send a test message", icon=":material/send:", disabled=not targets, key="test_rule")
    if not (save or test):
        return
    try:
        for number, target in enumerate(targets, 1):
            check_address(number, target)
        if test:
            send_test(site, targets)
            return
        made = AlertRule(
            id=rule.id if rule else None,
            connection_id=site.active.id,
            kind=kind,
            subject=subject,
            threshold=threshold,
            enabled=rule.enabled if rule else True,
            targets_encrypted=seal_targets(site.settings, targets),
        )
        with writing(site.engine) as session:
            save_rule(session, made, now())
    except PbxError as error:
        st.error(ui.plain(error.advice))
        return
    close_with_toast("Alert rule saved.", "check_circle")


def check_address(number: int, target: AlertTarget) -> None:
    """Raise SettingsError, with the number of the address, if its form is unknown."""
    try:
        check_target(target.url.get_secret_value())
    except SettingsError as error:
        raise SettingsError(f"Address {number} can’t be used. {error}", error.fix) from None


def send_test(site: ui.Site, targets: list[AlertTarget]) -> None:
    """Send a test message to each address, and show the outcome of each."""
    title, text = sample_message(site.active.connection.host)
    with st.spinner("Sending"):
        for target in targets:
            try:
                send(target, title, text)
            except PbxError as error:
                st.error(ui.plain(error.advice))
            else:
                st.success(f"Test message sent to {ui.plain(target.label)}.", icon=":material/check_circle:")


@st.dialog("Delete this alert rule?", on_dismiss=close_dialog)
def confirm_delete(site: ui.Site, rule: AlertRule) -> None:
    """Ask before deleting a rule."""
    st.write(
        f"“{ui.plain(rule_text(rule))}” ({ui.plain(subject_text(rule))}) "
        "will be deleted, with its addresses and past alerts."
    )
    if st.button("Delete", type="primary", icon=":material/delete:", key="delete_rule"):
        with writing(site.engine) as session:
            delete_rule(session, rule.id or 0)
        close_with_toast("Alert rule deleted.", "delete")


def switch(site: ui.Site, rule_id: int) -> None:
    """Turn a rule on or off, as its toggle is set. Changes that another page made meanwhile remain."""
    with writing(site.engine) as session:
        if rule := session.get(AlertRule, rule_id):
            rule.enabled = bool(st.session_state[f"enabled_{rule_id}"])
            save_rule(session, rule, now())


@st.fragment(run_every=10)
@ui.show_errors
def status(site: ui.Site, rule: AlertRule) -> None:
    """The current status of a rule: off, active, no data, or clear."""
    if not rule.enabled:
        st.markdown(":gray[:material/notifications_off: Off]")
        return
    with reading(site.engine) as session:
        open_ones = [alert for alert, of in current_alerts(session, site.active.id) if of.id == rule.id]
        snapshot = latest_snapshot(session, site.active.id)
    current_time = datetime.now(UTC)
    stale = snapshot is None or (current_time - snapshot.taken_at).total_seconds() > STALE_INTERVALS * site.interval_s
    if open_ones:
        names = ", ".join(alert.subject for alert in open_ones[:3] if alert.subject)
        more = f" and {len(open_ones) - 3} more" if len(open_ones) > 3 else ""
        since = f"since {site.local(min(alert.started_at for alert in open_ones))}"
        text = f"Active: {names}{more}, {since}" if names else f"Active {since}"
        st.markdown(f":red[:material/notifications_active:] **{ui.plain(text)}**")
    elif OFFERED[rule.kind].live and stale:  # type: ignore[index]
        last = f"last snapshot {ago_text(snapshot.taken_at, current_time)}" if snapshot else "no snapshot yet"
        st.markdown(f":orange[:material/warning:] No current data: {ui.plain(last)}")
    else:
        st.markdown(":green[:material/check_circle:] All clear")


def show_rules(site: ui.Site, rules: list[AlertRule]) -> None:
    """All rules, each with its addresses, its status and its buttons."""
    for rule in rules:
        with st.container(border=True, key=f"rule_{rule.id}"):
            what, how = st.columns([5, 6], vertical_alignment="center")
            with what:
                try:
                    labels = (
                        ", ".join(target.label for target in targets_of(site.settings, rule)) or "Shown only on Today"
                    )
                except SettingsError as error:
                    labels = error.advice
                st.markdown(
                    f"**{ui.plain(rule_text(rule))}**  \n:small[{ui.plain(subject_text(rule))} · {ui.plain(labels)}]"
                )
            with how, st.container(horizontal=True, vertical_alignment="center"):
                with st.container():
                    status(site, rule)
                st.toggle("On", rule.enabled, key=f"enabled_{rule.id}", on_change=switch, args=(site, rule.id))
                st.button(
                    "Edit", icon=":material/edit:", key=f"edit_{rule.id}", on_click=open_dialog, args=("edit", rule.id)
                )
                st.button(
                    "",
                    icon=":material/delete:",
                    key=f"ask_delete_{rule.id}",
                    help="Delete this alert rule",
                    on_click=open_dialog,
                    args=("delete", rule.id),
                )


@st.fragment(run_every=10)
@ui.show_errors
def show_past_alerts(site: ui.Site) -> None:
    """The latest alerts, and whether their messages were sent."""
    with reading(site.engine) as session:
        alerts = past_alerts(session, site.active.id, PAST_ROWS)
    st.subheader("Past alerts", anchor=False)
    if not alerts:
        ui.note("No alerts yet.")
        return
    rows = {str(alert.id): alert_cells(site, alert, rule) for alert, rule in alerts}
    ui.table("Past alerts", ["Started|", "Alert", "Duration>", "Message"], rows, key="past_alerts")


def alert_cells(site: ui.Site, alert: Alert, rule: AlertRule) -> list[ui.TableCell]:
    """A row of the table of alerts."""
    duration: ui.TableCell = {"text": "Ongoing", "tone": "bad"}
    if alert.ended_at is not None:
        duration = duration_text((alert.ended_at - alert.started_at).total_seconds())
    return [
        site.local(alert.started_at),
        {"text": alert_title(rule.kind, alert.subject), "sub": alert.description},
        duration,
        message_cell(site, alert, rule),
    ]


def message_cell(site: ui.Site, alert: Alert, rule: AlertRule) -> ui.TableCell:
    """Whether the latest message about an alert was sent."""
    if alert.send_error and alert.pending_targets and alert.retry_at:
        return {"text": f"Retry at {site.local(alert.retry_at)}", "tone": "warn", "sub": alert.send_error}
    if alert.send_error:
        return {"text": "Not sent", "tone": "bad", "sub": alert.send_error}
    if not rule.targets_encrypted:
        return {"text": "Only on Today", "tone": "idle"}
    due = alert.pending_targets or not (alert.end_sent if alert.ended_at else alert.start_sent)
    return {"text": "Sending", "tone": "busy"} if due else {"text": "Sent", "tone": "good"}


ui.head("Alerts", "You get one message when a problem starts and one when it ends")
site = ui.site()
with reading(site.engine) as session:
    rules = list_rules(session, site.active.id)
if rules and not worker_alive(site.settings):
    st.warning("The background worker isn’t running, so no alerts will be sent.", icon=":material/warning:")
st.button("Add an alert rule", type="primary", icon=":material/add_alert:", on_click=open_dialog, args=("edit", None))
if rules:
    ui.note(
        f"{count_text(len(rules), 'alert rule')}. A message that can’t be sent is retried {len(RETRY_PAUSES_S)} times "
        f"within {duration_text(sum(RETRY_PAUSES_S))}."
    )
    show_rules(site, rules)
else:
    ui.note("No alert rules yet. Add one, for example for a long wait in a queue or a trunk that is down.")
show_past_alerts(site)
if DIALOG in st.session_state:
    dialog, rule_id = st.session_state[DIALOG]
    chosen_rule = next((rule for rule in rules if rule.id == rule_id), None)
    if dialog == "edit":
        edit(site, chosen_rule)
    elif chosen_rule:
        confirm_delete(site, chosen_rule)
