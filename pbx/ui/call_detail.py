"""The opened call: its sound with what was said, how far its transcript is, and all that is known of it."""

import time

import streamlit as st

from pbx.asterisk.formats.recording_names import leg_of
from pbx.demo.recordings import READY
from pbx.errors import PbxError
from pbx.formatting import DIRECTIONS, RECORDING_STATES, count_text, duration_text, size_text
from pbx.recordings.playable import PLAYABLE_TYPE
from pbx.store.calls import recordings_of
from pbx.store.engine import reading, writing
from pbx.store.models import Call, Recording, SegmentRow, Transcript
from pbx.store.transcripts import current_transcript, edit_segment, segments_of, speaker_of
from pbx.ui.active_pbx import Site
from pbx.ui.call_notes import show_call_notes
from pbx.ui.elements import facts, note, plain
from pbx.ui.exports import export_form
from pbx.ui.legs import show_legs
from pbx.ui.playback import PlayableSound, audio_path, load_sound
from pbx.ui.player import (
    ChannelWaveform,
    RejectedEdit,
    Seek,
    SegmentEdit,
    lines_json,
    player,
    speaker_name,
    speaker_tone,
    waveform_json,
)
from pbx.ui.summaries import show_summary
from pbx.ui.transcription_queue import ask_again, transcription_state

LONGEST_S = 1e6  # a second in an address beyond this is none


def show_call(site: Site, call: Call) -> None:
    """A call with everything about it; which one of its recordings is kept in the address."""
    with reading(site.engine) as session:
        recordings = recordings_of(session, call.id or 0)
    _header(site, call, len(recordings))
    chosen = _choose(site, recordings)
    if chosen is None:
        facts(_call_facts(site, call))
        show_legs(site, call.id or 0)
        return
    with reading(site.engine) as session:
        transcript = current_transcript(session, chosen.id or 0)
    with st.container(key=f"deck_{chosen.id}", gap="small"):
        sound = load_sound(site, chosen)
        if sound or transcript:
            _deck(site, call, chosen, sound, transcript)
    if chosen.state == "downloaded":
        transcription_state(site, chosen, transcript)
    summary, notes, details = st.tabs(["Summary", "Notes", "Details"])
    with summary:
        show_summary(site, chosen, transcript)
    with notes:
        show_call_notes(site, call)
    with details:
        _details(site, call, chosen, sound, transcript)


def close_call() -> None:
    for name in ("call", "t", "recording"):
        st.query_params.pop(name, None)


def _header(site: Site, call: Call, recordings: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="call_head"):
        with st.container(gap=None):
            title = f"{plain(call.from_number or 'Unknown')} → {plain(call.to_number or 'Unknown')}"
            st.subheader(title, anchor=False)
            said = [
                site.local(call.started_at) if call.started_at else "Unknown time",
                DIRECTIONS.get(call.direction, call.direction),
                f"queue {call.queue}" if call.queue else "",
                f"agent {site.agent_text(call.agent)}" if call.agent else "",
                duration_text(call.duration_s),
            ]
            note(" · ".join(filter(None, said)))
        if recordings:
            with st.popover("Export", icon=":material/ios_share:", type="tertiary"):
                export_form(site, [call.id or 0], f"call-{call.id}", key=f"export_{call.id}")
        st.button("Close", icon=":material/close:", type="tertiary", on_click=close_call, key="close_call")


def _choose(site: Site, recordings: list[Recording]) -> Recording | None:
    """The recording to hear: of several the one in the address, else the first."""
    if len(recordings) < 2:
        return recordings[0] if recordings else None
    by_id = {str(recording.id): recording for recording in recordings}
    names = {
        number: f"{count}. {site.local(recording.started_at, seconds=True)}, {duration_text(recording.duration_s)}"
        for count, (number, recording) in enumerate(by_id.items(), 1)
    }
    numbers, asked = list(by_id), st.query_params.get("recording")
    key = f"recording_of_{recordings[0].call_id}"
    chosen = st.selectbox(
        f"{count_text(len(recordings), 'recording')} of this call",
        numbers,
        numbers.index(asked) if asked in by_id else 0,
        key=key,
        format_func=lambda number: names[number],
        filter_mode=None,
        on_change=lambda: _remember_recording(key),
    )
    return by_id[chosen]


def _remember_recording(key: str) -> None:
    st.query_params["recording"] = st.session_state[key]
    st.query_params.pop("t", None)  # a second of the other one


@st.cache_data(max_entries=16, ttl=600, show_spinner=False)
def _said(
    _site: Site,
    _sound: PlayableSound | None,
    playable: str,
    sides: tuple[str, str],
    transcript: tuple[int, int, str] | None,
) -> tuple[str, str]:
    """Waveform and lines as the player takes them, made once: 100,000 words take a while to read and to write.

    `sides`: the call's direction and the recording's leg, which tell who is on which channel. `transcript`: its id, how
    many channels it has, when it was made. The playable file's name tells one content of a recording from another.
    """
    rows: list[SegmentRow] = []
    heard = _sound.peaks if _sound else []
    channels = len(heard)
    if transcript:
        channels = max(channels, transcript[1])
        with reading(_site.engine) as session:
            rows = segments_of(session, transcript[0])
    lanes = []
    for channel, peaks in enumerate(heard):
        speaker = speaker_of(sides[0], len(heard), channel, sides[1])
        name = speaker_name(speaker, channel, len(heard))
        lanes.append(ChannelWaveform(name, speaker_tone(speaker, channel, len(heard)), peaks))
    return waveform_json(lanes, rows, _sound.duration_s) if _sound else "", lines_json(rows, channels)


