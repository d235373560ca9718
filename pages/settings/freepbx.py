"""FreePBX Integration: how to reach the PBX, and whether everything there is in place."""

from pathlib import Path
from zoneinfo import available_timezones

import streamlit as st
from pydantic import SecretStr, ValidationError

from pbx import ui
from pbx.asterisk.doctor import CheckStep, check_connection
from pbx.errors import PbxError, SettingsError
from pbx.settings import Connection, Settings
from pbx.store.connections import ActiveConnection, active_connection, forget_saved, save_connection

ICONS = {
    "ok": ":green[:material/check_circle:]",
    "failed": ":red[:material/cancel:]",
    "warning": ":orange[:material/warning:]",
    "skipped": ":gray[:material/do_not_disturb_on:]",
}
LEARNED = "Learned from the PBX"


def password(label: str, key: str, saved: SecretStr | None) -> SecretStr:
    """A password's field: always empty; leaving it so keeps the saved one."""
    kept = bool(saved and saved.get_secret_value())
    return SecretStr(
        st.text_input(
            label,
            type="password",
            key=f"{key}_{st.session_state.get('saves', 0)}",  # a new field after each save: what was typed is gone
            placeholder="Saved; leave empty to keep it" if kept else "",
            autocomplete="new-password",
        )
        or ""
    )


def form(active: ActiveConnection | None) -> tuple[dict[str, object], bool, bool]:
    """The form's values, and which of its two buttons was pressed."""
    now = active.connection if active else None
    with st.form("freepbx", border=True):
        host, zone = st.columns([3, 2], gap="medium")
        values: dict[str, object] = {
            "host": host.text_input(
                "Host name or address", now.host if now else "", placeholder="pbx.example.com"
            ).strip(),
        }
        zones = [LEARNED, *sorted(available_timezones())]
        known = now.timezone if now and now.timezone else LEARNED
        chosen = zone.selectbox("Time zone of the PBX", zones, index=zones.index(known) if known in zones else 0)
        values["timezone"] = None if chosen == LEARNED else chosen
        ami, ari = st.columns(2, gap="medium")
        with ami:
            st.markdown("**AMI** for live status", help="The manager interface: queues, trunks, extensions, calls.")
            values |= interface("ami", now, 5038)
        with ari:
            st.markdown("**ARI** for recordings", help="The REST interface: the stored recordings.")
            values |= interface("ari", now, 8088)
            values["ari_prefix"] = st.text_input(
                "ARI prefix",
                now.ari_prefix.strip("/") if now else "",
                placeholder="Usually none",
                help="The prefix in the PBX’s http.conf, if it has one: `asterisk -rx 'http show status'` shows it.",
            )
        ca_file = st.text_input(
            "CA file (PEM, a path on this machine)",
            str(now.ca_file) if now and now.ca_file else "",
            placeholder="Only for TLS with a certificate of your own CA",
        ).strip()
        values["ca_file"] = Path(ca_file).expanduser() if ca_file else None
        with st.container(horizontal=True):
            save = st.form_submit_button("Save settings", type="primary", icon=":material/save:")
            test = st.form_submit_button("Test Connection", icon=":material/network_check:")
    return values, save, test


def interface(name: str, now: Connection | None, port: int) -> dict[str, object]:
    """The four fields of AMI or ARI."""
    title = name.upper()
    return {
        f"{name}_username": st.text_input(f"{title} user", getattr(now, f"{name}_username", "")).strip(),
        f"{name}_password": password(f"{title} password", f"{name}_password", getattr(now, f"{name}_password", None)),
        f"{name}_port": int(st.number_input(f"{title} port", 1, 65535, getattr(now, f"{name}_port", port))),
        f"{name}_tls": st.toggle(f"{title} over TLS", getattr(now, f"{name}_tls", False)),
    }


def entered(values: dict[str, object], active: ActiveConnection | None) -> Connection:
    """The connection as entered, with saved passwords where none was typed. Raises SettingsError.

    A saved password goes only to where it was saved for: the same host, port, TLS and CA file.
    """
    if not values["host"]:
        raise SettingsError("The host is missing.", "Enter the name or the address of the PBX.")
    saved = active.connection.model_dump() if active else {}
    for name in ("ami", "ari"):
        typed, kept = values[f"{name}_password"], saved.get(f"{name}_password", SecretStr(""))
        if not isinstance(typed, SecretStr) or typed.get_secret_value() or not kept.get_secret_value():
            continue
        if place_of(name, values) != place_of(name, saved):
            raise SettingsError(
                f"The {name.upper()} password was saved for {place_text(name, saved)}, so it wasn’t sent to "
                f"{place_text(name, values)}.",
                f"Enter the {name.upper()} password again.",
            )
        values[f"{name}_password"] = kept
    ca_file = values["ca_file"]
    if isinstance(ca_file, Path) and not ca_file.is_file():
        raise SettingsError(f"There is no CA file {ca_file} on this machine.", "Correct its path or leave it empty.")
    try:
        return Connection.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(f"These settings can't be used: {wrong}.", "Correct them and save again.") from None


