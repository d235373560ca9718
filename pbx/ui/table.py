"""The table that all pages use."""

import re
from collections.abc import Mapping, Sequence

import streamlit as st

from pbx.ui.page_elements import component

HEAD_PX, ROW_PX, SUB_PX = 34, 35, 17  # heights in a table: its head, a row, and a second line in a row
CARD_LINE_PX = 45  # the height of a line of values where rows are cards

# Text, or {text, sub?, tone?: good|warn|bad|busy|idle, badge?, pick?}. `sub`: a second, smaller line. `pick`: the id
# that a click on this cell returns, in place of its row's.
TableCell = str | Mapping[str, str]

_table = component("pbx_table", '<div class="table"></div>', "table.css", "elements.js", "table.js")


def table(
    label: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[TableCell]],
    *,
    key: str,
    selected: str | None = None,
    pick: bool = False,
) -> str | None:
    """Draw a table with one row per id; returns the id of the row that the reader just clicked, if `pick` allows it.

    Cells are text, never HTML. A column name may end in `>` to align numbers right, or in `|` for short values that
    never wrap.
    """

    _reserve(key, columns, rows)
    result = _table(
        key=key,
        data={
            "label": label,
            "columns": [
                {"title": name.rstrip(">|"), "align": {">": "right", "|": "tight"}.get(name[-1:], "")}
                for name in columns
            ],
            "rows": [{"id": row, "cells": list(cells)} for row, cells in rows.items()],
            "selected": selected,
            "pick": pick,
        },
        on_pick_change=lambda: None,
    )
    return result.pick if isinstance(result.pick, str) else None


def _reserve(key: str, columns: Sequence[str], rows: Mapping[str, Sequence[TableCell]]) -> None:
    """Reserve the height of a table until table.js has drawn it, so that what is below doesn't move."""
    has_sub = [any(isinstance(cell, Mapping) and cell.get("sub") for cell in cells) for cells in rows.values()]
    wide_px = HEAD_PX + sum(ROW_PX + SUB_PX * sub for sub in has_sub)
    cards_px = len(rows) * (CARD_LINE_PX * -(-len(columns) // 3) + 10)
    selector = f".st-key-{re.sub('[^a-zA-Z0-9_-]', '-', key)}"
    st.html(
        f"<style>{selector} {{ min-height: {wide_px}px }}"
        f"@media (max-width: 1080px) {{ {selector} {{ min-height: {cards_px}px }} }}</style>"
    )
