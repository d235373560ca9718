"""Drill-downs: a click on a chart or a table selects calls, the URL holds the selection, a list shows the calls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlencode

import streamlit as st
from sqlmodel import Session

from pbx.export.tables import CellValue
from pbx.formatting import count_text
from pbx.store.engine import reading
from pbx.ui.active_pbx import DATA_IMPORT_PAGE, Site
from pbx.ui.exports import MAX_EXPORTED_ROWS, table_export
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.page_elements import chart, empty, note, show_errors
from pbx.ui.pager import pager
from pbx.ui.period_bar import Period
from pbx.ui.table import TableCell, table

URL_PARAM = "selection"  # the URL's parameter that holds the selection, itself a query string
PAGE_ROWS = 12
EXPORT_STEP = 1000
_CLICKED = "drilldown_clicked"  # set by a click, so that the page scrolls to the list
_RESETS = "chart_resets"  # how often the selection of each chart was cleared
_SELECTED_CHART = "selected_chart"

_Query = TypeVar("_Query")
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class Drilldown(Generic[_Query, _Row]):
    """How one kind of call (a call, a trunk's channel, a visit to a queue) is selected, listed and exported.

    `narrow` limits a query to the URL's parameters and describes each in words; it ignores what it can't read.
    `load` returns how many rows match, and one page of them.
    """

    title: str  # of the table
    key: str  # of the table and its export
    columns: Sequence[str]
    narrow: Callable[[Mapping[str, str], _Query, Period], tuple[_Query, list[str]]]
    load: Callable[[Session, Site, _Query, int, int], tuple[int, Sequence[_Row]]]
    cells: Callable[[Site, Sequence[_Row]], Sequence[list[TableCell]]]
    call_id: Callable[[_Row], int | None]
    export_values: Callable[[_Row], Sequence[CellValue]]
    export_columns: Sequence[str]  # none: the list has no export
    export_title: str = ""  # of the exported file, if it isn't the table's
    filters: Callable[[Site, _Query], dict[str, str | list[str]] | None] | None = None  # that find the same calls

    def select(self, query: _Query, period: Period) -> tuple[_Query, str]:
        """The page's query limited to the URL's selection, and the selection in words ("" for all)."""
        query, words = self.narrow(drilldown_from_url(), query, period)
        return query, ", ".join(words)

    def show(self, site: Site, query: _Query, text: str) -> None:
        """List the selected calls, a page at a time; a click on a row opens the call."""
        heading, rows = st.container(), st.container()
        with reading(site.engine) as session:
            total, _ = self.load(session, site, query, 0, 0)
            _, found = self.load(session, site, query, pager(total, PAGE_ROWS, of=f"{self.key} {query}"), PAGE_ROWS)
        calls = count_text(total, "call")
        with heading, list_heading(calls if text else f"All {calls}", text):
            link = self.filters(site, query) if self.filters else None
            if link and st.button("Open in Interactions", icon=":material/forum:", key="lead"):
                go_to_page(CALL_PAGE, link)
            if self.export_columns:
                stem = self.export_title or self.title
                rows_of = partial(self._exported, site, query)
                table_export(site, stem, self.export_columns, rows_of, key=self.key, label="Export calls", total=total)
        if not total:
            note("No calls match this selection. Click a chart above, or widen the period.")
            return
        ids = [f"{number} {self.call_id(row) or ''}" for number, row in enumerate(found)]  # a call can have two rows
        with rows:
            cells = dict(zip(ids, self.cells(site, found), strict=True))
            picked = table(self.title, self.columns, cells, key=self.key, pick=True)
        if picked is not None:
            open_call(picked.partition(" ")[2])

    def _exported(self, site: Site, query: _Query) -> Iterator[Sequence[CellValue]]:
        with reading(site.engine) as session:
            for offset in range(0, MAX_EXPORTED_ROWS, EXPORT_STEP):
                _, found = self.load(session, site, query, offset, EXPORT_STEP)
                yield from map(self.export_values, found)
                if len(found) < EXPORT_STEP:
                    return


@st.fragment
@show_errors
def show_drilldown(site: Site, drilldown: Drilldown[_Query, _Row], query: _Query, period: Period) -> None:
    """List the calls that the URL selects from those of `query`."""
    drilldown.show(site, *drilldown.select(query, period))


def select_calls(selection: str | None) -> None:
    """Write to the URL which calls to list: a query string as the points of charts carry it, None for all."""
    if selection:
        st.query_params[URL_PARAM] = selection
    else:
        st.query_params.pop(URL_PARAM, None)


def drilldown_chart(figure: Any, *, alt: str, key: str, picture: str, also: Mapping[str, str] | None = None) -> None:
    """A chart whose points' customdata begins with a selection: a click on a point lists its calls.

    `picture`: the file name when saved. `also`: parameters added to the selection of every point.
    Only one chart at a time has a selected point: a click redraws the previous chart, under another key, without one.
    """
    resets = st.session_state.setdefault(_RESETS, {})

    def pick(customdata: Any) -> None:
        previous = st.session_state.get(_SELECTED_CHART)
        if previous and previous != key:
            resets[previous] = resets.get(previous, 0) + 1
        st.session_state[_SELECTED_CHART] = key if customdata else None
        selection = customdata[0] if customdata else ""
        select_calls(f"{selection}&{urlencode(also)}" if selection and also else selection)
        st.session_state[_CLICKED] = bool(selection)

    chart(figure, alt=alt, key=f"{key}_{resets.get(key, 0)}", picture=picture, on_pick=pick)


def clear_selection() -> None:
    """List all calls again, and clear the selected point of the chart."""
    resets = st.session_state.setdefault(_RESETS, {})
    if previous := st.session_state.pop(_SELECTED_CHART, None):
        resets[previous] = resets.get(previous, 0) + 1
    select_calls(None)


def follow(within: Mapping[str, str] | None = None, **selection: str) -> None:
    """List the calls of a table's row, such as those of a queue, an agent or a DID; `within`: parameters to keep."""
    clear_selection()
    select_calls(urlencode({**(within or {}), **selection}))
    st.session_state[_CLICKED] = True
    st.rerun()


def was_clicked() -> bool:
    """Whether a click has just selected calls; true once per click."""
    return bool(st.session_state.pop(_CLICKED, False))


@contextmanager
def drilldown_list(key: str) -> Iterator[None]:
    """A container for the list; the page scrolls to it after a click on a chart."""
    clicked = was_clicked()
    with st.container(key=key):
        yield
    if clicked:
        scroll_to(key)


@contextmanager
def list_heading(text: str, selection: str) -> Iterator[None]:
    """The line above a list: what it lists, the selection in words with a button that clears it, room for buttons."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        note(f"{text}: {selection}" if selection else text)
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="list_tools"):
            if selection and st.button("Show all", icon=":material/close:", key="show_all"):
                clear_selection()
                st.rerun()  # of the complete page: a chart above loses its selected point
            yield


def open_call(call_id: str | int | None) -> None:
    """Open a call in Interactions; without one, explain that only the queue recorded it."""
    if call_id:
        go_to_page(CALL_PAGE, {"call": str(call_id)})
    else:
        st.toast("This call is only in the queue log. It has no recording and no CDR.", icon=":material/info:")


def scroll_to(key: str) -> None:
    """Scroll a container, by its key, into view."""
    # The timestamp makes each script new, or the browser would not run it again.
    now_s = datetime.now(UTC).timestamp()
    st.html(
        f"<script>/* {now_s} */document.querySelector('.st-key-{key}')"
        "?.scrollIntoView({behavior: 'smooth'})</script>",
        unsafe_allow_javascript=True,
    )


def drilldown_from_url() -> dict[str, str]:
    """The parameters of the URL's selection, as text; `span_param` and the like read them."""
    return dict(parse_qsl(st.query_params.get(URL_PARAM, ""), keep_blank_values=True))


def span_param(params: Mapping[str, str], since: datetime, until: datetime) -> tuple[datetime, datetime] | None:
    """The selected time range (`from` and `until`, epoch seconds) within the period; None if there is none."""
    first, last = _time_param(params, "from"), _time_param(params, "until")
    if first is None or last is None or max(first, since) >= min(last, until):
        return None
    return max(first, since), min(last, until)


def int_param(params: Mapping[str, str], name: str, below: int) -> int | None:
    """An integer from 0 up to but not including `below`; None for anything else."""
    text = params.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 12 and int(text) < below else None


def number_param(params: Mapping[str, str], name: str) -> float | None:
    """A number of 0 or more; None for anything else."""
    text = params.get(name, "")
    return float(text) if text.replace(".", "", 1).isdecimal() and len(text) < 12 else None


def span_text(span: tuple[datetime, datetime], period: Period) -> str:
    """A selected time range in words: Mon 2 Mar, or Mon 2 Mar 09:00–10:00."""
    first, last = (moment.astimezone(period.zone) for moment in span)
    day = f"{first:%a} {first.day} {first:%b}"
    return f"{day} {first:%H:%M}–{last:%H:%M}" if (span[1] - span[0]).total_seconds() < 23 * 3600 else day


def no_history(title: str, icon: str, *, what: str, source: str) -> None:
    """An empty state for a period without data, with the ways to import it. `source`: its name on the command line."""
    empty(
        title,
        f"Choose another period, or import {what}: python -m pbx import {source} imports what the PBX has logged so "
        "far, and python -m pbx watch records what happens from now on.",
        icon=icon,
        link=(DATA_IMPORT_PAGE, "Import data"),
    )


def _time_param(params: Mapping[str, str], name: str) -> datetime | None:
    seconds = int_param(params, name, 2**33)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
