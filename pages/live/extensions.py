"""Extensions & calls: which devices can be reached, and who is talking right now."""

import streamlit as st

from pbx import ui
from pbx.formatting import duration_text
from pbx.model.snapshot import ActiveCall, Extension

GROUPS = {
    "Free": ("good", {"not in use"}),
    "On a call": ("busy", {"in use", "busy", "on hold", "ring+inuse", "onhold"}),
    "Ringing": ("warn", {"ringing"}),
    "Not reachable": ("bad", {"unavailable", "invalid"}),
    "Unknown": ("idle", set[str]()),
}
ALL = "All"


def group_of(extension: Extension) -> str:
    status = extension.status.strip().lower()
    return next((name for name, (_, texts) in GROUPS.items() if status in texts), "Unknown")


def word_of(extension: Extension) -> str:
    """Asterisk's own word for the state, where it says more than the group."""
    said = {"not in use", "in use", "unavailable", group_of(extension).lower()}
    return "" if extension.status.strip().lower() in said else extension.status


def keep_in_address() -> None:
    """By hand: the address would hold the counts that the buttons bear."""
    st.query_params["devices"] = st.session_state["devices"]


def show_extensions(extensions: tuple[Extension, ...]) -> None:
    groups = {id(extension): group_of(extension) for extension in extensions}
    counts = {name: sum(group == name for group in groups.values()) for name in GROUPS}
    asked = st.query_params.get("devices", ALL)
    choices = [ALL, *(name for name, count in counts.items() if count or name == asked)]
    chosen = st.segmented_control(
        "Device state",
        choices,
        default=asked if asked in choices else ALL,
        required=True,
        key="devices",
        format_func=lambda name: f"{name}  {len(extensions) if name == ALL else counts.get(name, 0):,}",
        label_visibility="collapsed",
        on_change=keep_in_address,
    )
    rows: dict[str, list[ui.TableCell]] = {
        f"{extension.tech}/{extension.extension}": [
            {"text": extension.extension, "sub": extension.tech},
            {"text": groups[id(extension)], "tone": GROUPS[groups[id(extension)]][0], "sub": word_of(extension)},
            extension.contact or "–",
            "–" if extension.roundtrip_ms is None else f"{extension.roundtrip_ms:.1f} ms",
            f"{extension.channels:,}",
        ]
        for extension in extensions
        if chosen in (ALL, groups[id(extension)])
    }
    ui.table("Extensions", ["Extension", "State|", "Contact", "Round trip>", "Channels>"], rows, key="extensions")


def show_calls(calls: tuple[ActiveCall, ...]) -> None:
    st.subheader("Active calls", anchor=False)
    if not calls:
        ui.note("Nobody is talking right now.")
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
    ui.table("Active calls", ["Caller", "With", "State|", "Doing", "Length>"], rows, key="active_calls")


@st.fragment(run_every=ui.live_s())
@ui.show_errors
def live(site: ui.Site) -> None:
    found = ui.snapshot(site)
    ui.freshness(site, found.taken_at)
    ui.not_ok(found, "active_calls", "extensions")
    show_calls(found.active_calls)
    st.subheader("Devices", anchor=False)
    if found.extensions:
        show_extensions(found.extensions)
    else:
        ui.empty(
            "This PBX has no extensions",
            "Extensions made in FreePBX under Applications appear here by themselves.",
            icon="call",
        )


ui.head("Extensions & calls", "Which devices can be reached, and who is talking")
live(ui.site())
