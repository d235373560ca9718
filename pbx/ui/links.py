"""The ways from one page to another: each leaves one step in the browser's history, and the new page's own address."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pbx.ui.streamlit_patches import leave_page

CALL_PAGE = "pages/calls/interactions.py"


def go_to_page(page: str, filters: Mapping[str, str | list[str]] | None = None) -> None:
    """Open a page as a link to it does: with these filters, the others as they are by default.

    Not by st.switch_page: it refuses to leave a page whose widgets are bound to the address, and leaves a step in the
    history under which the page left has the filters of the page that comes.
    """
    leave_page()
    address = json.dumps((_path(page) or "./") + (f"?{urlencode(filters, doseq=True)}" if filters else ""))
    moment = datetime.now(UTC).timestamp()  # makes each one new, or the browser would not run it again
    with st.container(key="page_script"):
        st.html(f"<script>/* {moment} */goToPage({address})</script>", unsafe_allow_javascript=True)


def _path(page: str) -> str:
    """Where a page of the navigation is found below the app's own address."""
    context = get_script_run_ctx()
    pages = context.pages_manager.get_pages().values() if context else ()
    return next(one["url_pathname"] for one in pages if one["script_path"].replace("\\", "/").endswith(page))
