"""The entry of the app: the server with its gate, its frame, its pages, and one place where errors become words."""

import os

import streamlit as st
from starlette.middleware import Middleware
from streamlit.navigation.page import StreamlitPage

from pbx import ui
from pbx.errors import PbxError


def pages() -> dict[str, list[StreamlitPage]]:
    """All pages, by their section in the navigation."""
    return {
        "": [st.Page("pages/today/overview.py", title="Today", icon=":material/today:", default=True)],
        "Calls": [
            st.Page(
                "pages/calls/interactions.py", title="Interactions", icon=":material/forum:", url_path="interactions"
            ),
            st.Page(
                "pages/calls/transcripts.py",
                title="Transcripts",
                icon=":material/manage_search:",
                url_path="transcripts",
            ),
            st.Page("pages/calls/explore.py", title="Explore", icon=":material/query_stats:", url_path="explore"),
        ],
        "Live": [
            st.Page("pages/live/queues.py", title="Queues", icon=":material/groups:", url_path="queues"),
            st.Page("pages/live/wallboard.py", title="Wallboard", icon=":material/tv:", url_path="wallboard"),
            st.Page("pages/live/trunks.py", title="Trunks", icon=":material/cell_tower:", url_path="trunks"),
            st.Page("pages/live/agents.py", title="Agents", icon=":material/support_agent:", url_path="agents"),
            st.Page(
                "pages/live/extensions.py", title="Extensions & calls", icon=":material/call:", url_path="extensions"
            ),
        ],
        "Settings": [
            st.Page(
                "pages/settings/freepbx.py",
                title="FreePBX Integration",
                icon=":material/settings_ethernet:",
                url_path="freepbx",
            ),
            st.Page(
                "pages/settings/transcription.py",
                title="Transcription",
                icon=":material/speech_to_text:",
                url_path="transcription",
            ),
            st.Page(
                "pages/settings/data_import.py",
                title="Data import",
                icon=":material/upload_file:",
                url_path="data-import",
            ),
            st.Page("pages/settings/alerts.py", title="Alerts", icon=":material/notifications:", url_path="alerts"),
        ],
    }


def run_page() -> None:
    """The page that a browser asked for, in the app's frame."""
    # Before the navigation, or the browser asks a server of Google's for the page's icon.
    st.set_page_config(page_icon=str(ui.MARK), layout="wide")
    page = st.navigation(pages(), expanded=True)
    st.set_page_config(page_title=f"{page.title} – PBX Notebook")
    ui.style()
    ui.drop_reruns_of_left_pages()
    ui.correct_address()
    try:
        ui.pending_toast()
        ui.network_warning()
        ui.draw_sidebar()
        page.run()
    except PbxError as error:
        ui.problem(error)


if __name__ == "__main__":  # so Streamlit runs it for each page, and the server imports it once
    run_page()
else:
    os.umask(0o077)  # what it writes is for this user alone
    app = st.App(__file__, middleware=[Middleware(ui.Gate, rules=ui.gate_rules()), Middleware(ui.Shell)])
