"""The table that all pages use, and the cells of a call in it."""

import re
from collections.abc import Mapping, Sequence

import streamlit as st

from pbx.formatting import DIRECTIONS, NOTHING, RECORDING_STATES, TRANSCRIPTION_STATES, duration_text
from pbx.store.models import CallRow
from pbx.ui.active_pbx import Site
from pbx.ui.elements import component

CALL_COLUMNS = ("Started|", "From", "To", "Length>", "Recording|", "Transcript|", "Source|")
SHORT_CALL_COLUMNS = ("Call", "Transcript|")

HEAD_PX, ROW_PX, SUB_PX = 34, 35, 17  # heights in a table: its head, a row, and a second line in a row
CARD_LINE_PX = 45  # the height of a line of values where rows are cards

# Text, or {text, sub?, tone?: good|warn|bad|busy|idle, badge?, pick?}. `sub`: a second, smaller line. `pick`: the id
# that a click on this cell returns, in place of its row's.
TableCell = str | Mapping[str, str]

_table = component("pbx_table", '<div class="table"></div>', "table.css", "table.js")


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


def call_cells(site: Site, call: CallRow) -> list[TableCell]:
    """Return the cells of a call, one for each of CALL_COLUMNS."""
    state, tone = RECORDING_STATES.get(call.state, (call.state, "idle"))
    queue = f"Queue {call.queue}" if call.queue != call.to_number else "Queue"
    via = [queue if call.queue else "", f"Agent {site.agent_text(call.agent)}" if call.agent else ""]
    return [
        {"text": site.local(call.started_at), "sub": (DIRECTIONS.get(call.direction) or call.direction)},
        call.from_number or "Unknown",
        {"text": call.to_number or "Unknown", "sub": ", ".join(filter(None, via))},
        duration_text(call.duration_s),
        {"text": state, "tone": tone},
        transcript_cell(call),
        {"text": site.source_name(call.source), "badge": "yes"},
    ]


def short_call_cells(site: Site, call: CallRow) -> list[TableCell]:
    """Return the cells of a call, one for each of SHORT_CALL_COLUMNS."""
    numbers = f"{call.from_number or 'Unknown'} → {call.to_number or 'Unknown'}"
    length = "" if call.duration_s is None else f", {duration_text(call.duration_s)}"
    return [
        {"text": numbers, "sub": f"{site.local(call.started_at)}{length}"},
        transcript_cell(call),
    ]


def transcript_cell(call: CallRow) -> TableCell:
    """Return the state of a call's transcript; a dash if there is nothing to transcribe."""
    if call.state != "downloaded" and call.transcription == "new":
        return NOTHING
    state, tone = TRANSCRIPTION_STATES.get(call.transcription, (call.transcription, "idle"))
    return {"text": state, "tone": tone}
