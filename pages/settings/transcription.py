"""Transcription: the queue and its progress, failed recordings, the rules for new recordings, and the engine."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import cast, get_args

import streamlit as st

from pbx import ui
from pbx.formatting import DIRECTIONS, ago_text, count_text, duration_text
from pbx.model.call import CallDirection
from pbx.process_lock import anyone_alive
from pbx.speech.weights import is_present
from pbx.store import transcription_queue as transcriptions
from pbx.store.calls import CallFilter, call_queues
from pbx.store.engine import reading, writing
from pbx.store.job_queue import worker_alive
from pbx.store.models import RecordingRow, Transcription, TranscriptionRules
from pbx.store.transcription_queue import SpeechOverview
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.pager import pager

NEXT_ROWS = 5
FAILED_ROWS = 8
LONGEST_S = 6 * 3600


@st.fragment(run_every=2)
@ui.show_errors
def show_queue(site: ui.Site) -> None:
    """The queue: its counts, what blocks it, its progress, its buttons, and the next recordings."""
    with reading(site.engine) as session:
        found = transcriptions.overview(session, site.active.id)
        waiting = transcriptions.next_transcriptions(session, site.active.id, NEXT_ROWS)
    show_counts(found)
    show_blocked_reason(site, found)
    if found.queued or found.transcribing:
        show_progress(found)
    show_buttons(site, found)
    if found.running:
        show_running(site, found)
    if waiting:
        st.subheader("Next", anchor=False)
        ui.table(
            "Next",
            ["Recording", "Duration>", "Queued by"],
            {str(row.recording_id): next_cells(row, of) for row, of in waiting},
            key="next",
        )
        if found.queued > len(waiting):
            ui.note(f"and {count_text(found.queued - len(waiting), 'recording')} more, newest first")


def show_counts(found: SpeechOverview) -> None:
    """How many recordings are in each state."""
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in (
            ("Transcribing", found.transcribing),
            ("Queued", found.queued),
            ("Completed", found.completed),
            ("Failed", found.failed),
            ("New", found.new),
        ):
            st.metric(label, f"{value:,}", width="content")


def show_blocked_reason(site: ui.Site, found: SpeechOverview) -> None:
    """Why the queue doesn’t move, with a button to try again."""
    if found.paused:
        st.info(
            "Transcription is paused. Recordings in progress continue from where they stopped once you resume.",
            icon=":material/pause:",
        )
    if found.blocked_reason and found.retry_at is None:
        st.info(ui.plain(found.blocked_reason), icon=":material/hourglass_top:")
    elif found.blocked_reason:
        again = f"Next attempt at {site.local(found.retry_at)}." if found.retry_at else ""
        st.warning(f"{ui.plain(found.blocked_reason)} {ui.plain(again)}", icon=":material/error:")
        queue_button(
            "Try again now", partial(transcriptions.set_blocked_reason, why=""), site, icon="refresh", key="again_now"
        )


def show_progress(found: SpeechOverview) -> None:
    """The progress of the queue, and the time it still needs."""
    all_s = found.ended_s + found.total_s
    share = min((found.ended_s + found.done_s) / all_s, 1.0) if all_s else 0.0
    left = count_text(found.queued + found.transcribing, "recording")
    text = [f"{left} left, {duration_text(found.total_s - found.done_s)} of audio"]
    if found.left_s is not None and found.speed:
        text += [f"done in about {duration_text(found.left_s)} at {found.speed:,.1f} times real time"]
    st.progress(share, ui.plain(", ".join(text)))


def show_buttons(site: ui.Site, found: SpeechOverview) -> None:
    """The buttons that pause, fill and empty the queue."""
    with st.container(horizontal=True, key="speech_buttons"):
        if found.paused:
            queue_button(
                "Resume", partial(transcriptions.set_paused, paused=False), site, icon="play_arrow", key="resume"
            )
        else:
            queue_button("Pause", partial(transcriptions.set_paused, paused=True), site, icon="pause", key="pause")
        if found.new:
            queue_new = partial(queue_all, site, "new")
            st.button(
                f"Transcribe {count_text(found.new, 'new recording')}",
                icon=":material/speech_to_text:",
                on_click=queue_new,
            )
        if found.queued or found.transcribing:
            with st.popover("Cancel all…", icon=":material/stop:"):
                ui.note("Removes all queued and running recordings from the queue. Existing transcripts are kept.")
                queue_button(
                    "Cancel all",
                    partial(transcriptions.cancel, recording_ids=None),
                    site,
                    icon="stop",
                    key="cancel_all",
                )


def queue_button(label: str, change: Callable[..., object], site: ui.Site, *, icon: str, key: str) -> None:
    """A button that changes the queue in one transaction when it is pressed."""

    def on_click() -> None:
        with writing(site.engine) as session:
            change(session, site.active.id)

    st.button(label, icon=f":material/{icon}:", key=key, on_click=on_click)


def queue_all(site: ui.Site, only: transcriptions.QueueScope) -> None:
    with writing(site.engine) as session:
        queued = transcriptions.queue_calls(session, CallFilter(site.active.id), requested_by="page", only=only)
    st.toast(f"{count_text(queued, 'recording')} queued.", icon=":material/schedule:")


def show_running(site: ui.Site, found: SpeechOverview) -> None:
    """The recordings being transcribed, each with its progress."""
    st.subheader("In progress", anchor=False)
    for one in found.running:
        share = min(one.done_s / one.total_s, 1.0) if one.total_s else 0.0
        started = f"started {ago_text(one.started_at, datetime.now(UTC))}"
        with st.container(horizontal=True, vertical_alignment="center", key=f"running_{one.recording_id}"):
            of = f"{duration_text(one.done_s)} of {duration_text(one.total_s)}"
            st.progress(share, f"{ui.plain(one.name)}  \n:small[{ui.plain(f'{of}, {started}')}]")
            cancel = partial(transcriptions.cancel, recording_ids=[one.recording_id])
            queue_button("Cancel", cancel, site, icon="stop", key=f"cancel_{one.recording_id}")


def next_cells(row: Transcription, recording: RecordingRow) -> list[ui.TableCell]:
    """A row of the table of the next recordings."""
    queued_by = {"rule": "Rules", "page": "A user"}.get(row.requested_by, row.requested_by.capitalize())
    by: ui.TableCell = {"text": queued_by, "sub": f"Model {row.model}"} if row.model else queued_by
    return [recording.name, duration_text(recording.duration_s), by]


@st.fragment(run_every=10)
@ui.show_errors
def show_failed(site: ui.Site) -> None:
    """The recordings that failed, with the reason and buttons to retry."""
    with reading(site.engine) as session:
        total = transcriptions.overview(session, site.active.id).failed
    if not total:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"{total:,} failed", anchor=False, width="content")
        retry = partial(queue_all, site, "failed")
        st.button("Retry all", icon=":material/replay:", key="retry_all", on_click=retry)
    rows_container = st.container()
    offset = pager(total, FAILED_ROWS, of="failed")
    with reading(site.engine) as session:
        rows = transcriptions.failed_transcriptions(session, site.active.id, offset=offset, limit=FAILED_ROWS)
    for row, recording in rows:
        with (
            rows_container,
            st.container(border=True, horizontal=True, vertical_alignment="center", key=f"failed_{row.recording_id}"),
        ):
            when = ago_text(row.ended_at, datetime.now(UTC))
            st.markdown(f"**{ui.plain(recording.name)}**, {when}  \n{ui.plain(row.error)}", width="stretch")
            retry = partial(retry_recordings, recording_ids=[row.recording_id])
            queue_button("Retry", retry, site, icon="replay", key=f"retry_{row.recording_id}")
            if st.button("Open", icon=":material/open_in_new:", key=f"open_{row.recording_id}"):
                go_to_page(CALL_PAGE, {"call": str(recording.call_id)})


def retry_recordings(session: object, connection_id: int, recording_ids: list[int]) -> None:
    """Queue recordings again."""
    transcriptions.queue_recordings(session, connection_id, recording_ids, requested_by="page")  # type: ignore[arg-type]


def rules_form(site: ui.Site) -> None:
    """The form of the rules by which new recordings are transcribed automatically."""
    with reading(site.engine) as session:
        rules = transcriptions.rules_of(session, site.active.id)
        queues = sorted({*call_queues(session, site.active.id), *rules.queues})
    with st.form("rules", border=True):
        automatic = st.toggle("Transcribe new recordings automatically, newest first", rules.automatic)
        shortest, longest = st.columns(2)
        least = shortest.number_input(
            "Minimum length (seconds)", 0, LONGEST_S, int(rules.min_duration_s or 0), help="0: no limit"
        )
        most = longest.number_input(
            "Longest recording (minutes, 0 = no limit)", 0, LONGEST_S // 60, int((rules.max_duration_s or 0) / 60)
        )
        chosen_queues = st.multiselect("Queues", queues, rules.queues, placeholder="All calls, with or without a queue")
        chosen_ways = st.multiselect(
            "Directions",
            get_args(CallDirection),
            rules.directions,
            format_func=DIRECTIONS.__getitem__,
            placeholder="All directions",
        )
        ui.note("To transcribe other recordings, click Transcribe… on the Interactions page.")
        if st.form_submit_button("Save rules", type="primary", icon=":material/save:"):
            new_rules = TranscriptionRules(
                connection_id=site.active.id,
                automatic=automatic,
                min_duration_s=float(least) or None,
                max_duration_s=most * 60.0 or None,
                queues=chosen_queues,
                directions=cast(list[str], chosen_ways),
            )
            with writing(site.engine) as session:
                transcriptions.save_rules(session, new_rules)
            st.toast("Rules saved.", icon=":material/check_circle:")


def engine_facts(site: ui.Site) -> None:
    """The engine and its model, and whether the background processes are running."""
    settings = site.settings
    present = is_present(settings.whisper_model, settings.whisper_engine, settings.models_dir)
    running = anyone_alive(settings.pbx_data_dir, "transcriber")
    weights = "On this machine" if present else "Downloaded when the first recording is transcribed"
    server = (
        f"{settings.analysis_model} at {settings.analysis_server or 'an invalid address'}"
        if settings.analysis_url
        else "This machine, without a language model"
    )
    ui.facts(
        {
            "Engine": settings.whisper_engine,
            "Model": settings.whisper_model,
            "Model files": weights,
            "Runs on": {"auto": "Graphics card if available, otherwise the processor"}.get(
                settings.whisper_device, settings.whisper_device
            ),
            "Language": {"auto": "Detected for each recording"}.get(
                settings.whisper_language, settings.whisper_language
            ),
            "Summaries": server,
            "Worker": "Running" if worker_alive(settings) else "Not running",
            "Transcriber": "Running, with the model in memory"
            if running
            else "Idle. Starts when recordings are queued.",
        }
    )
    ui.note(
        "Set in the environment or .env: WHISPER_ENGINE, WHISPER_MODEL, WHISPER_DEVICE, WHISPER_LANGUAGE, ANALYSIS_URL."
    )


ui.head("Transcription", "Progress, failures, and rules for new recordings")
site = ui.site()
show_queue(site)
show_failed(site)
st.subheader("Automatic transcription", anchor=False)
rules_form(site)
st.subheader("Engine", anchor=False)
engine_facts(site)
