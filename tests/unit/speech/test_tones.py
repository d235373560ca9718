"""Music and ringing are detected; speech, noise, silence, clipping and other tones are not taken for them."""

import numpy as np
import pytest

from pbx.speech.audio import load_sound
from pbx.speech.tones import Tone, ToneDetector, find_tones, resolve_overlaps
from pbx.speech.vad import SpeechSpan
from tests.unit.speech.sounds import AUDIO, RATE, hiss, silence, sine

LINE = 0.002  # noise of a telephone line


@pytest.fixture(scope="session")
def talk() -> np.ndarray:
    """Five voices, 22.6 s."""
    return load_sound(AUDIO / "talk.ulaw")[0]


def melody(length_s: float, seed: int = 0, note_s: float = 0.5) -> np.ndarray:
    """Fading three-note chords with overtones, over a beat of noise."""
    random = np.random.default_rng(seed)
    notes = []
    for _ in range(int(length_s / note_s) + 1):
        moments = np.arange(int(note_s * RATE)) / RATE
        chord = 220 * 2 ** (random.choice([0, 2, 4, 5, 7, 9, 11, 12, 14], 3, replace=False) / 12)
        note = sum(np.sin(2 * np.pi * pitch * n * moments) / n for pitch in chord for n in (1, 2, 3, 4))
        beat = random.normal(size=len(moments)) * np.exp(-moments * 30)
        notes.append(0.05 * note * np.exp(-moments * 2) + 0.1 * beat)
    return np.concatenate(notes)[: int(length_s * RATE)].astype(np.float32)


def cadence(pitches: tuple[float, ...], *on_off_s: float, length_s: float = 30, level: float = 0.1) -> np.ndarray:
    """A tone on a noisy telephone line that repeats a pattern of on and off times."""
    moments = np.arange(int(length_s * RATE)) / RATE
    phase, edge, sounding = moments % sum(on_off_s), 0.0, np.zeros(len(moments), bool)
    for number, part_s in enumerate(on_off_s):
        if number % 2 == 0:
            sounding |= (phase >= edge) & (phase < edge + part_s)
        edge += part_s
    tone = sum(sine(pitch, length_s, level=level) for pitch in pitches)
    return (tone * sounding + hiss(length_s, LINE)).astype(np.float32)


RING_BACKS = {
    "Europe": cadence((425,), 1, 4),
    "America": cadence((440, 480), 2, 4),
    "Britain": cadence((400, 450), 0.4, 0.2, 0.4, 2),
    "soft": cadence((425,), 1, 4, level=0.01),
}
OTHER_SOUNDS = {
    "silence": silence(20),
    "noise": hiss(20, 0.1),
    "soft noise": hiss(20, 0.0003),
    "clipped noise": np.clip(hiss(20, 10), -1, 1),
    "busy, Europe": cadence((425,), 0.5, 0.5),
    "busy, America": cadence((480, 620), 0.5, 0.5),
    "congestion": cadence((425,), 0.25, 0.25),
    "dialling, Europe": sine(425, 30),
    "dialling, America": sine(350, 30) + sine(440, 30),
    "hum": sine(100, 30, level=0.05) + sine(250, 30, level=0.05) + hiss(30, LINE),
    "milliwatt": sine(1004, 30),
    "fax": cadence((1100,), 0.5, 3),
    "keypad": cadence((770, 1336), 0.2, 0.2),
    "clicks": np.where(np.arange(20 * RATE) % 4000 == 0, np.float32(0.9), np.float32(0)),
    "0.2 s": melody(0.2),
    "empty": silence(0),
}


@pytest.mark.parametrize("name", RING_BACKS)
def test_ringing_is_one_tone_including_its_pauses(name: str) -> None:
    (found,) = find_tones(RING_BACKS[name])
    assert found.kind == "ringing"
    assert found.start_s < 0.2
    assert 25.5 < found.end_s < 28.5


def test_a_single_ring_is_detected() -> None:
    (found,) = find_tones(np.concatenate([silence(3), sine(425, 1), silence(2)]))
    assert (found.start_s, found.end_s, found.kind) == (pytest.approx(3, abs=0.1), pytest.approx(4, abs=0.1), "ringing")


def test_ringing_ends_when_somebody_answers(talk: np.ndarray) -> None:
    ringing = RING_BACKS["Europe"][: int(12.5 * RATE)]
    (found,) = find_tones(np.concatenate([ringing, talk]))
    assert (found.start_s, found.end_s, found.kind) == (
        pytest.approx(0, abs=0.1),
        pytest.approx(11, abs=0.2),
        "ringing",
    )


