"""The demo on pages: widgets that start it, mark it on every page, and remove it."""

import html
from collections.abc import Callable

import streamlit as st

from pbx.demo.company import COMPANY
from pbx.demo.lifecycle import DemoState, demo_alive, demo_state, ensure_demo, enter_demo, leave_demo
from pbx.settings import Settings, load_settings
from pbx.ui.elements import SETTINGS_PAGE, facts, head, note, plain, show_errors
from pbx.ui.links import go_to_page

TODAY_PAGE = "pages/today/overview.py"
POLL_S = 1.0  # how often a page that waits for the demo checks whether it is ready
_DEMO_ID = "demo_id"  # in the session: the demo that it showed last, "" for real data

TRY = "Try with a demo PBX"
ABOUT = (
    f"A made-up company, {COMPANY}, that handles calls day and night with three queues, twelve agents and two trunks, "
    "one of them unreliable. A process on this machine simulates its PBX, with AMI and ARI on the loopback interface. "
    "Nothing leaves this machine."
)


def follow_mode(settings: Settings) -> None:
    """Clear the session's state if the demo was started or removed since the session's last run."""
    if st.session_state.setdefault(_DEMO_ID, settings.demo) == settings.demo:
        return
    retained = {name: st.session_state[name] for name in ("toast",) if name in st.session_state}
    st.session_state.clear()
    st.session_state.update({_DEMO_ID: settings.demo, **retained})
    st.query_params.from_dict({})  # clear() refuses while widgets are bound to the address
    st.cache_data.clear()
    st.rerun()


def changed_mode(settings: Settings) -> bool:
    """Whether the demo was started or removed since these settings were read."""
    return load_settings().demo != settings.demo


def demo_banner(settings: Settings) -> None:
    """In the sidebar: the mark of the demo. Restarts the demo's process if it has ended."""
    ensure_demo(settings)
    with st.container(key="demo_banner", gap=None):
        st.html("<b>Demo PBX</b><span>made-up calls</span>")
        st.page_link(SETTINGS_PAGE, label="Connect your own", icon=":material/arrow_forward:", icon_position="right")


@st.fragment(run_every=POLL_S)
@show_errors
def no_pbx(settings: Settings) -> None:
    """Shown instead of a page while no PBX is set up: offers to connect one, or to start the demo.

    Reruns into the page automatically once there is a PBX.
    """
    state = demo_state(settings)
    if changed_mode(settings):
        st.rerun()
    with st.container(border=True, key="empty_cable", gap="small"):
        if state.at == "off":
            _offer(settings, state)
        else:
            st.markdown("### :material/phone_in_talk: The demo PBX is being prepared")
            note("The demo is generating its call history. This page appears automatically in a few seconds.")
            st.progress(state.done)


def _offer(settings: Settings, state: DemoState) -> None:
    st.markdown("### :material/cable: No PBX is connected yet")
    note(
        "Enter your FreePBX under Settings: its address, an AMI user for live status and an ARI user for recordings. "
        "The connection check there shows what works and how to fix what doesn’t."
    )
    if state.fault:
        st.error(f"The demo could not be prepared. {plain(state.fault)}")
    with st.container(horizontal=True, horizontal_alignment="center"):
        if st.button("Connect a FreePBX", type="primary", key="go_cable"):
            go_to_page(SETTINGS_PAGE)
        try_button(settings, "try_demo")
    note(
        "The demo is a made-up company with calls to explore. Its data is separate, and you can remove it in one click."
    )


def try_button(settings: Settings, key: str) -> None:
    """A button that starts the demo."""
    if st.button(TRY, key=key, icon=":material/phone_in_talk:"):
        enter_demo(settings)
        st.rerun()


@st.fragment(run_every=1)
@show_errors
def offer_beside_form(settings: Settings) -> None:
    """One line on the settings page while no PBX is set up: offers the demo, or shows its progress."""
    if changed_mode(settings):
        st.rerun()
    if demo_alive(settings):
        st.progress(demo_state(settings).done, "The demo PBX is being prepared")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        note("No PBX at hand?")
        try_button(settings, "try_demo_settings")


def demo_settings_page(settings: Settings) -> None:
    """Shown instead of the PBX's settings: describes the demo and offers to remove it."""
    head("FreePBX Integration", "This is the demo")
    with st.container(border=True, key="demo_about"):
        st.subheader("Demo PBX · made-up calls", anchor=False)
        st.html(f"<p>{html.escape(ABOUT)}</p>")
        st.html(
            "<p>All calls, names and numbers are invented. Twelve calls have recordings with computer voices, and "
            "transcripts.</p>"
        )
        facts(
            {"Folder": str(settings.pbx_data_dir.resolve()), "Real data": "Unchanged, and hidden while the demo is on"}
        )
        with st.container(horizontal=True):
            _leave_button("Connect your own FreePBX", SETTINGS_PAGE, settings, icon=":material/cable:", primary=True)
            _leave_button("Remove the demo", TODAY_PAGE, settings, icon=":material/delete:", primary=False)
        note("Both delete the demo and its data. You can start it again at any time.")


def _leave_button(label: str, page: str, settings: Settings, *, icon: str, primary: bool) -> None:
    if not st.button(label, type="primary" if primary else "secondary", icon=icon, key=f"leave {page}"):
        return
    with st.spinner("Removing the demo"):
        leave_demo(settings)
    st.session_state["toast"] = ("Demo removed.", ":material/delete:")
    follow: Callable[[str], None] = st.switch_page
    follow(page)
