"""The sound of a recording, made ready for the browser: at once when that is quick, else by the worker."""

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
from pbx.store.models import Recording
from pbx.ui.active_pbx import Site
from pbx.ui.elements import plain, show_errors

LONG_S = 600  # what takes longer to hear than this is prepared by the worker, not while the page waits


@dataclass(frozen=True)
class PlayableSound:
    """What the browser plays, its length, its waveform (a list of peaks per channel), its technical facts."""

    playable: Path
    duration_s: float
    peaks: Sequence[Sequence[float]]
    about: str


def audio_path(site: Site, recording: Recording) -> Path | None:
    """Where the recording's file lies; None where it doesn't."""
    path = site.settings.audio_dir / recording.file
    return path if recording.state == "downloaded" and recording.file and path.is_file() else None


def load_sound(site: Site, recording: Recording) -> PlayableSound | None:
    """The recording's sound; None where there is none yet, and then the page says why."""
    path = audio_path(site, recording)
    if path is None:
        _say_missing(recording)
        return None
    try:
        ready = is_prepared(path, site.settings.playable_dir)
        if not ready and (recording.duration_s or 0) > LONG_S:
            _preparing(site, recording, path)
            return None
        with st.spinner("Preparing the audio", show_time=False):
            return _made(path, site.settings.playable_dir)
    except PbxError as error:
        st.warning(plain(error.advice), icon=":material/music_off:")
        return None


def _made(path: Path, cache_dir: Path) -> PlayableSound:
    playable, wave, known = render_playable(path, cache_dir), waveform(path, cache_dir), probe_audio(path)
    channels = {1: "mono", 2: "stereo"}.get(known.channels, f"{known.channels} channels")
    about = f"{known.codec}, {known.sample_rate / 1000:g} kHz, {channels}, {duration_text(known.duration_s)}"
    return PlayableSound(playable, wave.duration_s, wave.peaks, about)


def _say_missing(recording: Recording) -> None:
    if recording.state == "downloaded" and recording.file:
        st.warning("The file is no longer in data/audio. The next sync fetches it again.", icon=":material/draft:")
        return
    name, _ = RECORDING_STATES.get(recording.state, (recording.state, ""))
    st.info(plain(f"{name}. {recording.reason or 'The next sync fetches it.'}"), icon=":material/voicemail:")


@st.fragment(run_every=2)
@show_errors
def _preparing(site: Site, recording: Recording, path: Path) -> None:
    """Have a long recording prepared, and draw the page anew once it is."""
    if is_prepared(path, site.settings.playable_dir):
        st.rerun()
    with reading(site.engine) as session:
        job = last_job(session, "make_playable", connection_id=site.active.id)
    mine = job and job.options.get("recording_id") == recording.id
    if job and mine and job.state == "failed":
        st.warning(f"The audio could not be prepared. {plain(job.error)}", icon=":material/music_off:")
        if not st.button("Try again", key=f"prepare_{recording.id}"):
            return
    if not job or not mine or job.state in ("done", "failed"):  # of its kind one at a time
        request_job(
            site.engine, site.settings, "make_playable", requested_by="page", options={"recording_id": recording.id}
        )
    length = duration_text(recording.duration_s)
    st.info(f"The audio is being prepared ({length} long). It appears here by itself.", icon=":material/graphic_eq:")
