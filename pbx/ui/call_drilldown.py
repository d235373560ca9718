"""The calls behind a figure of calls: which the address asks for, and their list below the charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from typing import cast, get_args

import streamlit as st

from pbx.analytics.call_lists import CallSelection, selected_calls
from pbx.analytics.calls import CallQuestion
from pbx.export.tables import CellValue
from pbx.formatting import DIRECTIONS, DISPOSITIONS, WEEKDAYS, count_text
from pbx.store.engine import reading
from pbx.store.models import Direction
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
from pbx.ui.searches import NONE_LABELS
from pbx.ui.tables import call_cells, table

COLUMNS = ("Started|", "From", "To", "Length>", "Recording|", "Transcript|")
EXPORTED = (
    *("Started", "From", "To", "Direction", "Number called", "Queue", "Agent", "Outcome"),
    *("Length (s)", "Talked (s)", "Waited (s)", "Linkedid"),
)


@dataclass(frozen=True, slots=True)
class CallDrilldown:
    """Some of a period's calls, and how to say which."""

    wanted: CallQuestion
    selection: CallSelection
    text: str  # "" for all


def call_drilldown(period: Period, wanted: CallQuestion) -> CallDrilldown:
    """What the address asks for, within the page's filters; what can't be understood there asks for nothing."""
    asked, said = drilldown_from_url(), []
    if span := span_param(asked, wanted.since, wanted.until):
        wanted = replace(wanted, since=span[0], until=span[1])
        said.append(span_text(span, period))
    if (way := asked.get("direction")) in get_args(Direction):
        wanted = replace(wanted, direction=cast(Direction, way))
        said.append(DIRECTIONS[way or ""])
    for name, label in (("queue", "queue"), ("agent", "agent"), ("did", "number called")):
        if name in asked:
            wanted = replace(wanted, **{name: asked[name]})  # type: ignore[arg-type]
            said.append(f"{label} {asked[name]}" if asked[name] else f"no {label}")
    weekday, hour = int_param(asked, "weekday", 7), int_param(asked, "hour", 24)
    if weekday is not None and hour is not None:
        said.append(f"{WEEKDAYS[weekday]} {hour:02}:00–{(hour + 1) % 24:02}:00")
    else:
        weekday = hour = None
    if number := asked.get("number"):
        said.append(f"with {number}")
    disposition = asked.get("disposition")
    if disposition is not None:
        said.append(DISPOSITIONS.get(disposition, disposition) or "outcome not known")
    return CallDrilldown(wanted, CallSelection(number or None, disposition, weekday, hour), ", ".join(said))


@st.fragment
@show_errors
def show_calls(at: Site, period: Period, wanted: CallQuestion) -> None:
    """The list of the calls chosen, a page at a time; a click opens the call."""
    behind = call_drilldown(period, wanted)
    tools, place = st.container(), st.container()
    with reading(at.engine) as session:
        total, _ = selected_calls(session, behind.wanted, behind.selection, at.zone, offset=0, limit=0)
        offset = pager(total, PAGE_ROWS, of=str(behind))
        _, calls = selected_calls(session, behind.wanted, behind.selection, at.zone, offset=offset, limit=PAGE_ROWS)
    with tools, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        note(f"{count_text(total, 'call')}: {behind.text}" if behind.text else f"All {count_text(total, 'call')}")
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="behind_tools"):
            if behind.text:
                offer_all()
            link = _filters(at, behind)
            if link and st.button("Open in Interactions", icon=":material/forum:", key="lead"):
                go_to_page(CALL_PAGE, link)
            table_export(at, "Calls", EXPORTED, lambda: _exported(at, behind), key="calls_behind", total=total)
    if not total:
        note("No calls match this selection. Click a chart above, or widen the period.")
        return
    rows = {str(call.id): call_cells(at, call)[: len(COLUMNS)] for call in calls}
    with place:
        opened = table("Calls", COLUMNS, rows, key="calls_behind", pick=True)
    if opened:
        go_to_page(CALL_PAGE, {"call": opened})


def _filters(at: Site, behind: CallDrilldown) -> dict[str, str | list[str]] | None:
    """The filters of Interactions that find the same calls; None where it has none that do."""
    wanted, chosen = behind.wanted, behind.selection
    first, last = (moment.astimezone(at.zone) for moment in (wanted.since, wanted.until))
    whole_days = first.time() == last.time() == time.min
    other = (wanted.did, wanted.agent, chosen.disposition, chosen.weekday)
    if not whole_days or any(asked is not None for asked in other):
        return None
    days = [first.date().isoformat(), (last - timedelta(seconds=1)).date().isoformat()]
    queue = NONE_LABELS["queue"] if wanted.queue == "" else wanted.queue
    asked = {"direction": (wanted.direction or "").capitalize(), "queue": queue, "number": chosen.number}
    found: dict[str, str | list[str]] = {"period": "Between", "days": days}
    return found | {key: value for key, value in asked.items() if value}


def _exported(at: Site, behind: CallDrilldown) -> Iterator[Sequence[CellValue]]:
    with reading(at.engine) as session:
        for offset in range(0, MOST_EXPORTED, EXPORT_STEP):
            _, calls = selected_calls(
                session, behind.wanted, behind.selection, at.zone, offset=offset, limit=EXPORT_STEP
            )
            for call in calls:
                started: datetime | None = call.started_at
                yield (
                    *(started, call.from_number, call.to_number, DIRECTIONS.get(call.direction, call.direction)),
                    *(call.did, call.queue, call.agent, DISPOSITIONS.get(call.disposition, call.disposition)),
                    *(call.duration_s, call.talk_s, call.wait_s, call.linkedid),
                )
            if len(calls) < EXPORT_STEP:
                return
