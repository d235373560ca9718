"""Interactions: find a call, play its recording, read its transcript and export it."""

from typing import cast, get_args

import streamlit as st

from pbx import ui
from pbx.formatting import RECORDING_STATES, TRANSCRIPTION_STATES, count_text
from pbx.model.recording import RecordingState, TranscriptionState
from pbx.store.calls import CallFilter, count_calls, find_calls, get_call, transcriptions_of
from pbx.store.engine import reading
from pbx.ui.call_detail import show_call
from pbx.ui.filters import ALL, PERIODS, direction_filter, number_filter, period_filter, queue_filter, select_filter
from pbx.ui.pager import pager
from pbx.ui.transcript_search import NONE_LABELS
from pbx.ui.transcription_queue import transcribe_many

PAGE_ROWS = 15


def filters(site: ui.Site) -> CallFilter:
    """Draw the filters. They are in the URL, so the reader can share a list by its link."""
    with st.container(horizontal=True, key="filters", vertical_alignment="bottom"):
        since, until = period_filter(site)
        direction = direction_filter()
        number = number_filter()
        queue = queue_filter(site, none=NONE_LABELS["queue"])
        state = select_filter(
            "Recording",
            get_args(RecordingState),
            "state",
            format_func=lambda name: RECORDING_STATES.get(name, (ALL,))[0],
        )
        transcription = select_filter(
            "Transcript",
            get_args(TranscriptionState),
            "transcription",
            format_func=lambda name: TRANSCRIPTION_STATES.get(name, (ALL,))[0],
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


def show_list(site: ui.Site, call_filter: CallFilter, selected: str | None) -> None:
    """Draw one page of the calls found; next to an open call, only the most important columns."""
    with reading(site.engine) as session:
        total = count_calls(session, call_filter)
    if not total:
        show_empty_state(site, call_filter)
        return
    tools, rows = st.container(), st.container()
    offset = pager(total, PAGE_ROWS, of=str(call_filter))
    with reading(site.engine) as session:
        calls = find_calls(session, call_filter, offset=offset, limit=PAGE_ROWS)
    with tools, st.container(horizontal=True, vertical_alignment="center", key="tools"):
        ui.note(f"{count_text(total, 'call')}, times in {site.zone_name}")
        if not selected and st.button("Transcribe…", icon=":material/speech_to_text:", key="transcribe_found"):
            transcribe_many(site, call_filter)
    with rows:
        cells_of = ui.short_call_cells if selected else ui.call_cells
        columns = ui.SHORT_CALL_COLUMNS if selected else ui.CALL_COLUMNS
        cells = {str(call.id): cells_of(site, call) for call in calls}
        picked = ui.table("Calls", columns, cells, key="calls_table", selected=selected, pick=True)
    if any(call.transcription in ("queued", "transcribing") for call in calls):
        refresh_on_progress(site, {call.id or 0: call.transcription for call in calls})
    if picked and picked != selected:
        for name in ("t", "recording"):
            st.query_params.pop(name, None)
        st.query_params["call"] = picked
        st.rerun()


@st.fragment(run_every=3)
@ui.show_errors
def refresh_on_progress(site: ui.Site, shown: dict[int, str]) -> None:
    """Redraw the page when the transcription state of a call on it changes. `shown`: the states by call id."""
    with reading(site.engine) as session:
        if transcriptions_of(session, list(shown)) != shown:
            st.rerun()


def clear_filters() -> None:
    """Reset all filters. For a button's callback."""
    st.session_state.update(period=PERIODS[0], direction=ALL, number="", queue=ALL, state=ALL, transcription=ALL)


def show_empty_state(site: ui.Site, call_filter: CallFilter) -> None:
    """Explain why no call is listed: the filters match none, or no call has been synced yet."""
    if call_filter != CallFilter(connection_id=site.active.id):
        ui.empty(
            "No calls match these filters",
            "Select a longer period or clear a filter.",
            icon="filter_alt_off",
            action=("Clear all filters", clear_filters),
        )
    else:
        ui.empty(
            "No calls yet",
            "Click Sync FreePBX in the sidebar to download the PBX’s recordings. If it finds none, run the connection "
            "check under Settings to see whether the app can access them.",
            icon="call",
            link=(ui.SETTINGS_PAGE, "Check the connection"),
        )


ui.head("Interactions", "Find a call, play its recording, read its transcript and add notes")
site = ui.site()
call_filter = filters(site)
call_param = st.query_params.get("call", "")
with reading(site.engine) as reader:
    open_call = (
        get_call(reader, site.active.id, int(call_param)) if call_param.isdecimal() and len(call_param) < 19 else None
    )
with st.container(horizontal=True, key="calls", vertical_alignment="top", gap="medium"):
    with st.container(key="call_side" if open_call else "call_list"):
        show_list(site, call_filter, str(open_call.id) if open_call else None)
    if open_call:
        with st.container(key="call_detail", border=True):
            show_call(site, open_call)
