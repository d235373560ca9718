"""The way through a list that is longer than a page."""

import streamlit as st

from pbx.ui.elements import note


def pager(total: int, size: int, *, of: str, also: str = "") -> int:
    """Say which rows of a list are shown, 1–12 of 14, with the way to the others; returns how many come before them.

    Call it below the place for the rows. `of` names what is listed: another list begins at its first page. `also` is
    said besides. Nothing is drawn where the list fits and there is nothing to say.
    """
    pages = -(-total // size)
    if pages < 2 and not also:
        return 0
    with st.container(horizontal=True, vertical_alignment="center", key="foot"):
        page = min(st.pagination(pages, key=f"page of {of}"), pages) if pages > 1 else 1
        before = (page - 1) * size
        shown = f"{before + 1:,}–{min(before + size, total):,} of {total:,}"
        note(f"{shown}{also}")
    return before
