"""The tool that makes recordings from scripts: with a stand-in for espeak-ng, and with espeak-ng if it is installed."""

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


class Hum:
    """Says every line as half a second of a hum."""

    def say(self, text: str, voice: object) -> Spoken:
        return Spoken(np.sin(np.arange(HZ // 2) / 5) * 0.2, [(0.0, 0.5, text)])


def test_what_is_written_as_g711_is_heard_again(tmp_path: Path) -> None:
    t = np.arange(2 * HZ) / HZ
    left, right = 0.5 * np.sin(2 * np.pi * 440 * t), np.linspace(-1, 1, len(t)) * np.sin(2 * np.pi * 700 * t)
    path = tmp_path / "both.wav"
    path.write_bytes(to_wav(np.stack([left, right])))
    facts = probe_audio(path)
    assert (facts.codec, facts.channels, facts.duration_s) == ("pcm_mulaw", 2, 2.0)
    heard = load_sound(path)[:, ::2]  # from 16 kHz
    for written, read in zip((left, right), heard, strict=True):
        error = np.sqrt(np.mean((written[80:-80] - read[80:-80]) ** 2) / np.mean(written**2))
        assert error < 0.03  # G.711 has 38 dB at best


def test_a_script_of_another_length_is_an_error() -> None:
    call_script = dataclasses.replace(CALL_SCRIPTS["voicemail"], duration_s=20)
    with pytest.raises(PbxError, match="voicemail lasts 5 s") as raised:
        make_recording(call_script, cast(Espeak, Hum()))
    assert "duration_s = 5" in raised.value.fix


def test_lines_follow_each_other_as_written() -> None:
    call_script = dataclasses.replace(CALL_SCRIPTS["voicemail"], duration_s=5)
    _, segments = make_recording(call_script, cast(Espeak, Hum()))
    assert [(s["start_s"], s["end_s"]) for s in segments] == [(1.3, 1.8), (2.5, 3.0), (3.6, 4.1)]


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is for who makes recordings")
def test_the_synthesiser_tells_where_each_word_is() -> None:
    call_script = CALL_SCRIPTS["praise"]
    espeak = Espeak()
    spoken = espeak.say("Please ring 2041 tomorrow.", call_script.voices["caller"])
    assert [word for _, _, word in spoken.words] == ["Please", "ring", "2041", "tomorrow."]
    lengths = [end_s - start_s for start_s, end_s, _ in spoken.words]
    assert lengths.index(max(lengths)) == 2  # digit by digit
    assert spoken.words[-1][1] == pytest.approx(len(spoken.sound) / HZ, abs=0.02)
    with pytest.raises(PbxError, match="no voice"):
        espeak.say("Hello.", dataclasses.replace(call_script.voices["caller"], name="nobody"))
