"""FreePBX integration: the settings to connect to the PBX, and the connection check."""

from pathlib import Path
from zoneinfo import available_timezones

import streamlit as st
from pydantic import SecretStr, ValidationError

from pbx import ui
from pbx.asterisk.doctor import CheckStep, check_connection
from pbx.errors import PbxError, SettingsError
from pbx.formatting import count_text
from pbx.settings import Connection, Settings
from pbx.store.pbx_connections import ActiveConnection, active_connection, forget_saved, save_connection

ICONS = {
    "ok": ":green[:material/check_circle:]",
    "failed": ":red[:material/cancel:]",
    "warning": ":orange[:material/warning:]",
    "skipped": ":gray[:material/do_not_disturb_on:]",
}
DETECTED = "Detected from the PBX"


def password(label: str, key: str, saved: SecretStr | None) -> SecretStr:
    """A password field. It is always empty; if it stays empty, the saved password is kept."""
    has_saved = bool(saved and saved.get_secret_value())
    return SecretStr(
        st.text_input(
            label,
            type="password",
            key=f"{key}_{st.session_state.get('saves', 0)}",  # a new, empty field after each save
            placeholder="Saved; leave empty to keep it" if has_saved else "",
            autocomplete="new-password",
        )
        or ""
    )


def form(active: ActiveConnection | None) -> tuple[dict[str, object], bool, bool]:
    """The form. Returns its values, whether Save was pressed, and whether Test was pressed."""
    current = active.connection if active else None
    with st.form("freepbx", border=True):
        host, zone = st.columns([3, 2], gap="medium")
        values: dict[str, object] = {
            "host": host.text_input(
                "Host name or address", current.host if current else "", placeholder="pbx.example.com"
            ).strip(),
        }
        zones = [DETECTED, *sorted(available_timezones())]
        zone_name = current.timezone if current and current.timezone else DETECTED
        chosen = zone.selectbox(
            "Time zone of the PBX", zones, index=zones.index(zone_name) if zone_name in zones else 0
        )
        values["timezone"] = None if chosen == DETECTED else chosen
        ami, ari = st.columns(2, gap="medium")
        with ami:
            st.markdown(
                "**AMI** for live status", help="The manager interface: status of queues, trunks, extensions and calls."
            )
            values |= interface("ami", current, 5038)
        with ari:
            st.markdown("**ARI** for recordings", help="The REST interface: the stored recordings.")
            values |= interface("ari", current, 8088)
            values["ari_prefix"] = st.text_input(
                "ARI prefix",
                current.ari_prefix.strip("/") if current else "",
                placeholder="Usually none",
                help="The prefix in the PBX’s http.conf, if any. `asterisk -rx 'http show status'` shows it.",
            )
        ca_file = st.text_input(
            "CA certificate (path of a PEM file on this machine)",
            str(current.ca_file) if current and current.ca_file else "",
            placeholder="Only for TLS with a certificate from your own CA",
        ).strip()
        values["ca_file"] = Path(ca_file).expanduser() if ca_file else None
        with st.container(horizontal=True):
            save = st.form_submit_button("Save settings", type="primary", icon=":material/save:")
            test = st.form_submit_button("Check connection", icon=":material/network_check:")
    return values, save, test


def interface(name: str, current: Connection | None, port: int) -> dict[str, object]:
    """The four fields of AMI or ARI. `name`: ami or ari; `port`: its default."""
    title = name.upper()
    return {
        f"{name}_username": st.text_input(f"{title} user", getattr(current, f"{name}_username", "")).strip(),
        f"{name}_password": password(
            f"{title} password", f"{name}_password", getattr(current, f"{name}_password", None)
        ),
        f"{name}_port": int(st.number_input(f"{title} port", 1, 65535, getattr(current, f"{name}_port", port))),
        f"{name}_tls": st.toggle(f"{title} over TLS", getattr(current, f"{name}_tls", False)),
    }


def entered_connection(values: dict[str, object], active: ActiveConnection | None) -> Connection:
    """The connection as entered, with the saved password where the field is empty. Raises SettingsError.

    A saved password is used only with the host, port, TLS and CA certificate that it was saved for.
    """
    if not values["host"]:
        raise SettingsError("The host is missing.", "Enter the name or address of the PBX.")
    saved = active.connection.model_dump() if active else {}
    for name in ("ami", "ari"):
        typed, stored = values[f"{name}_password"], saved.get(f"{name}_password", SecretStr(""))
        if not isinstance(typed, SecretStr) or typed.get_secret_value() or not stored.get_secret_value():
            continue
        if destination(name, values) != destination(name, saved):
            raise SettingsError(
                f"The {name.upper()} password was saved for {destination_text(name, saved)}, so it wasn’t sent to "
                f"{destination_text(name, values)}.",
                f"Enter the {name.upper()} password again.",
            )
        values[f"{name}_password"] = stored
    ca_file = values["ca_file"]
    if isinstance(ca_file, Path) and not ca_file.is_file():
        raise SettingsError(
            f"The CA certificate {ca_file} doesn’t exist on this machine.", "Correct the path, or leave it empty."
        )
    try:
        return Connection.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(f"These settings can’t be used: {problems}.", "Correct them and save again.") from None


