"""Interactions: every recorded call, to find, to hear and to keep."""

import mimetypes
from datetime import UTC, datetime, time, timedelta
from typing import get_args

import streamlit as st

from pbx import ui
from pbx.errors import PbxError
from pbx.speech.audio import probe_audio, render_playable
from pbx.store.calls import CallFilter, call_queues, count_calls, find_calls, get_call, recordings_of
from pbx.store.engine import reading
from pbx.store.models import Call, Direction, Recording, RecordingState
from pbx.wording import DIRECTIONS, RECORDING_STATES, count_text, duration_text, size_text, start_of_day

PAGE_ROWS = 15
ALL = "All"
PERIODS = ("All time", "Today", "Yesterday", "Last 7 days", "Last 30 days", "Between")


def period(at: ui.Site, chosen: str) -> tuple[datetime | None, datetime | None]:
    """The bounds of a chosen period in UTC: from the first moment of a local day to that of the day after the last."""
    today = start_of_day(datetime.now(UTC), at.zone)
    if chosen == "Between":
        today_local = datetime.now(at.zone).date()
        days = st.date_input(
            "From – to",
            (today_local - timedelta(days=6), today_local),
            key="days",
            bind="query-params",
            format="DD.MM.YYYY",
        )
        if len(days) < 2:
            return None, None
        first, last = (datetime.combine(day, time.min, at.zone) for day in days)
        return first.astimezone(UTC), (last + timedelta(days=1)).astimezone(UTC)
    if chosen == "Yesterday":
        return start_of_day(today - timedelta(hours=1), at.zone), today
    days_back = {"Today": 0, "Last 7 days": 6, "Last 30 days": 29}.get(chosen)
    if days_back is None:
        return None, None
    return start_of_day(today - timedelta(days=days_back) + timedelta(hours=12), at.zone), None


def filters(at: ui.Site) -> CallFilter:
    """The filters, kept in the address so that a list can be sent to a colleague."""
    with reading(at.engine) as session:
        queues = call_queues(session, at.active.id)
    kept = {"bind": "query-params"}
    with st.container(horizontal=True, key="filters", vertical_alignment="bottom"):
        chosen = st.selectbox("Period", PERIODS, key="period", filter_mode=None, **kept)
        since, until = period(at, chosen or "All time")
        directions = [ALL, *get_args(Direction)]
        direction = st.selectbox(
            "Direction", directions, key="direction", filter_mode=None, format_func=str.capitalize, **kept
        )
        number = st.text_input("Number", key="number", placeholder="Part of a number", live="400ms", **kept)
        queue = st.selectbox("Queue", [ALL, *queues], key="queue", **kept)
        state = st.selectbox(
            "Recording",
            [ALL, *get_args(RecordingState)],
            key="state",
            filter_mode=None,
            format_func=lambda name: RECORDING_STATES[name][0] if name in RECORDING_STATES else ALL,
            **kept,
        )
    return CallFilter(
        connection_id=at.active.id,
        since=since,
        until=until,
        direction=None if direction == ALL else direction,
        number=(number or "").strip(),
        queue=None if queue == ALL else queue,
        state=None if state == ALL else state,
    )


