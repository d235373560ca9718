"""A recording's audio for the browser. Short ones are converted immediately, long ones by the worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from pbx.errors import PbxError
from pbx.formatting import RECORDING_STATES, duration_text
from pbx.recordings.playable import is_prepared, render_playable, waveform
from pbx.speech.audio import probe_audio
from pbx.store.engine import reading
from pbx.store.job_queue import request_job
from pbx.store.job_rows import last_job
from pbx.store.models import RecordingRow
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import plain, show_errors

MAX_INLINE_S = 600  # longer recordings are prepared by the worker, so that the page doesn't wait


@dataclass(frozen=True)
class PlayableSound:
    """A recording ready to play: the file, its length, its waveform (a list of peaks per channel), its audio format."""

    playable: Path
    duration_s: float
    peaks: Sequence[Sequence[float]]
    audio_format: str


def audio_path(site: Site, recording: RecordingRow) -> Path | None:
    """Return the path of a recording's file; None if it is not on this machine."""
    path = site.settings.audio_dir / recording.file
    return path if recording.state == "downloaded" and recording.file and path.is_file() else None


def load_sound(site: Site, recording: RecordingRow) -> PlayableSound | None:
    """Return a recording ready to play; if it isn't, show why and return None."""
    path = audio_path(site, recording)
    if path is None:
        _show_missing(recording)
        return None
    try:
        ready = is_prepared(path, site.settings.playable_dir)
        if not ready and (recording.duration_s or 0) > MAX_INLINE_S:
            _show_preparation(site, recording, path)
            return None
        with st.spinner("Preparing the audio", show_time=False):
            return _playable_sound(path, site.settings.playable_dir)
    except PbxError as error:
        st.warning(plain(error.advice), icon=":material/music_off:")
        return None


def _playable_sound(path: Path, cache_dir: Path) -> PlayableSound:
    playable, wave, probed = render_playable(path, cache_dir), waveform(path, cache_dir), probe_audio(path)
    channels = {1: "mono", 2: "stereo"}.get(probed.channels, f"{probed.channels} channels")
    audio_format = f"{probed.codec}, {probed.sample_rate / 1000:g} kHz, {channels}, {duration_text(probed.duration_s)}"
    return PlayableSound(playable, wave.duration_s, wave.peaks, audio_format)


def _show_missing(recording: RecordingRow) -> None:
    if recording.state == "downloaded" and recording.file:
        st.warning("The file is no longer in data/audio. The next sync downloads it again.", icon=":material/draft:")
        return
    name, _ = RECORDING_STATES.get(recording.state, (recording.state, ""))
    st.info(plain(f"{name}. {recording.reason or 'The next sync downloads it.'}"), icon=":material/voicemail:")


@st.fragment(run_every=2)
@show_errors
def _show_preparation(site: Site, recording: RecordingRow, path: Path) -> None:
    """Have the worker prepare a long recording, and redraw the page when it is ready."""
    if is_prepared(path, site.settings.playable_dir):
        st.rerun()
    with reading(site.engine) as session:
        job = last_job(session, "make_playable", connection_id=site.active.id)
    is_this = job and job.options.get("recording_id") == recording.id
    if job and is_this and job.state == "failed":
        st.warning(f"The audio could not be prepared. {plain(job.error)}", icon=":material/music_off:")
        if not st.button("Try again", key=f"prepare_{recording.id}"):
            return
    if not job or not is_this or job.state in ("done", "failed"):  # the worker prepares one recording at a time
        request_job(
            site.engine, site.settings, "make_playable", requested_by="page", options={"recording_id": recording.id}
        )
    length = duration_text(recording.duration_s)
    st.info(f"Preparing the audio ({length}). It appears here automatically.", icon=":material/graphic_eq:")