def _deck(
    site: Site, call: Call, recording: Recording, sound: PlayableSound | None, transcript: Transcript | None
) -> None:
    """The player, or what was said alone where there is no sound; an edit is kept, or offered again with the reason."""
    if sound:
        with st.container(key=f"sound_{recording.id}"):
            st.audio(sound.playable, format=PLAYABLE_TYPE, alt="Recording of the call")
    sides = (call.direction, leg_of(recording.name))
    made = (transcript.id or 0, transcript.channels, str(transcript.created_at)) if transcript else None
    wave, lines = _said(site, sound, str(sound.playable.resolve()) if sound else "", sides, made)
    edit = player(
        key=f"player_{recording.id}",
        sound=f"sound_{recording.id}" if sound else "",
        wave=wave,
        lines=lines,
        duration_s=sound.duration_s if sound else None,
        seek=_wanted_moment(recording.id or 0),
        refused=st.session_state.pop("refused_edit", None),
    )
    if transcript and transcript.engine == READY:
        note("Ready transcript of the demo (its script), not made by a model")
    if transcript and lines == "[]":
        note("No speech was found in this recording.")
    if edit and transcript:
        _keep(site, transcript, edit)


def _wanted_moment(recording_id: int) -> Seek | None:
    """Where to begin: a moment just picked on the page, else the second in the address."""
    picked = st.session_state.pop("picked_moment", None)
    if picked and picked[0] == recording_id:
        return Seek(picked[1], picked[2], play=True)
    try:
        at_s = float(st.query_params.get("t", ""))
    except ValueError:
        return None
    return Seek(at_s, f"{recording_id} {at_s}") if 0 <= at_s < LONGEST_S else None


def _keep(site: Site, transcript: Transcript, edit: SegmentEdit) -> None:
    try:
        with writing(site.engine) as session:
            row = session.get(SegmentRow, edit.segment_id)
            if row is None or row.transcript_id != transcript.id:
                raise PbxError("This line is no longer there; the recording was transcribed again.", "Open it again.")
            edit_segment(session, edit.segment_id, edit.text)
    except PbxError as error:
        st.session_state["refused_edit"] = RejectedEdit(edit, error.advice, str(time.monotonic_ns()))
    _said.clear()
    st.rerun()


def _details(
    site: Site, call: Call, recording: Recording, sound: PlayableSound | None, transcript: Transcript | None
) -> None:
    facts(_call_facts(site, call) | _recording_facts(site, recording, sound) | _transcript_facts(site, transcript))
    show_legs(site, call.id or 0)
    path = audio_path(site, recording)
    with st.container(horizontal=True):
        if path:
            st.download_button(
                "Download the original",
                lambda: path.read_bytes(),
                file_name=recording.name.rpartition("/")[2] + f".{recording.format}",
                icon=":material/download:",
                on_click="ignore",
                key=f"download_{recording.id}",
            )
        if transcript:
            ask_again(site, recording, transcript)


def _call_facts(site: Site, call: Call) -> dict[str, str]:
    return {
        "Started": f"{site.local(call.started_at, seconds=True)} ({site.zone_name})" if call.started_at else "Unknown",
        "Direction": DIRECTIONS.get(call.direction, call.direction),
        "From": call.from_number,
        "To": call.to_number,
        "Queue": call.queue,
        "Agent": site.agent_text(call.agent),
        "Length": duration_text(call.duration_s),
        "State": RECORDING_STATES.get(call.state, (call.state, ""))[0],
        "Linked ID": call.linkedid,
        "Source": site.source_name(call.source),
    }


def _recording_facts(site: Site, recording: Recording, sound: PlayableSound | None) -> dict[str, str]:
    about = {"Recording": recording.name, "Format": recording.format, "Size": size_text(recording.size_bytes)}
    if sound:
        about["Sound"] = sound.about
    if recording.gone_at:
        about["On the PBX"] = f"deleted; first missed {site.local(recording.gone_at)}"
    return about


def _transcript_facts(site: Site, transcript: Transcript | None) -> dict[str, str]:
    if transcript is None:
        return {}
    made = f"{site.local(transcript.created_at)} by {transcript.engine}, model {transcript.model}"
    if transcript.engine == READY:
        made = f"ready: the demo’s script {transcript.model}; no model made it"
    about = {"Transcript": made, "Language": transcript.language}
    if transcript.duration_s:
        about["Voice"] = f"{duration_text(transcript.speech_s)} of {duration_text(transcript.duration_s)}"
    return about
