"""Recorded and synthetic test sounds, and functions that inspect them."""

import wave
from pathlib import Path

import av
import numpy as np

from tests.paths import FIXTURES

RATE = 16000
AUDIO = FIXTURES / "audio"
TONES = sorted(AUDIO.glob("tone.*"))
WAV = AUDIO / "tone.wav"


def samples_of(path: Path) -> tuple[np.ndarray, int]:
    """The samples by channel, and the sample rate. FFmpeg detects the format, as a browser would."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), frames[0].sample_rate


def pitch_hz(sound: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate / len(sound))


def sine(pitch_hz: float, length_s: float, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * pitch_hz * np.arange(int(rate * length_s)) / rate)).astype(np.float32)


def silence(length_s: float) -> np.ndarray:
    return np.zeros(int(length_s * RATE), np.float32)


def hiss(length_s: float, level: float) -> np.ndarray:
    return np.random.default_rng(5).normal(scale=level, size=int(length_s * RATE)).astype(np.float32)


def save_wav(path: Path, channels: list[np.ndarray], rate: int = RATE) -> Path:
    """Write a 16-bit WAV file; samples range from -1 to 1."""
    sound = (np.clip(np.stack(channels, axis=1), -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((len(channels), 2, rate, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    return path


def write_wav(path: Path, pitches: list[float], duration_s: float = 1.0, rate: int = 8000) -> Path:
    """Write a WAV file with one sine tone per channel."""
    return save_wav(path, [sine(pitch, duration_s, rate) for pitch in pitches], rate)


def two_mp3_in_one(folder: Path) -> Path:
    """Write an MP3 file whose sample rate and pitch change after 2 s."""
    content = b""
    for pitch, rate in ((440, 16000), (1000, 24000)):
        sound = (sine(pitch, 2, rate) * 32767).astype("<i2")
        with av.open(str(folder / "part.mp3"), "w") as output:
            stream = output.add_stream("libmp3lame", rate=rate, layout="mono")
            frame = av.AudioFrame.from_ndarray(sound[np.newaxis], format="s16", layout="mono")
            frame.sample_rate = rate
            output.mux([*stream.encode(frame), *stream.encode(None)])
        content += (folder / "part.mp3").read_bytes()
    (folder / "two.mp3").write_bytes(content)
    return folder / "two.mp3"
