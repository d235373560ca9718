"""What is behind a figure: the calls or seizures a chart was clicked for, in a window above the page."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import streamlit as st

from pbx.store.engine import reading
from pbx.store.figures_behind import CallSelection, Seizure, SeizureSelection, calls_behind, seizures_behind
from pbx.store.figures_calls import CallQuestion
from pbx.ui.filters import ALL, lead_to
from pbx.ui.sites import SETTINGS_PAGE, Site
from pbx.ui.tables import Cell, call_cells, table
from pbx.ui.words import empty, note, plain
from pbx.wording import DISPOSITIONS, NOTHING, cause_text, count_text, duration_text

CALL_PAGE = "pages/calls/interactions.py"
PAGE_ROWS = 12
_PICKED = "picked_figure"
_CALL_COLUMNS = ("Started|", "From", "To", "Length>", "Recording|", "Transcript|")
_SEIZURE_COLUMNS = ("Started|", "From", "To", "Trunk|", "Ended|", "Length>", "Ringing after>")


def pick(what: str, *parts: Any) -> None:
    """Remember what was clicked on, to be opened once by `picked`. For callbacks."""
    st.session_state[_PICKED] = (what, *parts)
    st.session_state["picks"] = picks() + 1


def picker(what: str, parts: int) -> Callable[[Any], None]:
    """`on_pick` of a chart: remembers the first `parts` of a point's customdata."""

    def remember(data: Any) -> None:
        if data:
            pick(what, *data[:parts])

    return remember


def picked() -> tuple[Any, ...] | None:
    """What was just clicked on: told once."""
    found: tuple[Any, ...] | None = st.session_state.pop(_PICKED, None)
    return found


def picks() -> int:
    """How often something was clicked on: in a chart's key it makes Plotly forget the bar chosen before."""
    return int(st.session_state.get("picks", 0))


def show_calls(
    at: Site, title: str, wanted: CallQuestion, chosen: CallSelection, link: Mapping[str, Any] | None = None
) -> None:
    """Open the list of calls; `link`: the filters of Interactions that find the same, if there are."""

    @st.dialog(plain(title), width="large", icon=":material/call:")
    def window() -> None:
        page = _pages(f"calls {title}")
        with reading(at.engine) as session:
            total, calls = calls_behind(
                session, wanted, chosen, at.zone, offset=(page - 1) * PAGE_ROWS, limit=PAGE_ROWS
            )
        rows = {str(call.id): call_cells(at, call)[: len(_CALL_COLUMNS)] for call in calls}
        opened = table(title, _CALL_COLUMNS, rows, key="calls_behind", pick=True)
        _foot(at, total, "call", f"calls {title}")
        if link and st.button("Open in Interactions", icon=":material/forum:", key="lead"):
            lead_to(
                CALL_PAGE,
                {"direction": ALL, "number": "", "queue": ALL, "state": ALL, "transcription": ALL} | dict(link),
            )
        if opened:
            st.switch_page(CALL_PAGE, query_params={"call": opened})

    window()


def show_seizures(
    at: Site, title: str, trunk: str | None, since: datetime, until: datetime, chosen: SeizureSelection
) -> None:
    """Open the list of a trunk's seizures (None: of all) that began in a time; a row leads to its call."""

    @st.dialog(plain(title), width="large", icon=":material/cell_tower:")
    def window() -> None:
        page = _pages(f"seizures {title}")
        with reading(at.engine) as session:
            total, found = seizures_behind(
                session,
                at.active.id,
                trunk,
                since,
                until,
                chosen,
                offset=(page - 1) * PAGE_ROWS,
                limit=PAGE_ROWS,
            )
        rows = {f"{number} {item.call_id}": _seizure_cells(at, item) for number, item in enumerate(found)}
        opened = table(title, _SEIZURE_COLUMNS, rows, key="seizures_behind", pick=True)
        _foot(at, total, "call", f"seizures {title}")
        if opened:
            st.switch_page(CALL_PAGE, query_params={"call": opened.partition(" ")[2]})

    window()


def no_history(title: str, icon: str, *, what: str, source: str) -> None:
    """Nothing is known of a period: how history arrives. `source`: the import's name on the command line."""
    empty(
        title,
        f"Choose another period, or bring {what} here: python -m pbx import {source} reads what the PBX wrote down so "
        "far, and python -m pbx watch keeps what happens from now on.",
        icon=icon,
        link=(SETTINGS_PAGE, "See the connection"),
    )


def _pages(name: str) -> int:
    return int(st.session_state.get(f"page of {name}", 1) or 1)


def _foot(at: Site, total: int, noun: str, name: str) -> None:
    pages = -(-total // PAGE_ROWS)
    with st.container(horizontal=True, vertical_alignment="center", key="foot_behind"):
        note(f"{count_text(total, noun)}, times in {at.zone_name}; pick one to open it")
        if pages > 1:
            st.pagination(pages, key=f"page of {name}")


def _seizure_cells(at: Site, item: Seizure) -> list[Cell]:
    ended = DISPOSITIONS.get(item.disposition, item.disposition) if item.disposition else "Still going on"
    return [
        {"text": at.local(item.started_at, seconds=True), "sub": "Outbound" if item.outbound else "Inbound"},
        item.from_number or "Unknown",
        item.to_number or "Unknown",
        item.trunk,
        {"text": ended, "sub": cause_text(item.cause)},
        duration_text(item.duration_s),
        NOTHING if item.pdd_s is None else f"{item.pdd_s:.1f} s",
    ]
