"""The demo on pages: widgets that start it, mark it on every page, and remove it."""

import html
import time
from collections.abc import Callable

import streamlit as st
from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.demo.company import COMPANY, SUPPORT
from pbx.demo.lifecycle import DemoState, demo_alive, demo_state, ensure_demo, remove_demo, start_demo
from pbx.settings import Settings, load_settings
from pbx.store.engine import reading
from pbx.store.models import RecordingRow, Transcript
from pbx.store.transcripts import SCRIPT_ENGINE
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.page_elements import SETTINGS_PAGE, facts, head, note, plain, show_errors

TODAY_PAGE = "pages/today/overview.py"
FEATURED_SCRIPT = "angry-caller"
_TRANSCRIPTS = "pages/calls/transcripts.py"
_QUEUES = "pages/live/queues.py"
POLL_S = 1.0  # how often a page that waits for the demo checks whether it is ready
_DEMO_ID = "demo_id"  # in the session: the demo that it showed last, "" for real data

TRY_LABEL = "Try with a demo PBX"
ABOUT_TEXT = (
    f"{COMPANY} is a made-up company that handles calls day and night with three queues, twelve agents and two trunks, "
    "one of them unreliable. A process on this machine simulates its PBX, including AMI and ARI. "
    "Nothing leaves this machine."
)


def follow_data_source(settings: Settings) -> None:
    """Clear the session's state if the demo was started or removed since the session's last run."""
    if st.session_state.setdefault(_DEMO_ID, settings.demo_id) == settings.demo_id:
        return
    retained = {name: st.session_state[name] for name in ("toast",) if name in st.session_state}
    st.session_state.clear()
    st.session_state.update({_DEMO_ID: settings.demo_id, **retained})
    st.query_params.from_dict({})  # clear() refuses while widgets are bound to the address
    st.cache_data.clear()
    st.rerun()


def data_source_changed(settings: Settings) -> bool:
    """Whether the demo was started or removed since these settings were read."""
    return load_settings().demo_id != settings.demo_id


def data_label_banner(settings: Settings) -> None:
    """In the sidebar: the mark of the demo. Restarts the demo's process if it has ended."""
    ensure_demo(settings)
    with st.container(key="data_label_banner", gap=None):
        st.html("<b>Demo PBX</b><span>Made-up calls</span>")
        st.page_link(
            SETTINGS_PAGE, label="Connect your FreePBX", icon=":material/arrow_forward:", icon_position="right"
        )


@st.fragment(run_every=POLL_S)
@show_errors
def no_pbx_page(settings: Settings) -> None:
    """Shown instead of a page while no PBX is set up: offers to connect one, or to start the demo.

    Reruns into the page automatically once there is a PBX.
    """
    state = demo_state(settings)
    if data_source_changed(settings):
        st.rerun()
    with st.container(border=True, key="empty_cable", gap="small"):
        if state.status == "off":
            _offer(settings, state)
        else:
            st.markdown("### :material/phone_in_talk: The demo PBX is being prepared")
            note("The demo is generating its call history. This page appears automatically in a few seconds.")
            st.progress(state.share)


def _offer(settings: Settings, state: DemoState) -> None:
    st.markdown("### :material/cable: No PBX is connected yet")
    note(
        "Enter your FreePBX under Settings ▸ FreePBX integration. You need its address, an AMI login (for live "
        "status) and an ARI login (for recordings); your phone system administrator has these. The connection check "
        "there shows what works and how to fix what doesn’t."
    )
    if state.error:
        st.error(f"The demo could not be prepared. {plain(state.error)}")
    with st.container(horizontal=True, horizontal_alignment="center"):
        if st.button("Connect your FreePBX", type="primary", key="go_cable"):
            go_to_page(SETTINGS_PAGE)
        try_button(settings, "try_demo")
    note(
        "The demo is a made-up company with calls to explore. Its data is separate, and you can remove it with one "
        "click."
    )