def destination(name: str, values: dict[str, object]) -> tuple[object, ...]:
    """What a saved password is bound to: host, port, TLS, and the CA certificate if TLS uses one."""
    tls, ca_file = values[f"{name}_tls"], values["ca_file"]
    trusted_ca = Path(str(ca_file)).expanduser() if tls and ca_file else None
    return str(values["host"]).lower(), values[f"{name}_port"], tls, trusted_ca


def destination_text(name: str, values: dict[str, object]) -> str:
    """The destination of a password, as text."""
    host, port, tls, ca_file = destination(name, values)
    return f"{host}:{port} {'with' if tls else 'without'} TLS" + (
        f" and the CA certificate {ca_file}" if ca_file else ""
    )


def show_check(connection: Connection) -> None:
    """Run the connection check, and show each step as soon as it has finished."""
    with st.container(border=True, key="check"):
        st.subheader("Connection check", anchor=False)
        summary = st.empty()
        steps: list[CheckStep] = []
        summary.caption(":material/pending: Checking…")
        for step in check_connection(connection):
            steps.append(step)
            show_step(step)
        failed = sum(step.state == "failed" for step in steps)
        warned = sum(step.state == "warning" for step in steps)
        if failed:
            summary.error(f"{failed} of {len(steps)} steps failed. The fixes are listed below each step.")
        elif warned:
            summary.warning(f"The connection works, with {count_text(warned, 'warning')} in {len(steps)} steps.")
        else:
            summary.success(f"All {len(steps)} steps passed.")


def show_step(step: CheckStep) -> None:
    """One step of the check, with its fixes."""
    took = f"  :gray[{step.took_ms:,.0f} ms]" if step.state != "skipped" else ""
    st.markdown(f"{ICONS[step.state]} **{ui.plain(step.name)}**{took}  \n{ui.plain(step.finding)}")
    for cause in step.fix:
        what, _, lines = cause.partition("\n")
        st.markdown(f"- {ui.plain(what)}")
        if lines:
            st.code(lines, language=None, wrap_lines=True)


@st.dialog("Delete the saved settings?")
def confirm_delete(settings: Settings) -> None:
    """Ask before deleting the saved settings."""
    _, engine = ui.cache()
    env = settings.connection
    st.write(
        "The saved address, users and passwords will be deleted. Calls, recordings and events are kept. "
        + (f"The app will use {ui.plain(env.host)} from the environment." if env else "The app will have no PBX.")
    )
    if st.button("Delete", type="primary", icon=":material/delete:"):
        forget_saved(engine)
        st.session_state["toast"] = ("Saved settings deleted.", ":material/delete:")
        st.rerun()


def show_origin(active: ActiveConnection | None) -> None:
    """Whether the settings in use come from this page or from the environment."""
    if active is None:
        ui.note("No PBX is set up yet. Enter its settings, check the connection and save.")
    elif active.saved:
        ui.note("In use: the settings saved here. They override the environment.")
    else:
        ui.note("In use: the settings from the environment or .env. Settings saved here override them.")


app_settings, app_engine = ui.cache()
if app_settings.data_label:
    ui.fixed_connection_page(app_settings)
    st.stop()
ui.head("FreePBX integration", "Connect to your PBX and check the connection")
try:
    in_use = active_connection(app_engine, app_settings)
except SettingsError as error:  # the saved passwords can't be decrypted; the user can enter them again
    st.error(ui.plain(error.advice))
    in_use = None
show_origin(in_use)
if in_use is None:
    ui.no_pbx_hint(app_settings)
fields, pressed_save, pressed_test = form(in_use)
if pressed_save or pressed_test:
    try:
        connection = entered_connection(fields | {"ami_plain_login": app_settings.freepbx_ami_plain_login}, in_use)
        if pressed_save:
            save_connection(app_engine, app_settings, connection)
            st.session_state["saves"] = st.session_state.get("saves", 0) + 1
            st.session_state["toast"] = ("Settings saved.", ":material/check_circle:")
            st.rerun()
        show_check(connection)
    except PbxError as error:
        st.error(ui.plain(error.advice))
if in_use and in_use.saved and st.button("Delete saved settings", icon=":material/delete:", type="tertiary"):
    confirm_delete(app_settings)
