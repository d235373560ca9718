"""The entry of the app: the server with its access gate, the navigation, the frame, and the handling of errors."""

import os

import streamlit as st
from starlette.middleware import Middleware
from streamlit.navigation.page import StreamlitPage

from pbx import ui
from pbx.errors import PbxError

# The navigation: section → its pages' scripts below pages/, titles and icons. A page's address is its script's name.
PAGES = {
    "": [("today/overview", "Today", "today")],
    "Calls": [
        ("calls/interactions", "Interactions", "forum"),
        ("calls/transcripts", "Transcripts", "manage_search"),
        ("calls/explore", "Explore", "query_stats"),
    ],
    "Live": [
        ("live/queues", "Queues", "groups"),
        ("live/wallboard", "Wallboard", "tv"),
        ("live/trunks", "Trunks", "cell_tower"),
        ("live/agents", "Agents", "support_agent"),
        ("live/extensions", "Extensions & calls", "call"),
    ],
    "Settings": [
        ("settings/freepbx", "FreePBX integration", "settings_ethernet"),
        ("settings/transcription", "Transcription", "speech_to_text"),
        ("settings/data_import", "Data import", "upload_file"),
        ("settings/alerts", "Alerts", "notifications"),
    ],
}


def pages() -> dict[str, list[StreamlitPage]]:
    """All pages, by their section in the navigation; the first of them is the home page."""
    return {section: [_page(*page) for page in group] for section, group in PAGES.items()}


def _page(script: str, title: str, icon: str) -> StreamlitPage:
    address = script.rpartition("/")[2].replace("_", "-")
    home = script == PAGES[""][0][0]
    return st.Page(
        f"pages/{script}.py", title=title, icon=f":material/{icon}:", url_path="" if home else address, default=home
    )


def run_page() -> None:
    """Draw the page that the browser requested, in the app's frame."""
    # Before st.navigation, or the browser requests the page's icon from a Google server.
    st.set_page_config(page_icon=str(ui.LOGO_MARK), layout="wide")
    page = st.navigation(pages(), expanded=True)
    st.set_page_config(page_title=f"{page.title} – PBX Notebook")
    ui.style()
    ui.apply_streamlit_patches()
    ui.correct_address()
    try:
        ui.pending_toast()
        ui.network_warning()
        ui.draw_sidebar()
        page.run()
    except PbxError as error:
        ui.problem(error)


if __name__ == "__main__":  # Streamlit runs the script for each page; the server imports it once
    run_page()
else:
    os.umask(0o077)  # files are readable by this user only
    app = st.App(__file__, middleware=[Middleware(ui.Gate, rules=ui.gate_rules()), Middleware(ui.Shell)])