def place_of(name: str, values: dict[str, object]) -> tuple[object, ...]:
    """Where AMI's or ARI's password goes, and what vouches for it there."""
    tls, ca_file = values[f"{name}_tls"], values["ca_file"]
    vouched = Path(str(ca_file)).expanduser() if tls and ca_file else None
    return str(values["host"]).lower(), values[f"{name}_port"], tls, vouched


def place_text(name: str, values: dict[str, object]) -> str:
    host, port, tls, ca_file = place_of(name, values)
    return f"{host}:{port} {'with' if tls else 'without'} TLS" + (f" and the CA file {ca_file}" if ca_file else "")


def show_check(connection: Connection) -> None:
    """The check, step by step as it goes."""
    with st.container(border=True, key="check"):
        st.subheader("Connection check", anchor=False)
        under_way = st.empty()
        steps: list[CheckStep] = []
        under_way.caption(":material/pending: Checking")
        for step in check_connection(connection):
            steps.append(step)
            show_step(step)
        failed = sum(step.state == "failed" for step in steps)
        warned = sum(step.state == "warning" for step in steps)
        if failed:
            under_way.error(f"{failed} of {len(steps)} steps failed. What fixes each stands below it.")
        elif warned:
            under_way.warning(f"The connection works, with {warned} of {len(steps)} steps to look at.")
        else:
            under_way.success(f"All {len(steps)} steps passed.")


def show_step(step: CheckStep) -> None:
    took = f"  :gray[{step.took_ms:,.0f} ms]" if step.state != "skipped" else ""
    st.markdown(f"{ICONS[step.state]} **{ui.plain(step.name)}**{took}  \n{ui.plain(step.finding)}")
    for cause in step.fix:
        what, _, lines = cause.partition("\n")
        st.markdown(f"- {ui.plain(what)}")
        if lines:
            st.code(lines, language=None, wrap_lines=True)


@st.dialog("Forget the saved settings?")
def confirm_forget(settings: Settings) -> None:
    _, engine = ui.cache()
    env = settings.connection
    st.write(
        "The saved address, users and passwords are deleted. Calls, recordings and history stay. "
        + (f"The app then uses {ui.plain(env.host)} from the environment." if env else "The app then has no PBX.")
    )
    if st.button("Forget", type="primary", icon=":material/delete:"):
        forget_saved(engine)
        st.session_state["toast"] = ("Saved settings forgotten.", ":material/delete:")
        st.rerun()


def where_from(active: ActiveConnection | None) -> None:
    if active is None:
        ui.note("No PBX is set up yet. Enter it here, test the connection, save.")
    elif active.saved:
        ui.note("In use: the settings saved here. They win over the environment.")
    else:
        ui.note("In use: the environment’s settings (.env). What is saved here wins over them.")


app_settings, app_engine = ui.cache()
if app_settings.demo:
    ui.demo_settings_page(app_settings)
    st.stop()
ui.head("FreePBX Integration", "How the PBX is reached, and whether all is in place there")
try:
    in_use = active_connection(app_engine, app_settings)
except SettingsError as error:  # the saved passwords can't be opened: they can be entered anew here
    st.error(ui.plain(error.advice))
    in_use = None
where_from(in_use)
if in_use is None:
    ui.offer_beside_form(app_settings)
fields, pressed_save, pressed_test = form(in_use)
if pressed_save or pressed_test:
    try:
        connection = entered(fields | {"ami_plain_login": app_settings.freepbx_ami_plain_login}, in_use)
        if pressed_save:
            save_connection(app_engine, app_settings, connection)
            st.session_state["saves"] = st.session_state.get("saves", 0) + 1
            st.session_state["toast"] = ("Settings saved.", ":material/check_circle:")
            st.rerun()
        show_check(connection)
    except PbxError as error:
        st.error(ui.plain(error.advice))
if in_use and in_use.saved and st.button("Forget the saved settings", icon=":material/delete:", type="tertiary"):
    confirm_forget(app_settings)
