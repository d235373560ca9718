"""Recordings as Asterisk writes them, as arrays for speech. Streams; never a call in memory.

The bytes decide before the name does, and FFmpeg is told the format, never left to guess it: its guesses include
playlists, by which a hostile file would have others read.
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from pbx.errors import DataError
from pbx.speech import riff

HEADER_BYTES = 44  # an Asterisk WAV of this length or less is a header without sound
_READ_BYTES = 256 * 1024
_HEAD_BYTES = 512  # no sound is printable for as long as that
_GSM_BYTES = 33  # a frame, which begins with the bits 1101
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_MEND = "Sync again to fetch it anew; if it stays so, look at the file on the PBX."

SPEECH_HZ = 16_000  # what voice detection and Whisper take
LONGEST_H = 24  # of sound in one file: a few MB of Opus or FLAC can be weeks of silence
_RATES_HZ = range(1_000, 384_001)  # 900 MHz, which a damaged header says, are a resampler of half a gigabyte
_CHANNELS_LIMIT = 8  # PyAV reads the planes of more from where none are
MAX_CHANNELS = 2  # a call has two sides; what Asterisk writes has no more
_PIECE_S = 0.5  # two channels are compared in pieces of that length, short enough to hold one speaker
_FLOOR = 1e-6  # mean square of a piece that is as good as silent: -60 dB of full scale
_ALIKE = 0.98  # correlation; telephone codecs that encode each channel for itself leave 0.99 and more
_MAX_GAIN_DB = 12.0  # beyond it the quieter channel is an echo of the other

Samples = NDArray[np.float32]  # (channels, samples) at SPEECH_HZ, -1 to 1

RawFormat = tuple[str, dict[str, str]]  # FFmpeg's demuxer and its options

_MAGIC: dict[bytes, RawFormat] = {
    **dict.fromkeys(riff.MAGIC, ("wav", {})),
    b"OggS": ("ogg", {}),
    b"fLaC": ("flac", {}),
    b".snd": ("au", {}),
    b"ID3": ("mp3", {}),
    b"\x1aE\xdf\xa3": ("matroska", {}),  # what this app makes for browsers
}
_SLN_HZ = {"": 8_000, "12": 12_000, "16": 16_000, "24": 24_000, "32": 32_000, "44": 44_100, "48": 48_000, "96": 96_000}
# Files without a header, by the extensions that `core show file formats` prints (16 and 22).
_BY_NAME: dict[str, RawFormat] = {
    **dict.fromkeys((".ulaw", ".ul", ".mu", ".ulw", ".pcm"), ("mulaw", {"sample_rate": "8000"})),
    **dict.fromkeys((".alaw", ".al", ".alw"), ("alaw", {"sample_rate": "8000"})),
    **{f".sln{name}": ("s16le", {"sample_rate": str(hz)}) for name, hz in (_SLN_HZ | {"192": 192_000}).items()},
    **dict.fromkeys((".raw", ".slin"), ("s16le", {"sample_rate": "8000"})),
    # Asterisk has no codec but that of 32 kbit/s, and writes it to the others' files too.
    **{f".g726-{kbit}": ("g726le", {"sample_rate": "8000", "code_size": "4"}) for kbit in (16, 24, 32, 40)},
    ".g722": ("g722", {}),
    ".g729": ("g729", {}),
    ".gsm": ("gsm", {}),
    ".mp3": ("mp3", {}),
}


@dataclass(frozen=True)
class AudioFacts:
    """What a sound file holds, counted from what is there, whatever its header says."""

    duration_s: float
    channels: int
    sample_rate: int  # Hz
    codec: str  # FFmpeg's name
    container: str  # likewise, such as wav, ogg, mp3: also a good ending for the file's name


def probe_audio(path: Path) -> AudioFacts:
    """Read a recording through: an hour in a quarter of a second, of GSM in one.

    Raises DataError where there is no sound in it, more than LONGEST_H, or it can't be read.
    """
    with open_sound(path) as container:
        context = container.streams.audio[0].codec_context
        samples = sum(frame.samples for frame in decode_frames(container, path))
        rate, name = context.sample_rate, container.format.name.partition(",")[0]
        return AudioFacts(samples / rate, context.channels, rate, context.name, name)


def read_sound(path: Path, block_s: float = 60.0, start_s: float = 0.0) -> Iterator[Samples]:
    """Yield the recording from `start_s` on, as float32 (channels, samples) at 16 kHz, in blocks of `block_s`.

    The last block is shorter. One row per channel, two at most: of more, the first two. A channel without sound is a
    row of zeros. Needs the memory of two blocks, whatever the length. What lies before `start_s` is decoded (an hour
    of WAV in a quarter of a second) and dropped, so that the times are exact in every format; yields nothing when all
    does. Values are within -1 to 1, and finite. Raises DataError where there is no sound or it can't be read.
    """
    size = max(round(block_s * SPEECH_HZ), 1)
    kept: list[Samples] = []
    length, channels, heard = 0, 0, False
    with open_sound(path) as container:
        drop_s, frames = _skip(decode_frames(container, path), start_s)
        drop = round(drop_s * SPEECH_HZ)
        for frame in resample_frames(frames, SPEECH_HZ, "fltp"):
            heard = True
            channels = channels or min(frame.layout.nb_channels, MAX_CHANNELS)
            rows = _rows(frame, channels)[:, drop:]
            drop = max(drop - frame.samples, 0)
            kept.append(rows)
            length += rows.shape[1]
            while length >= size:
                whole = np.concatenate(kept, axis=1)
                yield _bounded(whole[:, :size].copy())
                kept, length = [whole[:, size:]], length - size
    if length:
        yield _bounded(np.concatenate(kept, axis=1))
    elif not heard and start_s <= 0:
        raise _soundless(path)  # a sample or two, too few to resample


def load_sound(path: Path) -> Samples:
    """Return the whole recording, float32 (channels, samples) at 16 kHz: 230 MB for each hour and channel.

    Raises DataError where there is no sound in it or it can't be read.
    """
    return np.concatenate(list(read_sound(path)), axis=1)


def speakers_apart(path: Path) -> bool:
    """Whether each channel is a speaker of its own: two channels that are not the same sound twice (dual mono).

    See ChannelComparison. Reads until it is sure, at most the whole recording, in bounded memory. Raises DataError
    where it can't be read.
    """
    comparison = ChannelComparison()
    for block in read_sound(path):
        comparison.feed(block)
        if block.shape[0] < 2 or comparison.is_sure:
            break
    return comparison.apart


class ChannelComparison:
    """Tells two speakers from one sound on both channels, fed in blocks of (channels, samples).

    Half-second pieces with sound in them are compared: dual mono correlates in nearly all, at one gain (which may
    differ up to 12 dB, or have the other sign); where both sides only heard the same music, the rest tells. A channel
    that is silent throughout leaves the other its speaker, so they are apart; both silent, or mono: not.
    """

    def __init__(self) -> None:
        self._powers: NDArray[np.float64] = np.empty((0, 3))

    def feed(self, block: Samples) -> None:
        """Take the next samples, at least half a second at once (the last may be shorter)."""
        if block.shape[0] == 2 and block.shape[1]:
            self._powers = np.concatenate([self._powers, _powers(block)])

    @property
    def apart(self) -> bool:
        """Whether each channel is a speaker of its own, by what was fed."""
        loud = _loud(self._powers)
        return len(loud) > 0 and bool(np.mean(_alike(loud)) < 0.95)

    @property
    def is_sure(self) -> bool:
        """Whether a minute of sound has shown that they are apart; that they are not only the end shows."""
        loud = _loud(self._powers)
        return len(loud) * _PIECE_S > 60 and bool(np.mean(_alike(loud)) < 0.5)


def _powers(block: Samples) -> NDArray[np.float64]:
    """(pieces, 3): the mean square of the left, of the right, and their mean product, each without its mean."""
    size = min(int(_PIECE_S * SPEECH_HZ), block.shape[1])
    pieces = block[:, : block.shape[1] // size * size].reshape(2, -1, size)
    left, right = pieces - pieces.mean(axis=2, keepdims=True)
    return np.stack([(left * left).mean(1), (right * right).mean(1), (left * right).mean(1)], axis=1).astype(float)


def _loud(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pieces in which somebody is heard: no more than 30 dB below the loud ones of the recording."""
    both = powers[:, 0] + powers[:, 1]
    return powers[both > max(_FLOOR, float(np.percentile(both, 95)) / 1000 if len(both) else 0.0)]


