"""The open call: player and transcript, summary, notes and details."""

import time

import streamlit as st

from pbx.asterisk.formats.recording_names import leg_of
from pbx.errors import PbxError
from pbx.formatting import DIRECTIONS, RECORDING_STATES, count_text, duration_text, size_text
from pbx.recordings.playable import PLAYABLE_TYPE
from pbx.store.calls import recordings_of
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow, RecordingRow, SegmentRow, Transcript
from pbx.store.transcripts import SCRIPT_ENGINE, current_transcript, edit_segment, segments_of, speaker_of
from pbx.ui.active_pbx import Site
from pbx.ui.call_legs import show_legs
from pbx.ui.call_notes import show_call_notes
from pbx.ui.call_summary import show_summary
from pbx.ui.exports import export_form
from pbx.ui.page_elements import facts, note, plain
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
from pbx.ui.transcription_queue import transcribe_again, transcription_state

MAX_POSITION_S = 1e6  # a larger position in the URL is ignored


def show_call(site: Site, call: CallRow) -> None:
    """Draw a call with everything known about it. The selected recording is in the URL."""
    with reading(site.engine) as session:
        recordings = recordings_of(session, call.id or 0)
    _header(site, call, bool(recordings))
    recording = _select_recording(site, recordings)
    if recording is None:
        facts(_call_facts(site, call))
        show_legs(site, call.id or 0)
        return
    with reading(site.engine) as session:
        transcript = current_transcript(session, recording.id or 0)
    with st.container(key=f"deck_{recording.id}", gap="small"):
        sound = load_sound(site, recording)
        if sound or transcript:
            _player(site, call, recording, sound, transcript)
    if recording.state == "downloaded":
        transcription_state(site, recording, transcript)
    summary, notes, details = st.tabs(["Summary", "Notes", "Details"])
    with summary:
        show_summary(site, recording, transcript)
    with notes:
        show_call_notes(site, call)
    with details:
        _details(site, call, recording, sound, transcript)


def close_call() -> None:
    """Remove the call from the URL. For a button's callback."""
    for name in ("call", "t", "recording"):
        st.query_params.pop(name, None)


def _header(site: Site, call: CallRow, has_recordings: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="call_head"):
        with st.container(gap=None):
            title = f"{plain(call.from_number or 'Unknown')} → {plain(call.to_number or 'Unknown')}"
            st.subheader(title, anchor=False)
            details = [
                site.local(call.started_at) if call.started_at else "Unknown time",
                DIRECTIONS.get(call.direction, call.direction),
                f"Queue {call.queue}" if call.queue else "",
                f"Agent {site.agent_text(call.agent)}" if call.agent else "",
                "" if call.duration_s is None else duration_text(call.duration_s),
            ]
            note(" · ".join(filter(None, details)))
        if has_recordings:
            with st.popover("Export", icon=":material/ios_share:", type="tertiary"):
                export_form(site, [call.id or 0], f"call-{call.id}", key=f"export_{call.id}")
        st.button("Close", icon=":material/close:", type="tertiary", on_click=close_call, key="close_call")


def _select_recording(site: Site, recordings: list[RecordingRow]) -> RecordingRow | None:
    """Return the recording to show: if there are several, the one in the URL, otherwise the first."""
    if len(recordings) < 2:
        return recordings[0] if recordings else None
    by_id = {str(recording.id): recording for recording in recordings}
    names = {
        number: f"{count}. {site.local(recording.started_at, seconds=True)}, {duration_text(recording.duration_s)}"
        for count, (number, recording) in enumerate(by_id.items(), 1)
    }
    numbers, requested = list(by_id), st.query_params.get("recording")
    key = f"recording_of_{recordings[0].call_id}"
    selected = st.selectbox(
        f"{count_text(len(recordings), 'recording')} of this call",
        numbers,
        numbers.index(requested) if requested in by_id else 0,
        key=key,
        format_func=lambda number: names[number],
        filter_mode=None,
        on_change=lambda: _write_recording_to_url(key),
    )
    return by_id[selected]


def _write_recording_to_url(key: str) -> None:
    st.query_params["recording"] = st.session_state[key]
    st.query_params.pop("t", None)  # a position in the other recording


@st.cache_data(max_entries=16, ttl=600, show_spinner=False)
def _player_data(
    _site: Site,
    _sound: PlayableSound | None,
    playable: str,
    sides: tuple[str, str],
    transcript: tuple[int, int, str] | None,
) -> tuple[str, str]:
    """Return the waveform and the lines as JSON for the player. Cached, because 100,000 words take a while.

    `sides`: the call's direction and the recording's leg, which determine who is on which channel. `transcript`: its
    id, its number of channels, and when it was made. `playable`: the path of the playable file, whose name changes
    when the recording does.
    """
    rows: list[SegmentRow] = []
    peaks_by_channel = _sound.peaks if _sound else []
    channels = len(peaks_by_channel)
    if transcript:
        channels = max(channels, transcript[1])
        with reading(_site.engine) as session:
            rows = segments_of(session, transcript[0])
    lanes = []
    for channel, peaks in enumerate(peaks_by_channel):
        speaker = speaker_of(sides[0], len(peaks_by_channel), channel, sides[1])
        name = speaker_name(speaker, channel, len(peaks_by_channel))
        lanes.append(ChannelWaveform(name, speaker_tone(speaker, channel, len(peaks_by_channel)), peaks))
    return waveform_json(lanes, rows, _sound.duration_s) if _sound else "", lines_json(rows, channels)


