"""Recordings that a real Asterisk writes in each format have the duration and sound of the same call's WAV."""

import base64
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from pbx.recordings.playable import PLAYABLE_TYPE, render_playable, waveform
from pbx.speech.audio import SPEECH_HZ, Samples, has_separate_speakers, load_sound, probe_audio
from pbx.speech.tones import find_tones
from pbx.speech.vad import find_voice
from tests.lab.ami_session import Ami
from tests.lab.browser import CHROMIUM
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.unit.speech.sounds import save_wav
from tests.unit.speech.test_tones import melody

pytestmark = pytest.mark.lab

# The lowest correlation with the WAV. Opus is omitted, because MixMonitor skips and repeats sound at 48 kHz.
MIN_CORRELATION = {
    "WAV": 0.8,
    "wav16": 0.97,
    "gsm": 0.8,
    "ulaw": 0.97,
    "alaw": 0.97,
    "sln": 0.97,
    "sln16": 0.97,
    "g722": 0.95,
    "g726-16": 0.95,
    "g726-32": 0.95,
    "au": 0.97,
    "ogg": 0.9,
}
SPOKEN_S = 8


@contextmanager
def recorded(server: LabServer, application: str, files: list[str], other: str = "Wait,30") -> Iterator[Path]:
    """Record a call between `application` and an extension that runs `other`. Yield the folder of the files."""
    name = f"sounds-{time.monotonic_ns()}"
    folder = server.monitor / name
    folder.mkdir()
    try:
        for number, step in enumerate(["Answer", other, "Wait,30"], start=1):
            server.cli(f"dialplan add extension s,{number},{step} into {name}")
        with Ami(server.host, server.ami_port) as ami:
            ami.login(server.ami_username, server.ami_secret, "call")
            name_of_application, _, data = application.partition(",")
            call = {"Channel": f"Local/s@{name}/n", "Application": name_of_application, "Data": data, "Async": "true"}
            ami.action("Originate", call)
            channel = ami.wait_event(Event="OriginateResponse", Application=name_of_application)["Channel"]
            for file in files:
                ami.action("MixMonitor", {"Channel": channel, "File": f"{name}/{file}"})
            time.sleep(SPOKEN_S)
            ami.action("Hangup", {"Channel": channel})
        wait_until("the WAV's header is filled in", lambda: (folder / "call.wav").read_bytes()[40:44] != bytes(4))
        yield folder
    finally:
        server.cli(f"dialplan remove context {name}")
        shutil.rmtree(folder)


