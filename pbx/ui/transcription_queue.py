"""Having calls transcribed: one, one again, or all that a filter finds; and watching how far it is."""

from dataclasses import replace
from typing import get_args

import streamlit as st

from pbx.errors import PbxError
from pbx.formatting import count_text, duration_text
from pbx.model.recording import TranscriptionState
from pbx.store.calls import CallFilter, count_calls
from pbx.store.engine import reading, writing
from pbx.store.models import RecordingRow, Transcript
from pbx.store.transcription_queue import Asked, cancel, overview, queue_calls, queue_recordings, state_of
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note, plain, show_errors

MODELS = ("tiny", "base", "small", "medium", "large-v3", "turbo")


def model_choice(at: Site, key: str) -> str:
    """The model to transcribe with; "" for the settings' own."""
    own = at.settings.whisper_model
    chosen = st.selectbox(
        "Model",
        ["", *(name for name in MODELS if name != own)],
        key=key,
        format_func=lambda name: name or f"{own} (as set)",
        accept_new_options=True,
        help="Larger models understand more and take longer. The path of a checkpoint can be entered, too.",
    )
    return (chosen or "").strip()


def ask(at: Site, recording: RecordingRow, model: str = "") -> None:
    """Have a recording transcribed, before all that queued itself, and draw the page anew; or say why it can't be."""
    try:
        with writing(at.engine) as session:
            queue_recordings(session, at.active.id, [recording.id or 0], requested_by="page", model=model)
    except PbxError as error:
        st.error(plain(error.advice))
        return
    said = "Queued. It is transcribed in the background; you can go on."
    st.session_state["toast"] = (said, ":material/schedule:")
    st.rerun()


def ask_again(at: Site, recording: RecordingRow, transcript: Transcript) -> None:
    """Transcribe once more, with another model perhaps."""
    with st.popover("Transcribe again", icon=":material/replay:"):
        note(f"The present text is by {transcript.model}. It stays until the new one is whole.")
        model = model_choice(at, f"model_{recording.id}")
        if st.button("Transcribe again", type="primary", key=f"again_{recording.id}"):
            ask(at, recording, model)


def transcription_state(at: Site, recording: RecordingRow, transcript: Transcript | None) -> None:
    """How far the recording's transcript is, and what can be done about it; nothing where it is there."""
    with reading(at.engine) as session:
        known = state_of(session, recording.id or 0)
    state = known.state if known else "new"
    if state in ("queued", "transcribing"):
        _under_way(at, recording, state, transcript is not None)
    elif state == "failed" and known:
        st.warning(f"It could not be transcribed. {plain(known.error)}", icon=":material/error:")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            model = model_choice(at, f"retry_model_{recording.id}")
            if st.button("Try again", icon=":material/replay:", key=f"retry_{recording.id}"):
                ask(at, recording, model)
    elif transcript is None:
        with st.container(border=True, horizontal=True, vertical_alignment="center", key="no_transcript"):
            note("Not transcribed yet.")
            if st.button("Transcribe", icon=":material/speech_to_text:", type="primary", key=f"ask_{recording.id}"):
                ask(at, recording)


@st.fragment(run_every=2)
@show_errors
def _under_way(at: Site, recording: RecordingRow, drawn: str, has_text: bool) -> None:
    """Progress of a recording; the page is drawn anew when its state is another."""
    with reading(at.engine) as session:
        known = state_of(session, recording.id or 0)
        all_of_it = overview(session, at.active.id)
    if known is None or known.state != drawn:
        st.rerun()
    with st.container(border=True, key="transcribing", gap="small"):
        st.progress(*_progress(known.state, known.done_s, known.total_s or recording.duration_s))
        if all_of_it.paused:
            note("Transcribing is paused under Settings; it goes on from there.")
        elif all_of_it.blocked_reason:
            note(all_of_it.blocked_reason)
        elif drawn == "queued" and all_of_it.queued > 1:
            note(f"{count_text(all_of_it.queued, 'recording')} wait in all; what people ask for comes first.")
        if has_text:
            note("The present text stays until the new one is whole.")
        if st.button("Cancel", icon=":material/stop:", key=f"cancel_{recording.id}"):
            with writing(at.engine) as session:
                cancel(session, at.active.id, [recording.id or 0])
            st.rerun()


def _progress(state: str, done_s: float, total_s: float | None) -> tuple[float, str]:
    if state == "queued":
        return 0.0, "Queued for transcribing"
    if not total_s:
        return 0.0, "Transcribing"
    share = min(max(done_s / total_s, 0.0), 1.0)
    return share, f"Transcribing: {duration_text(done_s)} of {duration_text(total_s)}"


ONLY: dict[Asked, tuple[str, tuple[TranscriptionState, ...]]] = {
    "new": ("Those without a transcript", ("new",)),
    "failed": ("Those that failed", ("failed",)),
    "all": ("All of them, those that have one again", ("new", "failed", "completed")),
}


@st.dialog("Transcribe calls")
def ask_for_many(at: Site, chosen: CallFilter) -> None:
    """Ask which of the calls that the filters find are to be transcribed, with their number, and queue them."""
    with reading(at.engine) as session:
        recorded = replace(chosen, state="downloaded")
        counts = {
            state: 0
            if chosen.transcription not in (None, state)
            else count_calls(session, replace(recorded, transcription=state))
            for state in get_args(TranscriptionState)
        }
    numbers = {only: sum(counts[state] for state in states) for only, (_, states) in ONLY.items()}
    st.write(f"The filters find {count_text(sum(counts.values()), 'recorded call')}.")
    only = st.radio(
        "Which of them",
        [name for name in get_args(Asked) if numbers[name]] or ["new"],
        format_func=lambda name: f"{ONLY[name][0]}: {numbers[name]:,}",
    )
    model = model_choice(at, "model_of_many")
    number = numbers[only]
    label = f"Transcribe {count_text(number, 'call')}"
    if st.button(label, type="primary", disabled=not number, icon=":material/speech_to_text:"):
        try:
            with writing(at.engine) as session:
                queued = queue_calls(session, recorded, requested_by="page", model=model, only=only)
        except PbxError as error:
            st.error(plain(error.advice))
            return
        st.session_state["toast"] = (f"{count_text(queued, 'recording')} queued.", ":material/schedule:")
        st.rerun()
