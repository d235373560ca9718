"""Alerts: what the analyst wants to be told of, where to, how each rule stands, and what was told."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import streamlit as st
from pydantic import SecretStr

from pbx import ui
from pbx.alerts.delivery import EXAMPLES, alert_title, check_target, sample_message, send
from pbx.alerts.evaluation import MIN_CALLS, STALE_INTERVALS
from pbx.errors import PbxError, SettingsError
from pbx.formatting import ago_text, count_text, duration_text
from pbx.store.alerts import (
    KINDS,
    PAUSES_S,
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
HISTORY_ROWS = 20
DIALOG = "alert_dialog"  # in the session: which dialog is open, and the id of its rule


@dataclass(frozen=True)
class Kind:
    """How a kind of rule is offered: its name, what it is about, its threshold (most 0: it has none), and its words."""

    name: str
    of: Literal["queue", "trunk", ""]
    unit: str
    usual: int
    most: int
    said: str
    help: str
    live: bool = False  # held against the newest snapshot


OFFERED: dict[RuleKind, Kind] = {
    "longest_wait": Kind(
        "Longest wait",
        "queue",
        "Seconds",
        120,
        86_400,
        "A caller waits longer than {0:,.0f} s",
        "The wait of the first caller in the queue.",
        live=True,
    ),
    "service_level": Kind(
        "Service level",
        "queue",
        "Percent",
        80,
        100,
        "Today’s service level is below {0:.0f}%",
        "(Answered + given up within the queue’s own time) / (answered + abandoned), since midnight. "
        f"Counts once a queue had {MIN_CALLS} calls.",
    ),
    "trunk_down": Kind(
        "Trunk down",
        "trunk",
        "Minutes",
        5,
        10_080,
        "A trunk is not registered, or not reachable, for {0:,.0f} min",
        "Time in which nobody looked at the PBX is not counted.",
        live=True,
    ),
    "no_agent": Kind(
        "No agent",
        "queue",
        "",
        0,
        0,
        "Nobody is there to take calls",
        "No agent is logged in, or all are paused or their telephones can’t be reached.",
        live=True,
    ),
    "sync_failing": Kind(
        "Sync failing",
        "",
        "Syncs in a row",
        3,
        100,
        "The last {0:,.0f} syncs of recordings failed",
        "Whoever asked for them.",
    ),
}


def subjects(at: ui.Site, of: str, now_chosen: str) -> list[str]:
    """The queues or trunks there are, and what the rule is about already."""
    with reading(at.engine) as session:
        found = latest_snapshot(session, at.active.id)
    names: list[str] = []
    if found is not None:
        names = [one.name for one in (found.queues if of == "queue" else found.trunks)]
    return sorted({*names, now_chosen} - {ANY})


def subject_text(rule: AlertRule) -> str:
    of = OFFERED[rule.kind].of  # type: ignore[index]
    if not of:
        return "All recordings"
    return f"{of.capitalize()} {rule.subject}" if rule.subject else f"Any {of}"


def rule_text(rule: AlertRule) -> str:
    return OFFERED[rule.kind].said.format(rule.threshold)  # type: ignore[index]


def opened_targets(at: ui.Site, rule: AlertRule | None) -> list[AlertTarget]:
    """A rule's saved addresses; none, and why, when their key is gone."""
    try:
        return targets_of(at.settings, rule) if rule else []
    except SettingsError as error:
        st.error(ui.plain(error.advice))
        return []


def ask(what: Literal["edit", "delete"], rule_id: int | None) -> None:
    st.session_state[DIALOG] = (what, rule_id)


def close() -> None:
    st.session_state.pop(DIALOG, None)


def done(said: str, icon: str) -> None:
    """Close the dialog, and say what was done."""
    close()
    st.session_state["toast"] = (said, f":material/{icon}:")
    st.rerun()


@st.dialog("Alert", width="medium", on_dismiss=close)
def edit(at: ui.Site, rule: AlertRule | None) -> None:
    """A rule's form: a new one's without `rule`."""
    kind: RuleKind = rule.kind if rule else "longest_wait"  # type: ignore[assignment]
    if rule is None:
        kind = st.selectbox("Tell me when", KINDS, format_func=lambda one: OFFERED[one].name, key="kind") or kind
    about = OFFERED[kind]
    st.caption(f"{ui.plain(about.said.format(rule.threshold if rule else about.usual))}. {ui.plain(about.help)}")
    subject, threshold = rule.subject if rule else ANY, float(about.usual)
    left, right = st.columns(2)
    if about.of:
        names = [ANY, *subjects(at, about.of, subject)]
        said = {ANY: f"Any {about.of}"}
        subject = left.selectbox(
            about.of.capitalize(),
            names,
            names.index(subject),
            format_func=lambda name: said.get(name, name),
            key=f"subject_{about.of}",
        )
    if about.most:
        start = int(rule.threshold) if rule else about.usual
        threshold = (right if about.of else left).number_input(
            about.unit, 1, about.most, start, key=f"threshold_{kind}"
        )
    targets = choose_targets(at, rule)
    buttons(at, rule, kind, subject or ANY, float(threshold), targets)


