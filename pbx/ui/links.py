"""Going from one page to another, with one step in the browser's history and the new page's URL."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pbx.ui.streamlit_patches import leave_page

CALL_PAGE = "pages/calls/interactions.py"


def go_to_page(page: str, filters: Mapping[str, str | list[str]] | None = None) -> None:
    """Open a page as a link to it does: with these filters, and all others at their defaults.

    This doesn't use st.switch_page, which can't leave a page whose widgets are bound to the URL, and which adds a
    history entry that shows the old page with the filters of the new one.
    """
    leave_page()
    url = json.dumps((_path(page) or "./") + (f"?{urlencode(filters, doseq=True)}" if filters else ""))
    moment = datetime.now(UTC).timestamp()  # makes each script different; the browser doesn't run the same one twice
    with st.container(key="page_script"):
        st.html(f"<script>/* {moment} */goToPage({url})</script>", unsafe_allow_javascript=True)


def _path(page: str) -> str:
    """Return the URL path of a page, relative to the app's URL."""
    context = get_script_run_ctx()
    pages = context.pages_manager.get_pages().values() if context else ()
    return next(one["url_pathname"] for one in pages if one["script_path"].replace("\\", "/").endswith(page))