@pytest.mark.parametrize("note_s", [0.4, 0.7, 2.0])
@pytest.mark.parametrize("level", [1.0, 0.1, 30.0], ids=["loud", "soft", "clipped"])
def test_music_is_detected(note_s: float, level: float) -> None:
    found = find_tones(np.clip(np.float32(level) * melody(40, note_s=note_s), -1, 1))
    assert {tone.kind for tone in found} == {"music"}
    assert sum(tone.end_s - tone.start_s for tone in found) > 35


def test_music_between_speech_is_detected(talk: np.ndarray) -> None:
    sound = np.concatenate([talk, melody(20), talk])
    begin_s = len(talk) / RATE
    (found,) = find_tones(sound)
    assert (found.start_s, found.end_s) == (pytest.approx(begin_s, abs=2), pytest.approx(begin_s + 20, abs=2))


def test_minutes_of_music_are_reported_in_adjacent_pieces() -> None:
    detector, sound, found = ToneDetector(), melody(150), []
    for at in range(0, len(sound), 10 * RATE):
        found += detector.feed(sound[at : at + 10 * RATE])
        assert detector.settled_s > at / RATE - 65
    found += detector.finish()
    assert len(found) == 3
    assert [tone.start_s for tone in found[1:]] == [tone.end_s for tone in found[:-1]]
    assert (found[0].start_s, found[-1].end_s) == (pytest.approx(0, abs=1), pytest.approx(150, abs=1))


@pytest.mark.parametrize("level", [1.0, 0.05, 30.0], ids=["loud", "soft", "clipped"])
@pytest.mark.parametrize("noise", [0.0, 0.01], ids=["clean", "noisy"])
def test_speech_is_neither_music_nor_ringing(level: float, noise: float, talk: np.ndarray) -> None:
    sound = np.tile(talk, 3) * np.float32(level)
    assert find_tones(np.clip(sound + hiss(len(sound) / RATE + 1, noise)[: len(sound)], -1, 1)) == []


@pytest.mark.parametrize("name", OTHER_SOUNDS)
def test_other_sounds_are_neither_music_nor_ringing(name: str) -> None:
    assert find_tones(OTHER_SOUNDS[name]) == []


def test_speech_over_a_hum_is_neither_music_nor_ringing(talk: np.ndarray) -> None:
    sound = np.concatenate([talk, silence(20), talk])
    hum = sine(150, 70, level=0.006) + sine(250, 70, level=0.006)
    assert find_tones(sound + hum[: len(sound)]) == []


@pytest.mark.parametrize("size", [333, 5000, 70_001])
def test_blocks_of_any_length_give_the_same_result(size: int, talk: np.ndarray) -> None:
    sound = np.concatenate([RING_BACKS["America"], talk, melody(20), talk])
    expected = find_tones(sound)
    assert [tone.kind for tone in expected] == ["ringing", "music"]
    detector, found = ToneDetector(at_s=500), []
    for at in range(0, len(sound), size):
        settled_s = detector.settled_s
        new = detector.feed(sound[at : at + size])
        assert all(tone.start_s >= settled_s for tone in new)
        found += new
    found += detector.finish()
    shifted = [Tone(tone.start_s - 500, tone.end_s - 500, tone.kind) for tone in sorted(found, key=lambda t: t.start_s)]
    for actual, tone in zip(shifted, expected, strict=True):
        assert (actual.start_s, actual.end_s, actual.kind) == (
            pytest.approx(tone.start_s, abs=1e-6),
            pytest.approx(tone.end_s, abs=1e-6),
            tone.kind,
        )


def test_overlaps_of_tones_and_voice_are_resolved() -> None:
    tones = [Tone(0, 10, "ringing"), Tone(20, 60, "music"), Tone(70, 80, "music")]
    voice = [
        SpeechSpan(0.8, 2.2),
        SpeechSpan(9, 15),
        SpeechSpan(19, 22),
        SpeechSpan(30, 40),
        SpeechSpan(59.5, 65),
        SpeechSpan(69, 81),
    ]
    remaining, remaining_voice = resolve_overlaps(tones, voice)
    assert remaining_voice == voice[1:]
    assert remaining == [tones[0], Tone(22, 30, "music"), Tone(40, 59.5, "music")]
    assert resolve_overlaps(tones, []) == (tones, [])
    assert resolve_overlaps([], voice) == ([], voice)