def _alike(loud: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pieces are the same sound on both channels, at the gain that most have."""
    left, right, product = loud.T + 1e-15
    gain_db = 10 * np.log10(left / right)
    usual_db = float(np.median(gain_db))
    if abs(usual_db) > _MAX_GAIN_DB:
        return np.zeros(len(loud), bool)
    alike: NDArray[np.bool_] = (np.abs(product) > _ALIKE * np.sqrt(left * right)) & (np.abs(gain_db - usual_db) < 3)
    return alike


def resample_frames(
    frames: Iterator[AudioFrame], rate_hz: int, sample_format: str, layout: str | None = None
) -> Iterator[AudioFrame]:
    """Frames in one rate and one of FFmpeg's sample formats, whatever changes in between.

    Without a layout, each keeps its own.
    """

    def form_of(frame: AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.layout.name, frame.format.name

    for _, alike in itertools.groupby(frames, form_of):
        first = next(alike)
        resampler = AudioResampler(format=sample_format, layout=layout or first.layout, rate=rate_hz)
        for frame in itertools.chain([first], alike):
            yield from resampler.resample(frame)
        yield from resampler.resample(None)


def _skip(frames: Iterator[AudioFrame], start_s: float) -> tuple[float, Iterator[AudioFrame]]:
    """The frames from the one on that reaches beyond `start_s`, and how much of that one lies before it, in s."""
    at_s = 0.0
    for frame in frames:
        end_s = at_s + frame.samples / frame.sample_rate
        if end_s > start_s:
            return max(start_s - at_s, 0.0), itertools.chain([frame], frames)
        at_s = end_s
    return 0.0, frames


def _rows(frame: AudioFrame, channels: int) -> Samples:
    """(channels, samples) of a planar frame; a channel that it lacks repeats its last."""
    sound = frame.to_ndarray().astype(np.float32, copy=False)
    return sound if len(sound) == channels else sound[np.minimum(np.arange(channels), len(sound) - 1)]


def _bounded(sound: Samples) -> Samples:
    """The sound finite and within -1 to 1, as formats of floating-point numbers need not be."""
    if not (sound.max() <= 1 and sound.min() >= -1):  # so that no number fails too
        np.clip(np.nan_to_num(sound, copy=False, nan=0.0), -1, 1, out=sound)
    return sound


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[InputContainer]:
    """The file with the one audio stream that is read; whatever FFmpeg finds wrong in reading becomes a DataError."""
    demuxer, options = _format_of(path)
    with contextlib.ExitStack() as opened:
        try:
            source: Any = str(path.absolute())  # FFmpeg takes what stands before a colon for a protocol
            if demuxer == "wav":
                source = opened.enter_context(riff.WavSound(opened.enter_context(path.open("rb"))))
            container = opened.enter_context(av.open(source, format=demuxer, options=options, buffer_size=_READ_BYTES))
        except riff.NoSound:
            raise DataError(f"{path.name} can't be read as sound: its WAV header is damaged.", _MEND) from None
        except (av.FFmpegError, OSError) as error:
            raise _broken(path, error) from None
        if not container.streams.audio:
            raise _soundless(path)
        _check_sane(container.streams.audio[0], path)
        yield container


def _check_sane(stream: AudioStream, path: Path) -> None:
    """Refuse what a damaged header asks for and FFmpeg or PyAV would die of, or take gigabytes for."""
    context = stream.codec_context
    if context is None:  # whatever its type says: there is no decoder for it
        raise DataError(f"{path.name} can't be played: it holds no sound format that this app knows.", _MEND)
    if context.sample_rate not in _RATES_HZ or not 1 <= context.channels <= _CHANNELS_LIMIT:
        found = f"{context.sample_rate:,} Hz, {context.channels} channels"
        raise DataError(f"{path.name} can't be read as sound: its header says {found}.", _MEND)


def decode_frames(container: InputContainer, path: Path) -> Iterator[AudioFrame]:
    """What can be decoded, without gaps for what can't.

    Raises DataError when that is nothing, at the end of LONGEST_H hours, or when the disk fails.
    """
    found, left_s = False, LONGEST_H * 3600.0
    try:
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.InvalidDataError:  # a damaged stretch, or a last block cut short
                continue
            for frame in frames:
                found = True
                left_s -= frame.samples / frame.sample_rate
                if left_s < 0:
                    raise _endless(path)
                frame.pts = None
                yield frame
    except (av.FFmpegError, OSError) as error:
        if not (found and isinstance(error, av.InvalidDataError | av.ArgumentError)):
            raise _broken(path, error) from None
    if not found:
        raise _soundless(path)


def _format_of(path: Path) -> RawFormat:
    """By the first bytes, which names contradict at times; by the name for the formats without a header."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path.name} can't be read: {error.strerror}.", _MEND) from None
    if not head:
        raise DataError(f"{path.name} is empty: 0 bytes.", "The PBX recorded nothing; there is nothing to hear.")
    if head.startswith(riff.MAGIC) and len(head) <= HEADER_BYTES:
        raise _soundless(path)
    if not head.translate(None, _PRINTABLE):
        raise DataError(f"{path.name} can't be played: it holds text.", _MEND)
    by_magic = next((known for magic, known in _MAGIC.items() if head.startswith(magic)), None)
    if known := by_magic or _BY_NAME.get(path.suffix.lower()):
        return known
    if head[0] == 0xFF and head[1:2] >= b"\xe0":  # an MPEG audio frame
        return "mp3", {}
    if len(head) >= _GSM_BYTES * 4 and all(first >> 4 == 0xD for first in head[::_GSM_BYTES]):
        return "gsm", {}
    raise DataError(f"{path.name} can't be played: it holds no sound format that this app knows.", _MEND)


def _soundless(path: Path) -> DataError:
    return DataError(f"{path.name} holds a header and no sound.", "The PBX recorded nothing; there is nothing to hear.")


def _endless(path: Path) -> DataError:
    fix = "The file is damaged, or a call was never hung up. Play it on the PBX to find out."
    return DataError(f"{path.name} is longer than {LONGEST_H} hours.", fix)


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name} can't be read as sound: {getattr(error, 'strerror', None) or error}.", _MEND)
