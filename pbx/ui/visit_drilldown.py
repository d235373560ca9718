"""The visits behind a figure or a chart: what was clicked on, kept in the address, and the list of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import tzinfo

import streamlit as st

from pbx.analytics.formulas.queues import OUTCOMES
from pbx.analytics.queues import FigureFilter, Selection
from pbx.analytics.visit_lists import VisitRow, count_visits, visits_page
from pbx.export.tables import CellValue
from pbx.formatting import NOTHING, RECORDING_STATES, WEEKDAYS, count_text, duration_text
from pbx.formatting import OUTCOMES as OUTCOME_WORDS
from pbx.store.calls import calls_by_id
from pbx.store.engine import reading
from pbx.store.models import Call
from pbx.ui.active_pbx import Site
from pbx.ui.drilldown import (
    EXPORT_STEP,
    MOST_EXPORTED,
    PAGE_ROWS,
    drilldown_from_url,
    int_param,
    number_param,
    offer_all,
    span_param,
    span_text,
)
from pbx.ui.elements import note
from pbx.ui.exports import table_export
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.pager import pager
from pbx.ui.period_bar import Period
from pbx.ui.tables import TableCell, table

VISIT_COLUMNS = ("Joined|", "Caller", "Queue", "Ended as|", "Waited>", "Talked>", "Agent", "Recording|")
EXPORT_COLUMNS = (
    *("Joined", "Caller", "Name", "Queue", "Number called", "Ended as"),
    *("Waited (s)", "Talked (s)", "Rang (s)", "Agent", "Transferred to", "Uniqueid"),
)
_GONE = ("answered", "transferred", "abandoned")
_KINDS = {"answered": "answered", "abandoned": "abandoned", "other": "ended otherwise"}


@dataclass(frozen=True, slots=True)
class VisitDrilldown:
    """Some of a period's visits, and how to say which."""

    wanted: FigureFilter
    selection: Selection
    zone: tzinfo
    text: str  # "" for all

    @property
    def part(self) -> FigureFilter:
        """The visits chosen, for pbx.analytics.queues."""
        return replace(self.wanted, chosen=self.selection, zone=self.zone)


def visit_drilldown(period: Period) -> VisitDrilldown:
    """What the address asks for, within the bar's period; what can't be understood there asks for nothing."""
    asked = drilldown_from_url()
    wanted, said = period.wanted, []
    present = None
    if span := span_param(asked, wanted.since, wanted.until):
        if "present" in asked:
            present = span
        else:
            wanted = replace(wanted, since=span[0], until=span[1])
        said.append(f"waiting or talking {span_text(span, period)}" if present else span_text(span, period))
    wanted = replace(
        wanted,
        queue=asked.get("queue", wanted.queue),
        agent=asked.get("agent"),
        did=asked.get("did"),
    )
    labels = (("queue", "queue"), ("agent", "agent"), ("did", "number called"))
    said += [f"{label} {asked[name] or 'not known'}" for name, label in labels if name in asked]
    if (target := asked.get("target")) is not None:
        said.append(f"passed on to {target or 'an unknown number'}")
    weekday, hour = int_param(asked, "weekday", 7), int_param(asked, "hour", 24)
    if weekday is not None and hour is not None:
        said.append(f"{WEEKDAYS[weekday]} {hour:02}:00–{(hour + 1) % 24:02}:00")
    over_s, upto_s = number_param(asked, "over"), number_param(asked, "upto")
    if over_s is not None:
        to = f"up to {duration_text(upto_s)}" if upto_s is not None else "or more"
        said.append(f"waited {duration_text(over_s)} {to}" if over_s or upto_s is None else f"waited {to}")
    outcomes, answered = None, None
    if (kind := asked.get("kind")) in _KINDS:
        answered = kind == "answered"
        outcomes = {"abandoned": ("abandoned",), "other": tuple(o for o in OUTCOMES if o not in _GONE)}.get(kind or "")
        said.append(_KINDS[kind or ""])
    elif (outcome := asked.get("outcome")) in OUTCOMES:
        outcomes = (outcome,)
        said.append(OUTCOME_WORDS[outcome][0].lower())
    over_s = over_s if over_s else None  # the first bucket holds those who waited 0 s too
    chosen = Selection(outcomes, answered, weekday, hour, over_s, upto_s, present, target)
    return VisitDrilldown(wanted, chosen, period.zone, ", ".join(said))


