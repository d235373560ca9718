"""The seizures behind a figure of trunks: which the address asks for, and their list below the charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import streamlit as st

from pbx.analytics.call_lists import Seizure, SeizureSelection, selected_seizures
from pbx.export.tables import CellValue
from pbx.formatting import DISPOSITIONS, NOTHING, cause_text, count_text, duration_text
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.drilldown import (
    EXPORT_STEP,
    MOST_EXPORTED,
    PAGE_ROWS,
    drilldown_from_url,
    int_param,
    offer_all,
    span_param,
    span_text,
)
from pbx.ui.elements import note, show_errors
from pbx.ui.exports import table_export
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.pager import pager
from pbx.ui.period_bar import Period
from pbx.ui.tables import TableCell, table

COLUMNS = ("Started|", "From", "To", "Trunk|", "Ended|", "Length>", "Ringing after>")
EXPORTED = (
    *("Started", "Outbound", "From", "To", "Trunk", "Outcome", "Cause (Q.850)"),
    *("Length (s)", "Billed (s)", "PDD (s)"),
)
NO_CAUSE = -1


@dataclass(frozen=True, slots=True)
class SeizureDrilldown:
    """Some of a period's seizures, of one trunk or all (None), and how to say which."""

    trunk: str | None
    since: datetime
    until: datetime
    selection: SeizureSelection
    text: str  # "" for all


def seizure_drilldown(period: Period, trunk: str | None) -> SeizureDrilldown:
    """What the address asks for, within the page's filters; what can't be understood there asks for nothing."""
    asked, said = drilldown_from_url(), []
    since, until = period.since, period.until
    if span := span_param(asked, since, until):
        since, until = span
        said.append(span_text(span, period))
    if named := asked.get("trunk"):
        trunk = named
        said.append(f"trunk {named}")
    disposition, cause = asked.get("disposition"), int_param(asked, "cause", 128)
    if cause is not None:
        said.append(cause_text(cause))
    elif disposition is not None:
        cause = NO_CAUSE
        said.append(f"{DISPOSITIONS.get(disposition, disposition)}, no cause told")
    return SeizureDrilldown(trunk, since, until, SeizureSelection(cause, disposition), ", ".join(said))


@st.fragment
@show_errors
def show_seizures(at: Site, period: Period, trunk: str | None) -> None:
    """The list of the seizures chosen, a page at a time; a click opens the call."""
    behind = seizure_drilldown(period, trunk)
    tools, place = st.container(), st.container()
    total, _ = _page(at, behind, 0, 0)
    _, found = _page(at, behind, pager(total, PAGE_ROWS, of=str(behind)), PAGE_ROWS)
    with tools, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        note(f"{count_text(total, 'call')}: {behind.text}" if behind.text else f"All {count_text(total, 'call')}")
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="behind_tools"):
            if behind.text:
                offer_all()
            table_export(at, "Calls over trunks", EXPORTED, lambda: _exported(at, behind), key="seizures", total=total)
    if not total:
        note("No calls match this selection. Click a chart above, or widen the period.")
        return
    rows = {f"{number} {item.call_id}": _cells(at, item) for number, item in enumerate(found)}
    with place:
        opened = table("Calls over trunks", COLUMNS, rows, key="seizures", pick=True)
    if opened:
        go_to_page(CALL_PAGE, {"call": opened.partition(" ")[2]})


def _page(at: Site, behind: SeizureDrilldown, offset: int, limit: int) -> tuple[int, list[Seizure]]:
    with reading(at.engine) as session:
        return selected_seizures(
            *(session, at.active.id, behind.trunk, behind.since, behind.until, behind.selection),
            offset=offset,
            limit=limit,
        )


def _cells(at: Site, item: Seizure) -> list[TableCell]:
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


def _exported(at: Site, behind: SeizureDrilldown) -> Iterator[Sequence[CellValue]]:
    for offset in range(0, MOST_EXPORTED, EXPORT_STEP):
        _, found = _page(at, behind, offset, EXPORT_STEP)
        for one in found:
            yield (
                *(one.started_at, "yes" if one.outbound else "no", one.from_number, one.to_number, one.trunk),
                *(one.disposition, one.cause, one.duration_s, one.billsec_s, one.pdd_s),
            )
        if len(found) < EXPORT_STEP:
            return
