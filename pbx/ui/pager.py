"""Page numbers below a list that is longer than one page."""

import streamlit as st

from pbx.ui.page_elements import note


def pager(total: int, size: int, *, of: str) -> int:
    """Draw page numbers and the range of rows shown (13–24 of 40); returns how many rows come before this page.

    Call it below the place for the rows. `of` identifies the list: if it changes, the pager returns to the first page.
    Draws nothing if the list fits on one page.
    """
    pages = -(-total // size)
    if pages < 2:
        return 0
    with st.container(horizontal=True, vertical_alignment="center", key=f"pager of {of}"):
        page = min(st.pagination(pages, key=f"page of {of}"), pages)
        offset = (page - 1) * size
        note(f"{offset + 1:,}–{min(offset + size, total):,} of {total:,}")
    return offset
