"""Widgets that queue recordings for transcription and show their progress: for one call, or for many."""

from dataclasses import replace
from typing import get_args

import streamlit as st

from pbx.errors import PbxError
from pbx.formatting import count_text, duration_text
from pbx.model.recording import TranscriptionState
from pbx.store.calls import CallFilter, count_calls
from pbx.store.engine import reading, writing
from pbx.store.models import RecordingRow, Transcript
from pbx.store.transcription_queue import QueueScope, cancel, overview, queue_calls, queue_recordings, state_of
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import note, plain, show_errors

MODELS = ("tiny", "base", "small", "medium", "large-v3", "turbo")


def model_choice(site: Site, key: str) -> str:
    """A field to choose the model. Returns "" for the one in the settings."""
    default = site.settings.whisper_model
    chosen = st.selectbox(
        "Model",
        ["", *(name for name in MODELS if name != default)],
        key=key,
        format_func=lambda name: name or f"{default} (default)",
        accept_new_options=True,
        help="Larger models are more accurate and slower. You can also enter the path of a checkpoint.",
    )
    return (chosen or "").strip()


def queue_recording(site: Site, recording: RecordingRow, model: str = "") -> None:
    """Queue a recording before those queued by rules, and rerun the page; or show why that failed."""
    try:
        with writing(site.engine) as session:
            queue_recordings(session, site.active.id, [recording.id or 0], requested_by="page", model=model)
    except PbxError as error:
        st.error(plain(error.advice))
        return
    text = "Queued. The recording is transcribed in the background; you can continue working."
    st.session_state["toast"] = (text, ":material/schedule:")
    st.rerun()


def transcribe_again(site: Site, recording: RecordingRow, transcript: Transcript) -> None:
    """A popover to transcribe a recording again, with the same or another model."""
    with st.popover("Transcribe again", icon=":material/replay:"):
        note(f"The current transcript was made with {transcript.model}. It is kept until the new one is complete.")
        model = model_choice(site, f"model_{recording.id}")
        if st.button("Transcribe again", type="primary", key=f"again_{recording.id}"):
            queue_recording(site, recording, model)


def transcription_state(site: Site, recording: RecordingRow, transcript: Transcript | None) -> None:
    """The state of a recording's transcription, with its buttons; nothing once it is completed."""
    with reading(site.engine) as session:
        row = state_of(session, recording.id or 0)
    state = row.state if row else "new"
    if state in ("queued", "transcribing"):
        _progress_box(site, recording, state, transcript is not None)
    elif state == "failed" and row:
        st.warning(f"The recording could not be transcribed. {plain(row.error)}", icon=":material/error:")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            model = model_choice(site, f"retry_model_{recording.id}")
            if st.button("Try again", icon=":material/replay:", key=f"retry_{recording.id}"):
                queue_recording(site, recording, model)
    elif transcript is None:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key="no_transcript"):
            note("Not transcribed yet.")
            if st.button("Transcribe", icon=":material/speech_to_text:", type="primary", key=f"ask_{recording.id}"):
                queue_recording(site, recording)


@st.fragment(run_every=2)
@show_errors
def _progress_box(site: Site, recording: RecordingRow, shown_state: str, has_text: bool) -> None:
    """The progress of a queued or running recording. Reruns the page when its state changes."""
    with reading(site.engine) as session:
        row = state_of(session, recording.id or 0)
        queue = overview(session, site.active.id)
    if row is None or row.state != shown_state:
        st.rerun()
    with st.container(border=True, key="transcribing", gap="small"):
        st.progress(*_progress(row.state, row.done_s, row.total_s or recording.duration_s))
        if queue.paused:
            note("Transcription is paused. Resume it under Settings ▸ Transcription.")
        elif queue.blocked_reason:
            note(queue.blocked_reason)
        elif shown_state == "queued" and queue.queued > 1:
            note(f"{count_text(queue.queued, 'recording')} queued in total. Those queued by users come first.")
        if has_text:
            note("The current transcript is kept until the new one is complete.")
        if st.button("Cancel", icon=":material/stop:", key=f"cancel_{recording.id}"):
            with writing(site.engine) as session:
                cancel(session, site.active.id, [recording.id or 0])
            st.rerun()


def _progress(state: str, done_s: float, total_s: float | None) -> tuple[float, str]:
    if state == "queued":
        return 0.0, "Queued for transcription"
    if not total_s:
        return 0.0, "Transcribing"
    share = min(max(done_s / total_s, 0.0), 1.0)
    return share, f"Transcribing: {duration_text(done_s)} of {duration_text(total_s)}"


QUEUE_SCOPES: dict[QueueScope, tuple[str, tuple[TranscriptionState, ...]]] = {
    "new": ("Without a transcript", ("new",)),
    "failed": ("Failed", ("failed",)),
    "all": ("All (re-transcribe existing)", ("new", "failed", "completed")),
}


@st.dialog("Transcribe calls")
def transcribe_many(site: Site, chosen: CallFilter) -> None:
    """A dialog that queues the recordings of all calls that match the filters, by their state."""
    with reading(site.engine) as session:
        recorded = replace(chosen, state="downloaded")
        counts = {
            state: 0
            if chosen.transcription not in (None, state)
            else count_calls(session, replace(recorded, transcription=state))
            for state in get_args(TranscriptionState)
        }
    numbers = {only: sum(counts[state] for state in states) for only, (_, states) in QUEUE_SCOPES.items()}
    st.write(f"Recorded calls that match the filters: {sum(counts.values()):,}")
    only = st.radio(
        "Calls",
        [name for name in get_args(QueueScope) if numbers[name]] or ["new"],
        format_func=lambda name: f"{QUEUE_SCOPES[name][0]}: {numbers[name]:,}",
    )
    model = model_choice(site, "model_of_many")
    number = numbers[only]
    label = f"Transcribe {count_text(number, 'call')}"
    if st.button(label, type="primary", disabled=not number, icon=":material/speech_to_text:"):
        try:
            with writing(site.engine) as session:
                queued = queue_calls(session, recorded, requested_by="page", model=model, only=only)
        except PbxError as error:
            st.error(plain(error.advice))
            return
        st.session_state["toast"] = (f"{count_text(queued, 'recording')} queued.", ":material/schedule:")
        st.rerun()