def try_button(settings: Settings, key: str) -> None:
    """A button that starts the demo."""
    if st.button(TRY_LABEL, key=key, icon=":material/phone_in_talk:"):
        start_demo(settings)
        st.rerun()


@st.fragment(run_every=1)
@show_errors
def no_pbx_hint(settings: Settings) -> None:
    """One line on the settings page while no PBX is set up: offers the demo, or shows its progress."""
    if data_source_changed(settings):
        st.rerun()
    if demo_alive(settings):
        st.progress(demo_state(settings).share, "The demo PBX is being prepared")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        note("No PBX at hand?")
        try_button(settings, "try_demo_settings")


def fixed_connection_page(settings: Settings) -> None:
    """Shown instead of the PBX's settings: describes the demo and offers to remove it."""
    head("FreePBX integration", "The app shows the demo PBX")
    with st.container(border=True, key="demo_about"):
        st.subheader("Demo PBX · made-up calls", anchor=False)
        st.html(f"<p>{html.escape(ABOUT_TEXT)}</p>")
        st.html(
            "<p>All calls, names and numbers are invented. Twelve calls have transcripts and recordings in "
            "synthetic voices.</p>"
        )
        facts(
            {
                "Demo data": str(settings.pbx_data_dir.resolve()),
                "Real data": "Unchanged, and hidden while the demo is on",
            }
        )
        with st.container(horizontal=True):
            label = "Remove the demo and connect your FreePBX"
            _leave_button(label, SETTINGS_PAGE, settings, icon=":material/cable:", primary=True)
            _leave_button("Remove the demo", TODAY_PAGE, settings, icon=":material/delete:", primary=False)
        note("You can start the demo again at any time.")


def no_import_note() -> None:
    """Shown on the page Data import instead of its forms, as the demo's data is never mixed with real data."""
    note("This is the demo PBX, with its own made-up call history. To import real data, connect your FreePBX first.")


def _leave_button(label: str, page: str, settings: Settings, *, icon: str, primary: bool) -> None:
    if not st.button(label, type="primary" if primary else "secondary", icon=icon, key=f"leave {page}"):
        return
    with st.spinner("Removing the demo"):
        remove_demo(settings)
    st.session_state["toast"] = ("Demo removed.", ":material/delete:")
    follow: Callable[[str], None] = st.switch_page
    follow(page)


def tour(settings: Settings, engine: Engine) -> None:
    """Draw the buttons of the tour; outside the demo, nothing."""
    if not settings.data_label:
        return
    featured = _featured_recording(engine)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="tour"):
        st.markdown("**Start here**", width="content")
        if featured and st.button(
            "Play a call and read along", icon=":material/hearing:", type="tertiary", key="tour_call"
        ):
            call_id, recording_id = featured
            st.session_state["picked_moment"] = (recording_id, 0.0, str(time.monotonic_ns()))
            go_to_page(CALL_PAGE, {"call": str(call_id)})
        if st.button("Search transcripts for “invoice”", icon=":material/search:", type="tertiary", key="tour_search"):
            go_to_page(_TRANSCRIPTS, {"q": "invoice"})
        if st.button("See yesterday in queue 601", icon=":material/groups:", type="tertiary", key="tour_queue"):
            go_to_page(_QUEUES, {"period": "Yesterday", "queue": SUPPORT})


def _featured_recording(engine: Engine) -> tuple[int, int] | None:
    """Return the ids of a call and its recording: of the featured script, otherwise the newest with a transcript."""
    columns = select(RecordingRow.call_id, RecordingRow.id, Transcript.model)
    ready = columns.join(Transcript, col(Transcript.recording_id) == RecordingRow.id)
    ready = ready.where(Transcript.engine == SCRIPT_ENGINE, col(Transcript.current).is_(True))
    with reading(engine) as session:
        found = session.exec(ready.order_by(col(RecordingRow.started_at).desc())).all()
    featured = next((row for row in found if row[2] == FEATURED_SCRIPT), found[0] if found else None)
    return (featured[0], featured[1] or 0) if featured else None
