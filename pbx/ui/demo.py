"""The demo on pages: how it is entered, that it is one, and how it is left."""

import html
from collections.abc import Callable

import streamlit as st

from pbx.demo.company import COMPANY
from pbx.demo.lifecycle import DemoState, demo_alive, demo_state, ensure_demo, enter_demo, leave_demo
from pbx.settings import Settings, load_settings
from pbx.ui.elements import SETTINGS_PAGE, facts, head, note, plain, show_errors
from pbx.ui.links import go_to_page

TODAY_PAGE = "pages/today/overview.py"
LOOK_S = 1.0  # how often a page that waits for the demo looks whether it is there
_STAY = "demo_stay"  # which stay in the demo, or none, this session has seen

TRY = "Try with a demo PBX"
ABOUT = (
    f"A made-up company, {COMPANY}, that telephones day and night: three queues, twelve agents, two trunks, one of "
    "which is not quite reliable. A process here plays its PBX and speaks AMI and ARI on loopback, as a real "
    "one would; nothing leaves this machine."
)


def follow_mode(settings: Settings) -> None:
    """When the demo was entered or left since this session's last run, forget what the session held of the other."""
    if st.session_state.setdefault(_STAY, settings.demo) == settings.demo:
        return
    kept = {name: st.session_state[name] for name in ("toast",) if name in st.session_state}
    st.session_state.clear()
    st.session_state.update({_STAY: settings.demo, **kept})
    st.query_params.from_dict({})  # clear() refuses while widgets are bound to the address
    st.cache_data.clear()
    st.rerun()


def changed_mode(settings: Settings) -> bool:
    """Whether the demo was entered or left since these settings were read."""
    return load_settings().demo != settings.demo


def demo_banner(settings: Settings) -> None:
    """In the sidebar: that this is the demo; its process is started again where it has ended."""
    ensure_demo(settings)
    with st.container(key="demo_banner", gap=None):
        st.html("<b>Demo PBX</b><span>made-up calls</span>")
        st.page_link(SETTINGS_PAGE, label="Connect your own", icon=":material/arrow_forward:", icon_position="right")


@st.fragment(run_every=LOOK_S)
@show_errors
def no_pbx(settings: Settings) -> None:
    """In place of a page without a PBX: the way to one, and the way to the demo; it becomes the page by itself."""
    state = demo_state(settings)
    if changed_mode(settings):
        st.rerun()
    with st.container(border=True, key="empty_cable", gap="small"):
        if state.at == "off":
            _offer(settings, state)
        else:
            st.markdown("### :material/phone_in_talk: The demo PBX is being prepared")
            note("It writes the history of its made-up calls; this page appears by itself within seconds.")
            st.progress(state.done)


def _offer(settings: Settings, state: DemoState) -> None:
    st.markdown("### :material/cable: No PBX is connected yet")
    note(
        "Enter your FreePBX under Settings: its address, an AMI user for live status, an ARI user for recordings. "
        "The connection check there tells whether everything is in place, and what to do where it is not."
    )
    if state.fault:
        st.error(f"The demo could not be prepared. {plain(state.fault)}")
    with st.container(horizontal=True, horizontal_alignment="center"):
        if st.button("Connect a FreePBX", type="primary", key="go_cable"):
            go_to_page(SETTINGS_PAGE)
        try_button(settings, "try_demo")
    note("The demo is a made-up company with its calls, to look around. It is kept apart, and removed in one click.")


def try_button(settings: Settings, key: str) -> None:
    """The button that starts the demo."""
    if st.button(TRY, key=key, icon=":material/phone_in_talk:"):
        enter_demo(settings)
        st.rerun()


@st.fragment(run_every=1)
@show_errors
def offer_beside_form(settings: Settings) -> None:
    """On the settings page without a PBX: the demo, as one line."""
    if changed_mode(settings):
        st.rerun()
    if demo_alive(settings):
        st.progress(demo_state(settings).done, "The demo PBX is being prepared")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        note("Without a PBX at hand?")
        try_button(settings, "try_demo_settings")


def demo_settings_page(settings: Settings) -> None:
    """In place of the settings of a PBX: what the demo is, and the two ways out of it."""
    head("FreePBX Integration", "This is the demo")
    with st.container(border=True, key="demo_about"):
        st.subheader("Demo PBX · made-up calls", anchor=False)
        st.html(f"<p>{html.escape(ABOUT)}</p>")
        st.html(
            "<p>Its calls, names and numbers are invented. Twelve of its calls can be heard: computer voices, with the "
            "script of what they say as ready transcript.</p>"
        )
        facts({"Kept in": str(settings.pbx_data_dir.resolve()), "Real data": "untouched, and not shown meanwhile"})
        with st.container(horizontal=True):
            _way_out("Connect your own FreePBX", SETTINGS_PAGE, settings, icon=":material/cable:", primary=True)
            _way_out("Remove the demo", TODAY_PAGE, settings, icon=":material/delete:", primary=False)
        note("Both delete the demo with all it brought. It can be tried again at any time.")


def _way_out(label: str, page: str, settings: Settings, *, icon: str, primary: bool) -> None:
    if not st.button(label, type="primary" if primary else "secondary", icon=icon, key=f"leave {page}"):
        return
    with st.spinner("Removing the demo"):
        leave_demo(settings)
    st.session_state["toast"] = ("The demo is removed.", ":material/delete:")
    follow: Callable[[str], None] = st.switch_page
    follow(page)
