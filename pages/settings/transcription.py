"""Transcription: what is being transcribed, what waits, what failed, and what is transcribed by itself."""

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
def live(at: ui.Site) -> None:
    with reading(at.engine) as session:
        found = transcriptions.overview(session, at.active.id)
        waiting = transcriptions.next_up(session, at.active.id, NEXT_ROWS)
    figures(found)
    hold_ups(at, found)
    if found.queued or found.transcribing:
        whole(found)
    buttons(at, found)
    if found.running:
        running(at, found)
    if waiting:
        st.subheader("Next", anchor=False)
        ui.table(
            "Next",
            ["Recording", "Length>", "Asked for by"],
            {key(row): next_cells(row, of) for row, of in waiting},
            key="next",
        )
        if found.queued > len(waiting):
            ui.note(f"and {count_text(found.queued - len(waiting), 'recording')} more, newest first")


def key(row: Transcription) -> str:
    return str(row.recording_id)


def figures(found: SpeechOverview) -> None:
    with st.container(horizontal=True, key="figures", gap="large"):
        for label, value in (
            ("Transcribing", found.transcribing),
            ("Queued", found.queued),
            ("Completed", found.completed),
            ("Failed", found.failed),
            ("New", found.new),
        ):
            st.metric(label, f"{value:,}", width="content")


def hold_ups(at: ui.Site, found: SpeechOverview) -> None:
    """What keeps the queue from moving: said, with the way on."""
    if found.paused:
        st.info("Transcribing is paused. What was begun is kept, and goes on where it was.", icon=":material/pause:")
    if found.blocked_reason and found.retry_at is None:
        st.info(ui.plain(found.blocked_reason), icon=":material/hourglass_top:")
    elif found.blocked_reason:
        again = f"It is tried again at {at.local(found.retry_at)}." if found.retry_at else ""
        st.warning(f"{ui.plain(found.blocked_reason)} {ui.plain(again)}", icon=":material/error:")
        act("Try again now", partial(transcriptions.set_blocked_reason, why=""), at, icon="refresh", key="again_now")


def whole(found: SpeechOverview) -> None:
    """How far all of it is, and how long the rest takes."""
    all_s = found.ended_s + found.total_s
    share = min((found.ended_s + found.done_s) / all_s, 1.0) if all_s else 0.0
    left = count_text(found.queued + found.transcribing, "recording")
    said = [f"{left} left, {duration_text(found.total_s - found.done_s)} of sound"]
    if found.left_s is not None and found.speed:
        said += [f"done in about {duration_text(found.left_s)} at {found.speed:,.1f} times the speed of speech"]
    st.progress(share, ui.plain(", ".join(said)))


def buttons(at: ui.Site, found: SpeechOverview) -> None:
    with st.container(horizontal=True, key="speech_buttons"):
        if found.paused:
            act("Resume", partial(transcriptions.set_paused, paused=False), at, icon="play_arrow", key="resume")
        else:
            act("Pause", partial(transcriptions.set_paused, paused=True), at, icon="pause", key="pause")
        if found.new:
            ask = partial(queue_all, at, "new")
            st.button(
                f"Transcribe {count_text(found.new, 'new recording')}", icon=":material/speech_to_text:", on_click=ask
            )
        if found.queued or found.transcribing:
            with st.popover("Cancel all…", icon=":material/stop:"):
                ui.note("Nothing queued or running is transcribed then. Transcripts that are there stay.")
                act("Cancel all", partial(transcriptions.cancel, recording_ids=None), at, icon="stop", key="cancel_all")


def act(label: str, change: Callable[..., object], at: ui.Site, *, icon: str, key: str) -> None:
    """A button that changes the queue of the PBX in one transaction."""

    def pressed() -> None:
        with writing(at.engine) as session:
            change(session, at.active.id)

    st.button(label, icon=f":material/{icon}:", key=key, on_click=pressed)


def queue_all(at: ui.Site, only: transcriptions.Asked) -> None:
    with writing(at.engine) as session:
        queued = transcriptions.queue_calls(session, CallFilter(at.active.id), requested_by="page", only=only)
    st.toast(f"{count_text(queued, 'recording')} queued.", icon=":material/schedule:")


def running(at: ui.Site, found: SpeechOverview) -> None:
    st.subheader("Under way", anchor=False)
    for one in found.running:
        share = min(one.done_s / one.total_s, 1.0) if one.total_s else 0.0
        begun = f"begun {ago_text(one.started_at, datetime.now(UTC))}"
        with st.container(horizontal=True, vertical_alignment="center", key=f"running_{one.recording_id}"):
            of = f"{duration_text(one.done_s)} of {duration_text(one.total_s)}"
            st.progress(share, f"{ui.plain(one.name)}  \n:small[{ui.plain(f'{of}, {begun}')}]")
            cancel = partial(transcriptions.cancel, recording_ids=[one.recording_id])
            act("Cancel", cancel, at, icon="stop", key=f"cancel_{one.recording_id}")


