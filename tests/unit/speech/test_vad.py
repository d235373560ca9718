"""Voice is detected in blocks of any length; silence, noise and tones contain none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pbx.errors import ModelError
from pbx.speech import vad
from pbx.speech.audio import load_sound
from pbx.speech.vad import SpeechSpan, VoiceDetector, find_voice
from tests.unit.speech.sounds import AUDIO, RATE, hiss, silence, sine

PAUSE_S = 2.0


@pytest.fixture(scope="session")
def phrases() -> list[np.ndarray]:
    """Two sentences and a "no" at telephone quality, without silence around them."""
    return [load_sound(AUDIO / f"phrase-{number}.ulaw")[0] for number in (1, 2, 3)]


@pytest.fixture(scope="session")
def call(phrases: list[np.ndarray]) -> tuple[np.ndarray, list[SpeechSpan]]:
    """Phrases with pauses before, between and after them, and the span of each."""
    sound, expected = silence(PAUSE_S), []
    for phrase in phrases:
        expected.append(SpeechSpan(len(sound) / RATE, (len(sound) + len(phrase)) / RATE))
        sound = np.concatenate([sound, phrase, silence(PAUSE_S)])
    return sound, expected


def assert_found(found: list[SpeechSpan], expected: list[SpeechSpan]) -> None:
    """Check that each phrase was found completely, with at most half a second around it."""
    assert len(found) == len(expected)
    for span, phrase in zip(found, expected, strict=True):
        assert phrase.start_s - 0.5 < span.start_s <= phrase.start_s + 0.05
        assert phrase.end_s - 0.1 <= span.end_s < phrase.end_s + 0.5


@pytest.mark.parametrize("level", [1.0, 0.03], ids=["loud", "30 dB softer"])
def test_each_phrase_is_a_span(level: float, call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, expected = call
    assert_found(find_voice(sound * np.float32(level)), expected)


def test_voice_on_a_noisy_line_is_found(call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, expected = call
    assert_found(find_voice(sound + hiss(len(sound) / RATE, 0.005)[: len(sound)]), expected)


def test_clipped_voice_is_found(call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, expected = call
    assert_found(find_voice(np.clip(sound * 20, -1, 1)), expected)


@pytest.mark.parametrize("size", [100, 5000, 70_001])
def test_blocks_of_any_length_give_the_same_result(size: int, call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, _ = call
    spans = find_voice(sound)
    detector = VoiceDetector(at_s=1000.0)
    found = [span for at in range(0, len(sound), size) for span in detector.feed(sound[at : at + size])]
    found += detector.finish()
    assert [(span.start_s - 1000, span.end_s - 1000) for span in found] == [
        pytest.approx((span.start_s, span.end_s), abs=1e-6) for span in spans
    ]


def test_a_span_is_reported_as_soon_as_it_ends(call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, expected = call
    detector = VoiceDetector()
    until, after = int(expected[0].start_s * RATE) + 4000, int((expected[0].end_s + 1) * RATE)
    assert detector.settled_s == 0
    assert detector.feed(sound[:until]) == []
    assert expected[0].start_s - 0.5 < detector.settled_s <= expected[0].start_s
    (found,) = detector.feed(sound[until:after])
    assert_found([found], expected[:1])
    assert found.end_s < detector.settled_s <= after / RATE


def test_speech_without_a_pause_is_one_span(phrases: list[np.ndarray]) -> None:
    sound = np.concatenate(phrases[:2] * 15)
    assert find_voice(sound) == [SpeechSpan(0, len(sound) / RATE)]


def test_speech_at_the_end_of_the_sound_ends_there(phrases: list[np.ndarray]) -> None:
    cut = np.concatenate([silence(1), phrases[1][:RATE]])
    (found,) = find_voice(cut)
    assert found.end_s == len(cut) / RATE


@pytest.mark.parametrize(
    "sound",
    [
        silence(20),
        hiss(20, 0.1),
        hiss(20, 0.003),
        np.clip(hiss(20, 0.5) * 20, -1, 1),
        sine(425, 20),
        hiss(0.2, 0.1),
        silence(0),
        silence(1 / RATE),
    ],
    ids=["silence", "noise", "soft noise", "clipped noise", "tone", "0.2 s", "nothing", "a sample"],
)
def test_sound_without_speech_has_no_spans(sound: np.ndarray) -> None:
    assert find_voice(sound) == []


def test_two_detectors_share_only_the_model(call: tuple[np.ndarray, list[SpeechSpan]]) -> None:
    sound, _ = call
    first, second = VoiceDetector(), VoiceDetector()
    found, silent = [], []
    for at in range(0, len(sound), RATE):
        found += first.feed(sound[at : at + RATE])
        silent += second.feed(silence(1))
    assert found + first.finish() == find_voice(sound)
    assert silent + second.finish() == []


def test_detecting_imports_neither_torch_nor_silero_vad() -> None:
    """The silero-vad package, when imported, sets torch to one thread: Whisper would be slow from then on."""
    code = (
        "import sys, numpy as np\nfrom pbx.speech.vad import find_voice\nassert 'onnxruntime' not in sys.modules\n"
        "find_voice(np.zeros(16000, np.float32))\nprint([m for m in ('torch', 'silero_vad') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


def test_a_missing_model_raises_an_error_with_its_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vad, "_MODEL", "data/gone.onnx")
    vad._load_session.cache_clear()
    try:
        with pytest.raises(ModelError, match="not installed") as caught:
            VoiceDetector()
        assert "pip install" in caught.value.fix
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(b"no model" * 99)
        monkeypatch.setattr(vad, "_MODEL", str(damaged))
        with pytest.raises(ModelError, match="can't be loaded"):
            VoiceDetector()
    finally:
        vad._load_session.cache_clear()