@contextmanager
def list_head(behind: VisitDrilldown, text: str) -> Iterator[None]:
    """What a list below the charts shows of the part chosen, the way back to all, and a place for its export."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        note(f"{text}: {behind.text}" if behind.text else text)
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="list_tools"):
            if behind.text:
                offer_all()
            yield


def show_visits(at: Site, behind: VisitDrilldown) -> None:
    """The list of the visits chosen, a page at a time; a click opens the call."""
    with reading(at.engine) as session:
        total = count_visits(session, behind.wanted, behind.selection, at.zone)
    with list_head(behind, count_text(total, "call") if behind.text else f"All {count_text(total, 'call')}"):
        table_export(at, "Queue calls", EXPORT_COLUMNS, lambda: _exported(at, behind), key="visits", total=total)
    if not total:
        note("No calls match this selection. Click a chart above, or widen the period.")
        return
    rows = st.container()
    offset = pager(total, PAGE_ROWS, of=str(behind))
    with reading(at.engine) as session:
        found = visits_page(session, behind.wanted, behind.selection, at.zone, offset=offset, limit=PAGE_ROWS)
        calls = calls_by_id(session, [row.call_id for row in found if row.call_id is not None])
    with rows:
        open_call(
            table("Calls", VISIT_COLUMNS, visit_rows(at, found, calls), key="visits", pick=True),
            {str(row.visit_id): row.call_id for row in found},
        )


def open_call(picked: str | None, call_ids: dict[str, int | None]) -> None:
    """Open the call of a row just picked."""
    if picked is None:
        return
    if (call_id := call_ids.get(picked)) is None:
        st.toast(
            "Only the queue knows of this call: no recording or call record of it is here.", icon=":material/info:"
        )
        return
    go_to_page(CALL_PAGE, {"call": str(call_id)})


def visit_rows(at: Site, found: Sequence[VisitRow], calls: dict[int, Call]) -> dict[str, list[TableCell]]:
    """Visits as rows below VISIT_COLUMNS, by their ids."""
    return {str(row.visit_id): _cells(at, row, calls.get(row.call_id or 0)) for row in found}


def caller_cell(row: VisitRow) -> TableCell:
    named = row.caller_name and row.caller_name != row.caller
    return {"text": row.caller_name if named else row.caller or "Number withheld", "sub": row.caller if named else ""}


def _cells(at: Site, row: VisitRow, call: Call | None) -> list[TableCell]:
    text, tone, _ = OUTCOME_WORDS[row.outcome]
    recording: TableCell = NOTHING
    if call is not None:
        state, state_tone = RECORDING_STATES.get(call.state, (call.state, "idle"))
        transcript = "Transcribed" if call.transcription == "completed" else ""
        recording = {"text": state, "tone": state_tone, "sub": transcript}
    return [
        at.local(row.joined_at, seconds=True),
        caller_cell(row),
        {"text": row.queue, "sub": f"called {row.did}" if row.did else ""},
        {"text": text, "tone": tone, "sub": f"to {row.target}" if row.target else ""},
        duration_text(row.wait_s),
        duration_text(row.talk_s),
        row.agent or NOTHING,
        recording,
    ]


def _exported(at: Site, behind: VisitDrilldown) -> Iterator[Sequence[CellValue]]:
    with reading(at.engine) as session:
        for offset in range(0, MOST_EXPORTED, EXPORT_STEP):
            found = visits_page(session, behind.wanted, behind.selection, at.zone, offset=offset, limit=EXPORT_STEP)
            for row in found:
                yield (
                    *(row.joined_at, row.caller, row.caller_name, row.queue, row.did, OUTCOME_WORDS[row.outcome][0]),
                    *(row.wait_s, row.talk_s, row.ring_s, row.agent, row.target, row.uniqueid),
                )
            if len(found) < EXPORT_STEP:
                return