def next_cells(row: Transcription, recording: RecordingRow) -> list[ui.TableCell]:
    asked = {"rule": "The rules", "page": "A person"}.get(row.requested_by, row.requested_by.capitalize())
    by: ui.TableCell = {"text": asked, "sub": f"with the model {row.model}"} if row.model else asked
    return [recording.name, duration_text(recording.duration_s), by]


@st.fragment(run_every=10)
@ui.show_errors
def failed(at: ui.Site) -> None:
    with reading(at.engine) as session:
        total = transcriptions.overview(session, at.active.id).failed
    if not total:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"{total:,} failed", anchor=False, width="content")
        retry = partial(queue_all, at, "failed")
        st.button("Retry all", icon=":material/replay:", key="retry_all", on_click=retry)
    place = st.container()
    before = pager(total, FAILED_ROWS, of="failed")
    with reading(at.engine) as session:
        rows = transcriptions.failed_ones(session, at.active.id, offset=before, limit=FAILED_ROWS)
    for row, recording in rows:
        with (
            place,
            st.container(border=True, horizontal=True, vertical_alignment="center", key=f"failed_{row.recording_id}"),
        ):
            when = ago_text(row.ended_at, datetime.now(UTC))
            st.markdown(f"**{ui.plain(recording.name)}**, {when}  \n{ui.plain(row.error)}", width="stretch")
            again = partial(ask_again, recording_ids=[row.recording_id])
            act("Retry", again, at, icon="replay", key=f"retry_{row.recording_id}")
            if st.button("Open", icon=":material/open_in_new:", key=f"open_{row.recording_id}"):
                go_to_page(CALL_PAGE, {"call": str(recording.call_id)})


def ask_again(session: object, connection_id: int, recording_ids: list[int]) -> None:
    transcriptions.queue_recordings(session, connection_id, recording_ids, requested_by="page")  # type: ignore[arg-type]


def rules_form(at: ui.Site) -> None:
    with reading(at.engine) as session:
        now = transcriptions.rules_of(session, at.active.id)
        queues = sorted({*call_queues(session, at.active.id), *now.queues})
    with st.form("rules", border=True):
        automatic = st.toggle("Transcribe new recordings by themselves, the newest first", now.automatic)
        shortest, longest = st.columns(2)
        least = shortest.number_input("Shortest, seconds", 0, LONGEST_S, int(now.min_duration_s or 0), help="0: any")
        most = longest.number_input(
            "Longest, minutes", 0, LONGEST_S // 60, int((now.max_duration_s or 0) / 60), help="0: any"
        )
        chosen_queues = st.multiselect("Queues", queues, now.queues, placeholder="All calls, queued or not")
        chosen_ways = st.multiselect(
            "Directions",
            get_args(CallDirection),
            now.directions,
            format_func=DIRECTIONS.__getitem__,
            placeholder="All directions",
        )
        ui.note("Calls outside these rules can be transcribed by hand, under Interactions.")
        if st.form_submit_button("Save rules", type="primary", icon=":material/save:"):
            rules = TranscriptionRules(
                connection_id=at.active.id,
                automatic=automatic,
                min_duration_s=float(least) or None,
                max_duration_s=most * 60.0 or None,
                queues=chosen_queues,
                directions=cast(list[str], chosen_ways),
            )
            with writing(at.engine) as session:
                transcriptions.save_rules(session, rules)
            st.toast("Rules saved.", icon=":material/check_circle:")


def engine_facts(at: ui.Site) -> None:
    """What transcribes, and whether it can."""
    own = at.settings
    there = is_present(own.whisper_model, own.whisper_engine, own.models_dir)
    at_work = anyone_alive(own.pbx_data_dir, "transcriber")
    weights = "On this machine" if there else "Not here yet; downloaded when the first recording is transcribed"
    server = (
        f"{own.analysis_model} at {own.analysis_server or 'an invalid address'}"
        if own.analysis_url
        else "This machine, without a language model"
    )
    ui.facts(
        {
            "Engine": own.whisper_engine,
            "Model": own.whisper_model,
            "Its weights": weights,
            "Runs on": {"auto": "The graphics card if there is one, else the processor"}.get(
                own.whisper_device, own.whisper_device
            ),
            "Language": {"auto": "Found out for each recording"}.get(own.whisper_language, own.whisper_language),
            "Summaries by": server,
            "Worker": "At work" if worker_alive(own) else "Not running",
            "Transcriber": "At work, the model in memory" if at_work else "Resting; it starts when something is queued",
        }
    )
    ui.note(
        "Set in the environment or .env: WHISPER_ENGINE, WHISPER_MODEL, WHISPER_DEVICE, WHISPER_LANGUAGE, ANALYSIS_URL."
    )


ui.head("Transcription", "What becomes text, how far it is, and by which rules")
site = ui.site()
live(site)
failed(site)
st.subheader("What is transcribed by itself", anchor=False)
rules_form(site)
st.subheader("What transcribes", anchor=False)
engine_facts(site)
