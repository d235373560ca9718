"""Interactions: every call, to find, to hear, to read and to keep."""

from typing import cast, get_args

import streamlit as st

from pbx import ui
from pbx.formatting import RECORDING_STATES, TRANSCRIPTION_STATES, count_text
from pbx.store.calls import CallFilter, count_calls, find_calls, get_call, transcriptions_of
from pbx.store.engine import reading
from pbx.store.models import RecordingState, TranscriptionState
from pbx.ui.call_detail import show_call
from pbx.ui.filters import ALL, PERIODS, direction_filter, number_filter, period_filter, queue_filter, select_filter
from pbx.ui.pager import pager
from pbx.ui.searches import NONE_LABELS
from pbx.ui.transcription_queue import ask_for_many

PAGE_ROWS = 15


def filters(site: ui.Site) -> CallFilter:
    """The filters, kept in the address so that a list can be sent to a colleague."""
    with st.container(horizontal=True, key="filters", vertical_alignment="bottom"):
        since, until = period_filter(site)
        direction = direction_filter()
        number = number_filter()
        queue = queue_filter(site, none=NONE_LABELS["queue"])
        state = select_filter(
            "Recording", get_args(RecordingState), "state", said=lambda name: RECORDING_STATES.get(name, (ALL,))[0]
        )
        transcription = select_filter(
            "Transcript",
            get_args(TranscriptionState),
            "transcription",
            said=lambda name: TRANSCRIPTION_STATES.get(name, (ALL,))[0],
        )
    return CallFilter(
        connection_id=site.active.id,
        since=since,
        until=until,
        direction=direction,
        number=number,
        queue=queue,
        state=cast(RecordingState | None, state),
        transcription=cast(TranscriptionState | None, transcription),
    )


def show_list(site: ui.Site, chosen: CallFilter, selected: str | None) -> None:
    """A page of the calls found; beside an opened call with its most important columns only."""
    with reading(site.engine) as session:
        total = count_calls(session, chosen)
    if not total:
        nothing_found(site, chosen)
        return
    tools = st.container(horizontal=True, vertical_alignment="center", key="tools")
    rows = st.container()
    before = pager(total, PAGE_ROWS, of=str(chosen))
    with reading(site.engine) as session:
        calls = find_calls(session, chosen, offset=before, limit=PAGE_ROWS)
    with tools:
        ui.note(f"{before + 1:,}–{before + len(calls):,} of {count_text(total, 'call')}, times in {site.zone_name}")
        if not selected and st.button("Transcribe…", icon=":material/speech_to_text:", key="transcribe_found"):
            ask_for_many(site, chosen)
    with rows:
        cells_of = ui.short_call_cells if selected else ui.call_cells
        columns = ui.SHORT_CALL_COLUMNS if selected else ui.CALL_COLUMNS
        cells = {str(call.id): cells_of(site, call) for call in calls}
        picked = ui.table("Calls", columns, cells, key="calls_table", selected=selected, pick=True)
    if any(call.transcription in ("queued", "transcribing") for call in calls):
        watch(site, {call.id or 0: call.transcription for call in calls})
    if picked and picked != selected:
        for name in ("t", "recording"):
            st.query_params.pop(name, None)
        st.query_params["call"] = picked
        st.rerun()


@st.fragment(run_every=3)
@ui.show_errors
def watch(site: ui.Site, drawn: dict[int, str]) -> None:
    """Have the page drawn anew once a transcript of the list is further."""
    with reading(site.engine) as session:
        if transcriptions_of(session, list(drawn)) != drawn:
            st.rerun()


def clear() -> None:
    st.session_state.update(period=PERIODS[0], direction=ALL, number="", queue=ALL, state=ALL, transcription=ALL)


def nothing_found(site: ui.Site, chosen: CallFilter) -> None:
    if chosen != CallFilter(connection_id=site.active.id):
        ui.empty(
            "No call matches these filters",
            "Widen the period or clear a filter.",
            icon="filter_alt_off",
            action=("Clear all filters", clear),
        )
    else:
        ui.empty(
            "No calls yet",
            "Press Sync FreePBX in the sidebar: it brings the PBX’s recordings here. If it finds none, the connection "
            "check under Settings tells whether the recordings can be seen.",
            icon="call",
            link=(ui.SETTINGS_PAGE, "Check the connection"),
        )


ui.head("Interactions", "Every call: find it, hear it, read it, keep it")
site = ui.site()
call_filter = filters(site)
wanted = st.query_params.get("call", "")
with reading(site.engine) as reader:
    opened = get_call(reader, site.active.id, int(wanted)) if wanted.isdecimal() and len(wanted) < 19 else None
with st.container(horizontal=True, key="calls", vertical_alignment="top", gap="medium"):
    with st.container(key="call_side" if opened else "call_list"):
        show_list(site, call_filter, str(opened.id) if opened else None)
    if opened:
        with st.container(key="call_detail", border=True):
            show_call(site, opened)
