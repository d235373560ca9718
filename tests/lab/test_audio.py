"""What a real Asterisk writes in each format lasts as long as the WAV of the same call, and sounds the same."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from pbx.speech.audio import probe_audio
from pbx.speech.playable import render_playable
from tests.lab.ami import Ami
from tests.lab.server import LabServer, wait_until

pytestmark = pytest.mark.lab

# Opus is left out: at 48 kHz MixMonitor itself skips and repeats. A busy machine makes all of them skip a little.
FORMATS = ["WAV", "wav16", "gsm", "ulaw", "alaw", "sln", "sln16", "g722", "g726-16", "g726-32", "au", "ogg"]
SPOKEN_S = 5


@pytest.fixture
def recordings(server: LabServer) -> Iterator[Path]:
    """A folder where one call is recorded in each format at the same time."""
    folder = server.monitor / "formats"
    folder.mkdir(exist_ok=True)
    try:
        with Ami(server.host, server.ami_port) as ami:
            ami.login(server.ami_username, server.ami_secret, "call")
            ami.action(
                "Originate",
                {"Channel": "Local/s@caller/n", "Application": "Playback", "Data": "demo-congrats", "Async": "true"},
            )
            channel = ami.wait_event(Event="OriginateResponse", Application="Playback")["Channel"]
            for suffix in ["wav", *FORMATS]:
                ami.action("MixMonitor", {"Channel": channel, "File": f"formats/call.{suffix}"})
            time.sleep(SPOKEN_S)
            ami.action("Hangup", {"Channel": channel})
        wait_until("the WAV's header is filled in", lambda: (folder / "call.wav").read_bytes()[40:44] != bytes(4))
        yield folder
    finally:
        shutil.rmtree(folder)


def timbre(playable: Path) -> np.ndarray:
    """The mean strength of each pitch of telephone speech, in dB: skips don't change it, a wrong decoder does."""
    with av.open(str(playable)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    pieces = sound[: len(sound) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    power = (np.abs(np.fft.rfft(pieces)) ** 2).mean(axis=0)  # 15.6 Hz each
    return 10 * np.log10(power[20:210].reshape(-1, 5).mean(axis=1))


def test_every_format_lasts_and_sounds_as_the_wav(recordings: Path, tmp_path: Path) -> None:
    wav = recordings / "call.wav"
    expected, spoken = probe_audio(wav), timbre(render_playable(wav, tmp_path))
    assert expected.duration_s == pytest.approx(SPOKEN_S, abs=1)
    assert spoken.max() > 0
    for suffix in FORMATS:
        recording = recordings / f"call.{suffix}"
        facts = probe_audio(recording)
        playable = render_playable(recording, tmp_path)
        assert facts.duration_s == pytest.approx(expected.duration_s, abs=0.5), suffix
        assert probe_audio(playable).duration_s == pytest.approx(facts.duration_s, abs=0.03), suffix
        assert np.abs(timbre(playable) - spoken).mean() < 4, suffix
