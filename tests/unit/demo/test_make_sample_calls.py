"""The tool that makes recordings from scripts, with a substitute for espeak-ng, and with espeak-ng if installed."""

import ctypes.util
import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from pbx.errors import PbxError
from pbx.speech.audio import load_sound, probe_audio
from tests.simulator.call_scripts import CALL_SCRIPTS
from tests.simulator.make_sample_calls import HZ, Espeak, Spoken, make_recording, to_wav


class HummingSynthesiser:
    """Speaks every line as half a second of a hum."""

    def say(self, text: str, voice: object) -> Spoken:
        return Spoken(np.sin(np.arange(HZ // 2) / 5) * 0.2, [(0.0, 0.5, text)])


def test_sound_written_as_g711_is_read_back(tmp_path: Path) -> None:
    t = np.arange(2 * HZ) / HZ
    left, right = 0.5 * np.sin(2 * np.pi * 440 * t), np.linspace(-1, 1, len(t)) * np.sin(2 * np.pi * 700 * t)
    path = tmp_path / "both.wav"
    path.write_bytes(to_wav(np.stack([left, right])))
    facts = probe_audio(path)
    assert (facts.codec, facts.channels, facts.duration_s) == ("pcm_mulaw", 2, 2.0)
    decoded = load_sound(path)[:, ::2]  # from 16 kHz
    for written, read in zip((left, right), decoded, strict=True):
        error = np.sqrt(np.mean((written[80:-80] - read[80:-80]) ** 2) / np.mean(written**2))
        assert error < 0.03  # G.711 has 38 dB at best


def test_a_script_with_a_wrong_duration_is_an_error() -> None:
    call_script = dataclasses.replace(CALL_SCRIPTS["voicemail"], duration_s=20)
    with pytest.raises(PbxError, match="voicemail lasts 5 s") as raised:
        make_recording(call_script, cast(Espeak, HummingSynthesiser()))
    assert "duration_s = 5" in raised.value.fix


def test_lines_start_at_the_times_of_the_script() -> None:
    call_script = dataclasses.replace(CALL_SCRIPTS["voicemail"], duration_s=5)
    _, segments = make_recording(call_script, cast(Espeak, HummingSynthesiser()))
    assert [(s["start_s"], s["end_s"]) for s in segments] == [(1.3, 1.8), (2.5, 3.0), (3.6, 4.1)]


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="only making recordings needs espeak-ng")
def test_the_synthesiser_reports_the_times_of_each_word() -> None:
    call_script = CALL_SCRIPTS["praise"]
    espeak = Espeak()
    spoken = espeak.say("Please ring 2041 tomorrow.", call_script.voices["caller"])
    assert [word for _, _, word in spoken.words] == ["Please", "ring", "2041", "tomorrow."]
    lengths = [end_s - start_s for start_s, end_s, _ in spoken.words]
    assert lengths.index(max(lengths)) == 2  # digit by digit
    assert spoken.words[-1][1] == pytest.approx(len(spoken.sound) / HZ, abs=0.02)
    with pytest.raises(PbxError, match="no voice"):
        espeak.say("Hello.", dataclasses.replace(call_script.voices["caller"], name="nobody"))