def likeness(sound: Samples, other: Samples) -> float:
    """The median of the best correlations of each loud half second of `sound` with any part of `other`.

    The recordings begin a few milliseconds apart, and on a busy machine MixMonitor sometimes skips.
    """
    size, one, two = SPEECH_HZ // 2, sound[0], other[0]
    squares = np.concatenate([[0], np.cumsum(two.astype(float) ** 2)])
    level = np.sqrt(np.maximum(squares[size:] - squares[:-size], 1e-6))
    correlations = []
    for piece in one[: len(one) // size * size].reshape(-1, size):
        if piece.std() > 0.02:
            length = 1 << (len(two) + size).bit_length()
            product = np.fft.irfft(np.fft.rfft(two, length) * np.conj(np.fft.rfft(piece, length)), length)
            correlations.append(float((product[: len(level)] / level).max() / np.linalg.norm(piece)))
    assert len(correlations) > SPOKEN_S
    return float(np.median(correlations))


def level_db(sound: Samples) -> float:
    """The level of the loud parts: the 90th percentile of the tenths of a second."""
    pieces = sound[0, : sound.shape[1] // 1600 * 1600].reshape(-1, 1600)
    return float(20 * np.log10(np.percentile(pieces.std(axis=1), 90)))


def test_every_format_has_the_duration_and_sound_of_the_wav(server: LabServer, tmp_path: Path) -> None:
    with recorded(
        server, "Playback,demo-congrats", [f"call.{suffix}" for suffix in ("wav", *MIN_CORRELATION)]
    ) as folder:
        wav = folder / "call.wav"
        expected, wav_sound = probe_audio(wav), load_sound(wav)
        voiced_s = sum(span.end_s - span.start_s for span in find_voice(wav_sound[0]))
        assert expected.duration_s == pytest.approx(SPOKEN_S, abs=1)
        assert voiced_s > SPOKEN_S / 2
        for suffix, correlation in MIN_CORRELATION.items():
            recording = folder / f"call.{suffix}"
            sound, playable = load_sound(recording), load_sound(render_playable(recording, tmp_path))
            assert sound.shape == (1, pytest.approx(expected.duration_s * SPEECH_HZ, abs=8000)), suffix
            assert likeness(wav_sound, sound) > correlation, suffix
            assert level_db(sound) == pytest.approx(level_db(wav_sound), abs=1.5), suffix
            found_voice_s = sum(span.end_s - span.start_s for span in find_voice(sound[0]))
            assert found_voice_s == pytest.approx(voiced_s, abs=1), suffix
            assert playable.shape[1] == pytest.approx(sound.shape[1], abs=500), suffix
            assert likeness(sound, playable) > 0.8, suffix
            drawn = waveform(recording, tmp_path)
            assert max(drawn.peaks[0]) == pytest.approx(np.abs(sound).max(), abs=0.001), suffix
            assert not has_separate_speakers(recording)


def test_an_mp3_made_from_a_wav_sounds_the_same(server: LabServer, tmp_path: Path) -> None:
    """FreePBX converts recordings after the call if configured to."""
    with recorded(server, "Playback,demo-congrats", ["call.wav"]) as folder:
        wav_sound = load_sound(folder / "call.wav")
        with av.open(str(folder / "call.wav")) as source, av.open(str(tmp_path / "call.mp3"), "w") as output:
            stream = output.add_stream("libmp3lame", rate=8000, layout="mono")
            for frame in source.decode(audio=0):
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    sound = load_sound(tmp_path / "call.mp3")
    assert sound.shape == (1, pytest.approx(wav_sound.shape[1], abs=3000))
    assert likeness(wav_sound, sound) > 0.95


RECORDED = ["call.wav", "call.WAV", "call.gsm", "call.ulaw", "call.g722"]


def test_music_on_a_real_pbx_is_detected(server: LabServer) -> None:
    tune = server.root / f"tmp/tune-{time.monotonic_ns()}.wav"
    save_wav(tune, [melody(12)[::2]], rate=8000)
    try:
        with recorded(server, f"Playback,/tmp/{tune.stem}", RECORDED) as folder:
            found = {name: find_tones(load_sound(folder / name)[0]) for name in RECORDED}
    finally:
        tune.unlink()
    for name, tones in found.items():
        assert {tone.kind for tone in tones} == {"music"}, name
        assert sum(tone.end_s - tone.start_s for tone in tones) > SPOKEN_S - 2, name


def test_ringback_on_a_real_pbx_is_detected(server: LabServer) -> None:
    with recorded(server, "Wait,30", RECORDED, other="Playtones,ring") as folder:
        for name in RECORDED:
            (found,) = find_tones(load_sound(folder / name)[0])
            assert found.kind == "ringing", name
            assert found.start_s < 2.5, name
            assert found.end_s - found.start_s > 1.5, name


def test_asterisks_prompts_are_not_detected_as_tones(lab: None, server: LabServer) -> None:
    """None of three hundred prompts with a woman's voice is detected as music or ringing."""
    folder = server.root / "usr/share/asterisk/sounds/en_US_f_Allison"
    prompts = [load_sound(path)[0] for path in sorted(folder.glob("*.wav"))]
    assert len(prompts) > 300
    assert find_tones(np.concatenate(prompts)) == []


# Seeks to each time, plays half a second, and returns the element's time and the pitch played.
SEEK = """async ([source, times]) => {
  const audio = new Audio(source), context = new AudioContext(), analyser = context.createAnalyser()
  await new Promise((done, failed) => { audio.oncanplay = done; audio.onerror = failed })
  Object.assign(analyser, {fftSize: 4096, smoothingTimeConstant: 0})
  context.createMediaElementSource(audio).connect(analyser).connect(context.destination)
  const powers = new Float32Array(2048), measured = []
  for (const time of times) {
    audio.currentTime = time
    await new Promise(done => { audio.onseeked = done })
    await audio.play()
    await new Promise(done => setTimeout(done, 500))
    analyser.getFloatFrequencyData(powers)
    measured.push([audio.currentTime, powers.indexOf(Math.max(...powers)) * context.sampleRate / 4096])
    audio.pause()
  }
  return [audio.duration, measured]
}"""


def test_chromium_plays_from_the_position_it_seeks_to(tmp_path: Path) -> None:
    """The pitch shows the position: it rises 50 Hz each tenth of a second and returns to 500 Hz every five."""
    moments = np.arange(600 * SPEECH_HZ) / SPEECH_HZ
    pitches = 500 + 50 * ((moments * 10).astype(int) % 50)
    wav = save_wav(tmp_path / "coded.wav", [0.3 * np.sin(2 * np.pi * np.cumsum(pitches) / SPEECH_HZ)])
    source = base64.b64encode(render_playable(wav, tmp_path).read_bytes()).decode()
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        duration_s, measured = page.evaluate(SEEK, [f"data:{PLAYABLE_TYPE};base64,{source}", [301.3, 580, 7.77, 12]])
        browser.close()
    assert duration_s == pytest.approx(600, abs=0.1)
    for at_s, pitch_hz in measured:
        late_s = at_s - ((pitch_hz - 500) / 500 + 0.05)  # the pitch began up to 0.1 s ago
        assert (late_s + 2.5) % 5 - 2.5 == pytest.approx(0.05, abs=0.15)