def _player(
    site: Site, call: CallRow, recording: RecordingRow, sound: PlayableSound | None, transcript: Transcript | None
) -> None:
    """Draw the player, or the transcript alone if there is no audio; save an edit, or show why it can't be saved."""
    if sound:
        with st.container(key=f"sound_{recording.id}"):
            st.audio(sound.playable, format=PLAYABLE_TYPE, alt="Recording of the call")
    sides = (call.direction, leg_of(recording.name))
    made = (transcript.id or 0, transcript.channels, str(transcript.created_at)) if transcript else None
    wave, lines = _player_data(site, sound, str(sound.playable.resolve()) if sound else "", sides, made)
    edit = player(
        key=f"player_{recording.id}",
        sound=f"sound_{recording.id}" if sound else "",
        wave=wave,
        lines=lines,
        duration_s=sound.duration_s if sound else None,
        seek=_requested_position(recording.id or 0),
        refused=st.session_state.pop("refused_edit", None),
    )
    if transcript and transcript.engine == SCRIPT_ENGINE:
        note("Transcript from a script, not made by a speech model")
    if transcript and lines == "[]":
        note("No speech was found in this recording.")
    if edit and transcript:
        _save_edit(site, transcript, edit)


def _requested_position(recording_id: int) -> Seek | None:
    """Return the position to go to: the one just clicked on the page, otherwise the one in the URL."""
    picked = st.session_state.pop("picked_moment", None)
    if picked and picked[0] == recording_id:
        return Seek(picked[1], picked[2], play=True)
    try:
        at_s = float(st.query_params.get("t", ""))
    except ValueError:
        return None
    return Seek(at_s, f"{recording_id} {at_s}") if 0 <= at_s < MAX_POSITION_S else None


def _save_edit(site: Site, transcript: Transcript, edit: SegmentEdit) -> None:
    try:
        with writing(site.engine) as session:
            row = session.get(SegmentRow, edit.segment_id)
            if row is None or row.transcript_id != transcript.id:
                raise PbxError(
                    "The recording was transcribed again, so this line no longer exists.", "Reload the page."
                )
            edit_segment(session, edit.segment_id, edit.text)
    except PbxError as error:
        st.session_state["refused_edit"] = RejectedEdit(edit, error.advice, str(time.monotonic_ns()))
    _player_data.clear()
    st.rerun()


def _details(
    site: Site, call: CallRow, recording: RecordingRow, sound: PlayableSound | None, transcript: Transcript | None
) -> None:
    facts(_call_facts(site, call) | _recording_facts(site, recording, sound) | _transcript_facts(site, transcript))
    show_legs(site, call.id or 0)
    path = audio_path(site, recording)
    with st.container(horizontal=True):
        if path:
            st.download_button(
                "Download the recording",
                lambda: path.read_bytes(),
                file_name=recording.name.rpartition("/")[2] + f".{recording.format}",
                icon=":material/download:",
                on_click="ignore",
                key=f"download_{recording.id}",
            )
        if transcript:
            transcribe_again(site, recording, transcript)


def _call_facts(site: Site, call: CallRow) -> dict[str, str]:
    return {
        "Started": f"{site.local(call.started_at, seconds=True)} ({site.zone_name})" if call.started_at else "Unknown",
        "Direction": DIRECTIONS.get(call.direction, call.direction),
        "From": call.from_number,
        "To": call.to_number,
        "Queue": call.queue,
        "Agent": site.agent_text(call.agent),
        "Duration": "" if call.duration_s is None else duration_text(call.duration_s),
        "Recording": RECORDING_STATES.get(call.state, (call.state, ""))[0],
        "Call ID (linkedid)": call.linkedid,
        "Source": site.source_name(call.source),
    }


def _recording_facts(site: Site, recording: RecordingRow, sound: PlayableSound | None) -> dict[str, str]:
    found = {"Recording name": recording.name, "Format": recording.format, "Size": size_text(recording.size_bytes)}
    if sound:
        found["Audio"] = sound.audio_format
    if recording.gone_at:
        found["On the PBX"] = f"Deleted (noticed {site.local(recording.gone_at)})"
    return found


def _transcript_facts(site: Site, transcript: Transcript | None) -> dict[str, str]:
    if transcript is None:
        return {}
    made = f"Made {site.local(transcript.created_at)} by {transcript.engine}, model {transcript.model}"
    if transcript.engine == SCRIPT_ENGINE:
        made = f"From the script {transcript.model}, not made by a speech model"
    found = {"Transcript": made, "Language": transcript.language}
    if transcript.duration_s:
        found["Speech"] = f"{duration_text(transcript.speech_s)} of {duration_text(transcript.duration_s)}"
    return found
