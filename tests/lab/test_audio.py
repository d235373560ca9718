"""What a real Asterisk writes in each format lasts, sounds and is heard as the WAV of the same call."""

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

# How alike the sound must be, as correlation. Opus is left out: at 48 kHz MixMonitor itself skips and repeats.
FORMATS = {
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
    """A call of `application` with an extension that runs `other`, recorded to these files of one folder."""
    name = f"sounds-{time.monotonic_ns()}"
    folder = server.monitor / name
    folder.mkdir()
    try:
        for number, step in enumerate(["Answer", other, "Wait,30"], start=1):
            server.cli(f"dialplan add extension s,{number},{step} into {name}")
        with Ami(server.host, server.ami_port) as ami:
            ami.login(server.ami_username, server.ami_secret, "call")
            what, _, data = application.partition(",")
            call = {"Channel": f"Local/s@{name}/n", "Application": what, "Data": data, "Async": "true"}
            ami.action("Originate", call)
            channel = ami.wait_event(Event="OriginateResponse", Application=what)["Channel"]
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
    """The median, over the loud half seconds of `sound`, of the best correlation with any place of `other`.

    The recordings begin a few milliseconds apart, and a busy machine makes MixMonitor skip now and then.
    """
    size, one, two = SPEECH_HZ // 2, sound[0], other[0]
    squares = np.concatenate([[0], np.cumsum(two.astype(float) ** 2)])
    level = np.sqrt(np.maximum(squares[size:] - squares[:-size], 1e-6))
    found = []
    for piece in one[: len(one) // size * size].reshape(-1, size):
        if piece.std() > 0.02:
            length = 1 << (len(two) + size).bit_length()
            product = np.fft.irfft(np.fft.rfft(two, length) * np.conj(np.fft.rfft(piece, length)), length)
            found.append(float((product[: len(level)] / level).max() / np.linalg.norm(piece)))
    assert len(found) > SPOKEN_S
    return float(np.median(found))


def level_db(sound: Samples) -> float:
    """How loud the loud parts are."""
    pieces = sound[0, : sound.shape[1] // 1600 * 1600].reshape(-1, 1600)
    return float(20 * np.log10(np.percentile(pieces.std(axis=1), 90)))


def test_every_format_lasts_and_sounds_as_the_wav(server: LabServer, tmp_path: Path) -> None:
    with recorded(server, "Playback,demo-congrats", [f"call.{suffix}" for suffix in ("wav", *FORMATS)]) as folder:
        wav = folder / "call.wav"
        expected, said = probe_audio(wav), load_sound(wav)
        voiced_s = sum(span.end_s - span.start_s for span in find_voice(said[0]))
        assert expected.duration_s == pytest.approx(SPOKEN_S, abs=1)
        assert voiced_s > SPOKEN_S / 2
        for suffix, alike in FORMATS.items():
            recording = folder / f"call.{suffix}"
            sound, playable = load_sound(recording), load_sound(render_playable(recording, tmp_path))
            assert sound.shape == (1, pytest.approx(expected.duration_s * SPEECH_HZ, abs=8000)), suffix
            assert likeness(said, sound) > alike, suffix
            assert level_db(sound) == pytest.approx(level_db(said), abs=1.5), suffix
            heard_s = sum(span.end_s - span.start_s for span in find_voice(sound[0]))
            assert heard_s == pytest.approx(voiced_s, abs=1), suffix
            assert playable.shape[1] == pytest.approx(sound.shape[1], abs=500), suffix
            assert likeness(sound, playable) > 0.8, suffix
            made = waveform(recording, tmp_path)
            assert max(made.peaks[0]) == pytest.approx(np.abs(sound).max(), abs=0.001), suffix
            assert not has_separate_speakers(recording)


def test_a_wav_made_an_mp3_sounds_the_same(server: LabServer, tmp_path: Path) -> None:
    """As FreePBX does after the call if configured."""
    with recorded(server, "Playback,demo-congrats", ["call.wav"]) as folder:
        said = load_sound(folder / "call.wav")
        with av.open(str(folder / "call.wav")) as source, av.open(str(tmp_path / "call.mp3"), "w") as output:
            stream = output.add_stream("libmp3lame", rate=8000, layout="mono")
            for frame in source.decode(audio=0):
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    sound = load_sound(tmp_path / "call.mp3")
    assert sound.shape == (1, pytest.approx(said.shape[1], abs=3000))
    assert likeness(said, sound) > 0.95


RECORDED = ["call.wav", "call.WAV", "call.gsm", "call.ulaw", "call.g722"]


def test_music_of_a_real_pbx_is_known(server: LabServer) -> None:
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


def test_ring_back_of_a_real_pbx_is_known(server: LabServer) -> None:
    with recorded(server, "Wait,30", RECORDED, other="Playtones,ring") as folder:
        for name in RECORDED:
            (found,) = find_tones(load_sound(folder / name)[0])
            assert found.kind == "ringing", name
            assert found.start_s < 2.5, name
            assert found.end_s - found.start_s > 1.5, name


def test_the_prompts_of_asterisk_are_speech(lab: None, server: LabServer) -> None:
    """A woman's voice, three hundred prompts: in none is music or ringing."""
    folder = server.root / "usr/share/asterisk/sounds/en_US_f_Allison"
    prompts = [load_sound(path)[0] for path in sorted(folder.glob("*.wav"))]
    assert len(prompts) > 300
    assert find_tones(np.concatenate(prompts)) == []


# Seeks, plays half a second, and says which pitch was heard at which time of the element.
SEEK = """async ([source, times]) => {
  const audio = new Audio(source), context = new AudioContext(), analyser = context.createAnalyser()
  await new Promise((done, failed) => { audio.oncanplay = done; audio.onerror = failed })
  Object.assign(analyser, {fftSize: 4096, smoothingTimeConstant: 0})
  context.createMediaElementSource(audio).connect(analyser).connect(context.destination)
  const powers = new Float32Array(2048), heard = []
  for (const time of times) {
    audio.currentTime = time
    await new Promise(done => { audio.onseeked = done })
    await audio.play()
    await new Promise(done => setTimeout(done, 500))
    analyser.getFloatFrequencyData(powers)
    heard.push([audio.currentTime, powers.indexOf(Math.max(...powers)) * context.sampleRate / 4096])
    audio.pause()
  }
  return [audio.duration, heard]
}"""


def test_chromium_plays_from_where_it_seeks_to(tmp_path: Path) -> None:
    """The pitch tells the time: 50 Hz higher each tenth of a second, from 500 Hz every five."""
    moments = np.arange(600 * SPEECH_HZ) / SPEECH_HZ
    pitches = 500 + 50 * ((moments * 10).astype(int) % 50)
    wav = save_wav(tmp_path / "coded.wav", [0.3 * np.sin(2 * np.pi * np.cumsum(pitches) / SPEECH_HZ)])
    source = base64.b64encode(render_playable(wav, tmp_path).read_bytes()).decode()
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        duration_s, heard = page.evaluate(SEEK, [f"data:{PLAYABLE_TYPE};base64,{source}", [301.3, 580, 7.77, 12]])
        browser.close()
    assert duration_s == pytest.approx(600, abs=0.1)
    for at_s, pitch_hz in heard:
        late_s = at_s - ((pitch_hz - 500) / 500 + 0.05)  # what was heard began up to 0.1 s ago
        assert (late_s + 2.5) % 5 - 2.5 == pytest.approx(0.05, abs=0.15)
