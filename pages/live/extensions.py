"""Extensions & calls: which devices are reachable, and the calls in progress."""

import streamlit as st

from pbx import ui
from pbx.formatting import duration_text
from pbx.model.snapshot import ActiveCall, Extension

GROUPS = {
    "Free": ("good", {"not in use"}),
    "On a call": ("busy", {"in use", "busy", "on hold", "ring+inuse", "onhold"}),
    "Ringing": ("warn", {"ringing"}),
    "Unreachable": ("bad", {"unavailable", "invalid"}),
    "Unknown": ("idle", set[str]()),
}
ALL = "All"


def group_of(extension: Extension) -> str:
    status = extension.status.strip().lower()
    return next((name for name, (_, texts) in GROUPS.items() if status in texts), "Unknown")


def asterisk_state(extension: Extension) -> str:
    """Asterisk's name for the state, if it says more than the group's name."""
    same = {"not in use", "in use", "unavailable", group_of(extension).lower()}
    return "" if extension.status.strip().lower() in same else extension.status


def save_in_url() -> None:
    """Write the chosen group to the URL; Streamlit would write the button's label, which contains a count."""
    st.query_params["devices"] = st.session_state["devices"]


def show_extensions(extensions: tuple[Extension, ...]) -> None:
    groups = {id(extension): group_of(extension) for extension in extensions}
    counts = {name: sum(group == name for group in groups.values()) for name in GROUPS}
    chosen_in_url = st.query_params.get("devices", ALL)
    choices = [ALL, *(name for name, count in counts.items() if count or name == chosen_in_url)]
    chosen = ui.select_one(
        "Device state",
        choices,
        chosen_in_url if chosen_in_url in choices else ALL,
        "devices",
        format_func=lambda name: f"{name}  {len(extensions) if name == ALL else counts.get(name, 0):,}",
        on_change=save_in_url,
    )
    rows: dict[str, list[ui.TableCell]] = {
        f"{extension.tech}/{extension.extension}": [
            {"text": extension.extension, "sub": extension.tech},
            {"text": groups[id(extension)], "tone": GROUPS[groups[id(extension)]][0], "sub": asterisk_state(extension)},
            extension.contact or "–",
            "–" if extension.roundtrip_ms is None else f"{extension.roundtrip_ms:.1f} ms",
            f"{extension.channels:,}",
        ]
        for extension in extensions
        if chosen in (ALL, groups[id(extension)])
    }
    ui.table("Extensions", ["Extension", "Status|", "Contact", "Round trip>", "Channels>"], rows, key="extensions")


def show_calls(calls: tuple[ActiveCall, ...]) -> None:
    st.subheader("Active calls", anchor=False)
    if not calls:
        ui.note("No active calls.")
        return
    rows: dict[str, list[ui.TableCell]] = {
        call.linkedid: [
            {
                "text": call.caller_name or call.caller_id or "Unknown",
                "sub": call.caller_id if call.caller_name else "",
            },
            {
                "text": call.connected_to or call.exten or "–",
                "sub": f"dialled {call.exten}" if call.connected_to else "",
            },
            call.state or "–",
            {"text": call.application or "–", "sub": call.channel},
            duration_text(call.duration_s),
        ]
        for call in calls
    }
    columns = ["Caller", "Connected to", "Status|", "Application", "Duration>"]
    ui.table("Active calls", columns, rows, key="active_calls")


@st.fragment(run_every=ui.live_interval_s())
@ui.show_errors
def live(site: ui.Site) -> None:
    found = ui.live_snapshot(site, "active_calls", "extensions")
    show_calls(found.active_calls)
    st.subheader("Devices", anchor=False)
    if found.extensions:
        show_extensions(found.extensions)
    else:
        ui.empty(
            "This PBX has no extensions",
            "Extensions that you add in FreePBX under Applications appear here automatically.",
            icon="call",
        )


ui.head("Extensions & calls", "Device status and calls in progress")
live(ui.site())
