"""The demo's recordings contain what their scripts say, at the times of their transcripts."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pbx.asterisk.formats.recording_files import check_recording
from pbx.demo.company import QUEUES
from pbx.demo.sample_recordings import CHANNELS, FOLDER, SAMPLE_RECORDINGS
from pbx.speech.audio import SPEECH_HZ, has_separate_speakers, load_sound, probe_audio
from pbx.speech.tones import Tone, find_tones
from pbx.speech.vad import find_voice
from pbx.transcription.analysis.findings import SpokenSegment
from pbx.transcription.analysis.prompt import REMOVED, mask_cards
from pbx.transcription.analysis.sentences import read_conversation
from tests.simulator.call_scripts import CALL_SCRIPTS

SPEAKERS = {channel: speaker for speaker, channel in CHANNELS.items()}
SILENT = 1e-3  # root mean square, -60 dB; silence encoded as G.711 is below this


@cache
def sound_of(name: str) -> NDArray[np.float32]:
    return load_sound(SAMPLE_RECORDINGS[name].sound)


def loudness(sound: NDArray[np.float32], start_s: float, end_s: float) -> float:
    """The root mean square of a time range of one channel."""
    piece = sound[max(round(start_s * SPEECH_HZ), 0) : round(end_s * SPEECH_HZ)]
    return float(np.sqrt(np.mean(piece**2))) if len(piece) else 0.0


def tones_of(name: str, speaker: str) -> list[Tone]:
    return find_tones(sound_of(name)[CHANNELS[speaker]])


def test_twelve_calls_for_three_queues() -> None:
    assert len(SAMPLE_RECORDINGS) == 12
    assert {recording.queue for recording in SAMPLE_RECORDINGS.values()} == {queue.number for queue in QUEUES}


def test_all_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert len(sizes) == 25
    assert sum(sizes) < 6_000_000


def test_no_two_callers_sound_the_same() -> None:
    assert len({CALL_SCRIPTS[name].voices["caller"] for name in CALL_SCRIPTS}) == 12
    for name in CALL_SCRIPTS:
        voices = CALL_SCRIPTS[name].voices
        assert voices["caller"].name != voices["agent"].name


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_a_recording_has_the_format_that_asterisk_writes(name: str) -> None:
    recording = SAMPLE_RECORDINGS[name]
    facts = probe_audio(recording.sound)
    assert (facts.codec, facts.channels, facts.sample_rate) == ("pcm_mulaw", 2, 8_000)
    assert facts.duration_s == recording.duration_s
    assert 20 <= recording.duration_s <= 60
    with recording.sound.open("rb") as file:
        result = check_recording(file, recording.sound.stat().st_size, "wav")
    assert (result.state, result.duration_s) == ("downloaded", recording.duration_s)
    assert has_separate_speakers(recording.sound)


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_the_transcript_has_the_text_of_the_script(name: str) -> None:
    lines = [
        (SPEAKERS[segment.channel], segment.text) for segment in SAMPLE_RECORDINGS[name].transcript() if segment.text
    ]
    assert lines == [(line.kind, line.text) for line in CALL_SCRIPTS[name].lines if line.text]


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_words_are_within_their_phrase_and_phrases_within_the_recording(name: str) -> None:
    segments = SAMPLE_RECORDINGS[name].transcript()
    assert [segment.start_s for segment in segments] == sorted(segment.start_s for segment in segments)
    assert segments[-1].end_s < SAMPLE_RECORDINGS[name].duration_s
    for segment in segments:
        assert " ".join(word.text for word in segment.words) == segment.text
        for word in segment.words:
            assert segment.start_s <= word.start_s < word.end_s <= segment.end_s + 0.001
        for word, after in pairwise(segment.words):
            assert word.end_s <= after.start_s + 0.001


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_phrases_and_words_have_sound(name: str) -> None:
    sound = sound_of(name)
    for segment in SAMPLE_RECORDINGS[name].transcript():
        assert loudness(sound[segment.channel], segment.start_s, segment.end_s) > 0.03, segment.text
        for word in segment.words:
            assert loudness(sound[segment.channel], word.start_s, word.end_s) > 0.01, (segment.text, word)


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_there_is_no_sound_outside_the_script(name: str) -> None:
    sound = sound_of(name).copy()
    for segment in SAMPLE_RECORDINGS[name].transcript():
        edges = round((segment.start_s - 0.02) * SPEECH_HZ), round((segment.end_s + 0.02) * SPEECH_HZ)
        sound[segment.channel, max(edges[0], 0) : edges[1]] = 0
    if name == "voicemail":
        assert loudness(sound[CHANNELS["agent"]], 0, 0.6) > 0.1
        sound[CHANNELS["agent"], : round(0.62 * SPEECH_HZ)] = 0
    assert loudness(sound.ravel(), 0, sound.size / SPEECH_HZ) < SILENT


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_speakers_interrupt_only_where_the_script_says(name: str) -> None:
    phrases = SAMPLE_RECORDINGS[name].transcript()
    overlaps = [round(max(before.end_s - after.start_s, 0), 2) for before, after in pairwise(phrases)]
    written = [max(-line.seconds, 0) for line in CALL_SCRIPTS[name].lines if line.kind not in ("beep", "pause")][1:]
    assert overlaps == pytest.approx(written, abs=0.01)
    assert (max(overlaps) > 0.3) == (name == "angry-caller")


def test_hold_music_is_detected() -> None:
    (music,) = [segment for segment in SAMPLE_RECORDINGS["hold-music"].transcript() if segment.flags == ("music",)]
    assert music.text == ""
    assert music.end_s - music.start_s > 10
    (found,) = tones_of("hold-music", "agent")
    assert found.kind == "music"
    assert found.start_s == pytest.approx(music.start_s, abs=1.5)
    assert found.end_s == pytest.approx(music.end_s, abs=1.5)


def test_ringing_is_detected() -> None:
    (ring,) = [segment for segment in SAMPLE_RECORDINGS["wrong-number"].transcript() if segment.flags == ("ringing",)]
    (found,) = tones_of("wrong-number", "agent")
    assert found.kind == "ringing"
    assert found.start_s == pytest.approx(ring.start_s, abs=0.2)


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_no_voice_is_detected_as_a_tone(name: str) -> None:
    assert tones_of(name, "caller") == []
    if name not in ("hold-music", "wrong-number"):
        assert tones_of(name, "agent") == []


@pytest.mark.parametrize("name", SAMPLE_RECORDINGS)
def test_voice_detection_finds_all_speech_and_little_else(name: str) -> None:
    for channel, sound in enumerate(sound_of(name)):
        spoken, voiced = np.zeros(len(sound) // 160 + 1, bool), np.zeros(len(sound) // 160 + 1, bool)  # by 10 ms
        for segment in SAMPLE_RECORDINGS[name].transcript():
            if segment.text and segment.channel == channel:
                spoken[round(segment.start_s * 100) : round(segment.end_s * 100)] = True
        for span in find_voice(sound):
            voiced[round(span.start_s * 100) : round(span.end_s * 100)] = True
        assert (spoken & voiced).sum() >= 0.95 * spoken.sum()
        assert (voiced & ~spoken).sum() <= 300  # it adds about 0.2 s before and after each phrase


def test_the_card_number_is_masked_for_language_servers() -> None:
    segments = [
        SpokenSegment(segment.start_s, segment.end_s, SPEAKERS[segment.channel], segment.text, segment.flags)
        for segment in SAMPLE_RECORDINGS["card-number"].transcript()
    ]
    assert {"4000 0566", "5566 5556"} <= {word for s in segments for word in (s.text[-9:], s.text[:9])}
    masked = " ".join(mask_cards(read_conversation(segments).sentences))
    assert REMOVED in masked
    assert not any(group in masked for group in ("4000", "0566", "5566", "5556"))
    assert "129 pounds" in masked