def choose_targets(at: ui.Site, rule: AlertRule | None) -> list[AlertTarget]:
    """The saved addresses that stay, named without their secrets, and those typed, one a line."""
    saved = opened_targets(at, rule)
    kept = saved
    if saved:
        said = {target.id: f"{place}. {target.label}" for place, target in enumerate(saved, 1)}
        chosen = st.multiselect(
            "Saved addresses", list(said), list(said), format_func=said.__getitem__, placeholder="None", key="kept"
        )
        kept = [target for target in saved if target.id in chosen]
    typed = st.text_area(
        "Add addresses, one a line",
        key="typed",
        placeholder=EXAMPLES[0][1],
        help="Addresses as Apprise writes them. They are stored encrypted and never shown again.",
        height=80,
    )
    with st.expander("How addresses are written"):
        st.code("\n".join(url for _, url in EXAMPLES), language=None, wrap_lines=True)
        ui.note("Words in capitals are yours to fill in. Without any address the alert is seen on Today only.")
    return kept + [AlertTarget(SecretStr(line.strip())) for line in typed.splitlines() if line.strip()]


def buttons(
    at: ui.Site, rule: AlertRule | None, kind: RuleKind, subject: str, threshold: float, targets: list[AlertTarget]
) -> None:
    with st.container(horizontal=True):
        save = st.button("Save", type="primary", icon=":material/save:", key="save_rule")
        test = st.button("Send a test message", icon=":material/send:", disabled=not targets, key="test_rule")
    if not (save or test):
        return
    try:
        for place, target in enumerate(targets, 1):
            checked(place, target)
        if test:
            send_test(at, targets)
            return
        made = AlertRule(
            id=rule.id if rule else None,
            connection_id=at.active.id,
            kind=kind,
            subject=subject,
            threshold=threshold,
            enabled=rule.enabled if rule else True,
            targets_encrypted=seal_targets(at.settings, targets),
        )
        with writing(at.engine) as session:
            save_rule(session, made, now())
    except PbxError as error:
        st.error(ui.plain(error.advice))
        return
    done("Alert saved.", "check_circle")


def checked(place: int, target: AlertTarget) -> None:
    """Raise SettingsError, naming the address by its place, when it is none."""
    try:
        check_target(target.url.get_secret_value())
    except SettingsError as error:
        raise SettingsError(f"Address {place} can’t be used. {error}", error.fix) from None


def send_test(at: ui.Site, targets: list[AlertTarget]) -> None:
    title, text = sample_message(at.active.connection.host)
    with st.spinner("Sending"):
        for target in targets:
            try:
                send(target, title, text)
            except PbxError as error:
                st.error(ui.plain(error.advice))
            else:
                st.success(f"{ui.plain(target.label)} took the test message.", icon=":material/check_circle:")


@st.dialog("Delete this alert?", on_dismiss=close)
def confirm_delete(at: ui.Site, rule: AlertRule) -> None:
    st.write(
        f"“{ui.plain(rule_text(rule))}” ({ui.plain(subject_text(rule))}) is deleted with its addresses and its history."
    )
    if st.button("Delete", type="primary", icon=":material/delete:", key="delete_rule"):
        with writing(at.engine) as session:
            delete_rule(session, rule.id or 0)
        done("Alert deleted.", "delete")


def switch(at: ui.Site, rule_id: int) -> None:
    """Switch a rule on or off, as its toggle was set; what another page changed of it meanwhile stays."""
    with writing(at.engine) as session:
        if rule := session.get(AlertRule, rule_id):
            rule.enabled = bool(st.session_state[f"enabled_{rule_id}"])
            save_rule(session, rule, now())