def show_list(at: ui.Site, chosen: CallFilter, selected: str | None) -> None:
    with reading(at.engine) as session:
        total = count_calls(session, chosen)
    if not total:
        nothing_found(at, chosen)
        return
    pages = -(-total // PAGE_ROWS)
    rows, foot = st.container(), st.container(horizontal=True, vertical_alignment="center", key="foot")
    with foot:
        # Named by the filters: other filters begin at their first page.
        page = min(st.pagination(pages, key=f"page of {chosen}"), pages) if pages > 1 else 1
    with reading(at.engine) as session:
        calls = find_calls(session, chosen, offset=(page - 1) * PAGE_ROWS, limit=PAGE_ROWS)
    first = (page - 1) * PAGE_ROWS + 1
    with foot:
        ui.note(f"{first:,}–{first + len(calls) - 1:,} of {count_text(total, 'call')}, times in {at.zone_name}")
    with rows:
        cells = {str(call.id): ui.call_cells(at, call) for call in calls}
        picked = ui.table("Calls", ui.CALL_COLUMNS, cells, key="calls_table", selected=selected, pick=True)
    if picked:
        st.query_params["call"] = picked
        st.rerun()


def clear() -> None:
    st.session_state.update(period=PERIODS[0], direction=ALL, number="", queue=ALL, state=ALL)


def nothing_found(at: ui.Site, chosen: CallFilter) -> None:
    if chosen != CallFilter(connection_id=at.active.id):
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


def close() -> None:
    st.query_params.pop("call", None)


def show_call(at: ui.Site, call: Call) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(
            f"{ui.plain(call.from_number or 'Unknown')} → {ui.plain(call.to_number or 'Unknown')}", anchor=False
        )
        st.button("Close", icon=":material/close:", type="tertiary", on_click=close, key="close_call")
    with reading(at.engine) as session:
        recordings = recordings_of(session, call.id or 0)
    about: dict[str, str] = {}
    for recording in recordings:
        about = show_recording(at, recording)
        if len(recordings) > 1:
            ui.facts(about)
            about = {}
    ui.facts(
        {
            "Started": f"{at.local(call.started_at, seconds=True)} ({at.zone_name})" if call.started_at else "Unknown",
            "Direction": DIRECTIONS.get(call.direction, call.direction),
            "From": call.from_number,
            "To": call.to_number,
            "Queue": call.queue,
            "Agent": call.agent,
            "Length": duration_text(call.duration_s),
            "State": RECORDING_STATES.get(call.state, (call.state, ""))[0],
            "Linked ID": call.linkedid,
            "Source": "FreePBX" if call.source == "freepbx" else call.source,
            **about,
        }
    )


def show_recording(at: ui.Site, recording: Recording) -> dict[str, str]:
    """The player and the download of a recording, or why there is none; returns its facts."""
    path = at.settings.audio_dir / recording.file
    about = {"Recording": recording.name, "Format": recording.format, "Size": size_text(recording.size_bytes)}
    if recording.state != "downloaded" or not recording.file:
        name, _ = RECORDING_STATES.get(recording.state, (recording.state, ""))
        st.info(ui.plain(f"{name}. {recording.reason or 'The next sync fetches it.'}"), icon=":material/voicemail:")
    elif not path.is_file():
        st.warning("The file is no longer in data/audio. The next sync fetches it again.", icon=":material/draft:")
    else:
        try:
            with st.spinner("Preparing the audio"):
                playable = render_playable(path, at.settings.playable_dir)
                sound = probe_audio(path)
            st.audio(
                playable, format=mimetypes.guess_type(playable.name)[0] or "audio/mpeg", alt="Recording of the call"
            )
            channels = {1: "mono", 2: "stereo"}.get(sound.channels, f"{sound.channels} channels")
            about["Sound"] = (
                f"{sound.codec}, {sound.sample_rate / 1000:g} kHz, {channels}, {duration_text(sound.duration_s)}"
            )
        except PbxError as error:
            st.warning(ui.plain(error.advice), icon=":material/music_off:")
        st.download_button(
            "Download the original",
            lambda: path.read_bytes(),
            file_name=recording.name.rpartition("/")[2] + f".{recording.format}",
            icon=":material/download:",
            on_click="ignore",
            key=f"download_{recording.id}",
        )
    if recording.gone_at:
        about["On the PBX"] = f"deleted; first missed {at.local(recording.gone_at)}"
    return about


ui.head("Interactions", "Every recorded call: find it, hear it, keep it")
site = ui.site()
call_filter = filters(site)
wanted = st.query_params.get("call", "")
with reading(site.engine) as reader:
    opened = get_call(reader, site.active.id, int(wanted)) if wanted.isdecimal() and len(wanted) < 19 else None
with st.container(horizontal=True, key="calls", vertical_alignment="top", gap="medium"):
    with st.container(key="call_list"):
        show_list(site, call_filter, str(opened.id) if opened else None)
    if opened:
        with st.container(key="call_detail", border=True):
            show_call(site, opened)