@st.fragment(run_every=10)
@ui.show_errors
def state(at: ui.Site, rule: AlertRule) -> None:
    """How a rule stands now."""
    if not rule.enabled:
        st.markdown(":gray[:material/notifications_off: Switched off]")
        return
    with reading(at.engine) as session:
        open_ones = [alert for alert, of in current_alerts(session, at.active.id) if of.id == rule.id]
        seen = latest_snapshot(session, at.active.id)
    at_moment = datetime.now(UTC)
    old = seen is None or (at_moment - seen.taken_at).total_seconds() > STALE_INTERVALS * at.interval_s
    if open_ones:
        names = ", ".join(alert.subject for alert in open_ones[:3] if alert.subject)
        more = f" and {len(open_ones) - 3} more" if len(open_ones) > 3 else ""
        since = f"since {at.local(min(alert.started_at for alert in open_ones))}"
        said = f"{names}{more} {since}".strip().capitalize() if not names else f"{names}{more}, {since}"
        st.markdown(f":red[:material/notifications_active:] **{ui.plain(said)}**")
    elif OFFERED[rule.kind].live and old:  # type: ignore[index]
        last = f"last look {ago_text(seen.taken_at, at_moment)}" if seen else "no look yet"
        st.markdown(f":orange[:material/warning:] Not known: {ui.plain(last)}")
    else:
        st.markdown(":green[:material/check_circle:] All is well")


def show_rules(at: ui.Site, rules: list[AlertRule]) -> None:
    for rule in rules:
        with st.container(border=True, key=f"rule_{rule.id}"):
            what, how = st.columns([5, 6], vertical_alignment="center")
            with what:
                try:
                    labels = ", ".join(target.label for target in targets_of(at.settings, rule)) or "Seen on Today only"
                except SettingsError as error:
                    labels = error.advice
                st.markdown(
                    f"**{ui.plain(rule_text(rule))}**  \n:small[{ui.plain(subject_text(rule))} · {ui.plain(labels)}]"
                )
            with how, st.container(horizontal=True, vertical_alignment="center"):
                with st.container():
                    state(at, rule)
                st.toggle("On", rule.enabled, key=f"enabled_{rule.id}", on_change=switch, args=(at, rule.id))
                st.button("Edit", icon=":material/edit:", key=f"edit_{rule.id}", on_click=ask, args=("edit", rule.id))
                st.button(
                    "",
                    icon=":material/delete:",
                    key=f"ask_delete_{rule.id}",
                    help="Delete this alert",
                    on_click=ask,
                    args=("delete", rule.id),
                )


@st.fragment(run_every=10)
@ui.show_errors
def history(at: ui.Site) -> None:
    with reading(at.engine) as session:
        found = past_alerts(session, at.active.id, HISTORY_ROWS)
    st.subheader("What happened", anchor=False)
    if not found:
        ui.note("No alert has begun yet.")
        return
    rows = {str(alert.id): history_cells(at, alert, rule) for alert, rule in found}
    ui.table("What happened", ["Began|", "What", "Lasted>", "Told"], rows, key="alert_history")


def history_cells(at: ui.Site, alert: Alert, rule: AlertRule) -> list[ui.TableCell]:
    lasted: ui.TableCell = {"text": "Going on", "tone": "bad"}
    if alert.ended_at is not None:
        lasted = duration_text((alert.ended_at - alert.started_at).total_seconds())
    return [
        at.local(alert.started_at),
        {"text": alert_title(rule.kind, alert.subject), "sub": alert.description},
        lasted,
        told_cell(at, alert, rule),
    ]


def told_cell(at: ui.Site, alert: Alert, rule: AlertRule) -> ui.TableCell:
    """Whether the last message of an alert has arrived."""
    if alert.send_error and alert.pending_targets and alert.retry_at:
        return {"text": f"Again at {at.local(alert.retry_at)}", "tone": "warn", "sub": alert.send_error}
    if alert.send_error:
        return {"text": "Not sent", "tone": "bad", "sub": alert.send_error}
    if not rule.targets_encrypted:
        return {"text": "On Today only", "tone": "idle"}
    due = alert.pending_targets or not (alert.end_sent if alert.ended_at else alert.start_sent)
    return {"text": "Being sent", "tone": "busy"} if due else {"text": "Told", "tone": "good"}


ui.head("Alerts", "Told once when something begins, and once when it is over")
site = ui.site()
with reading(site.engine) as session:
    known = list_rules(session, site.active.id)
if known and not worker_alive(site.settings):
    st.warning("No worker runs, so nothing is watched and nobody is told.", icon=":material/warning:")
st.button("Add an alert", type="primary", icon=":material/add_alert:", on_click=ask, args=("edit", None))
if known:
    ui.note(
        f"{count_text(len(known), 'rule')}. What can’t be sent is tried {len(PAUSES_S)} more times, "
        f"over {duration_text(sum(PAUSES_S))}."
    )
    show_rules(site, known)
else:
    ui.note("No rule yet. Add one, for example for the longest wait in a queue or for a trunk that goes down.")
history(site)
if DIALOG in st.session_state:
    asked, rule_id = st.session_state[DIALOG]
    chosen_rule = next((rule for rule in known if rule.id == rule_id), None)
    if asked == "edit":
        edit(site, chosen_rule)
    elif chosen_rule:
        confirm_delete(site, chosen_rule)
