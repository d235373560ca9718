"""Reads recordings in Asterisk's formats as arrays, in a stream, so that a call never has to fit in memory.

A file's bytes decide its format before its name does. FFmpeg always gets the format and never guesses it, because its
guesses include playlists, with which a hostile file could make it read other files.
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
from pbx.speech import wav_for_ffmpeg as riff

HEADER_BYTES = 44  # an Asterisk WAV of this length or less is a header without sound
_READ_BYTES = 256 * 1024
_HEAD_BYTES = 512  # sound never has this many printable bytes in a row
_GSM_BYTES = 33  # a frame, which begins with the bits 1101
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_FIX = "Sync to download it again. If the problem stays, check the file on the PBX."

SPEECH_HZ = 16_000  # the rate of voice detection and Whisper
LONGEST_H = 24  # hours of sound in a file: a few MB of Opus or FLAC can hold weeks of silence
_RATES_HZ = range(1_000, 384_001)  # for 900 MHz, from a damaged header, a resampler takes half a gigabyte
_CHANNELS_LIMIT = 8  # with more, PyAV reads planes that don't exist
MAX_CHANNELS = 2  # a call has two sides; Asterisk writes no more
_PIECE_S = 0.5  # channels are compared in pieces of this length, short enough for one speaker
_FLOOR = 1e-6  # mean square below which a piece is silent: -60 dB of full scale
_ALIKE = 0.98  # correlation; codecs that encode each channel separately leave 0.99 and more
_MAX_GAIN_DB = 12.0  # with a larger gain, the quieter channel is an echo

Samples = NDArray[np.float32]  # (channels, samples) at SPEECH_HZ, -1 to 1

RawFormat = tuple[str, dict[str, str]]  # FFmpeg's demuxer and its options

_MAGIC: dict[bytes, RawFormat] = {
    **dict.fromkeys(riff.MAGIC, ("wav", {})),
    b"OggS": ("ogg", {}),
    b"fLaC": ("flac", {}),
    b".snd": ("au", {}),
    b"ID3": ("mp3", {}),
    b"\x1aE\xdf\xa3": ("matroska", {}),  # this app's playable copies
}
_SLN_HZ = {"": 8_000, "12": 12_000, "16": 16_000, "24": 24_000, "32": 32_000, "44": 44_100, "48": 48_000, "96": 96_000}
# Files without a header, by the extensions that `core show file formats` prints (16 and 22).
_BY_NAME: dict[str, RawFormat] = {
    **dict.fromkeys((".ulaw", ".ul", ".mu", ".ulw", ".pcm"), ("mulaw", {"sample_rate": "8000"})),
    **dict.fromkeys((".alaw", ".al", ".alw"), ("alaw", {"sample_rate": "8000"})),
    **{f".sln{name}": ("s16le", {"sample_rate": str(hz)}) for name, hz in (_SLN_HZ | {"192": 192_000}).items()},
    **dict.fromkeys((".raw", ".slin"), ("s16le", {"sample_rate": "8000"})),
    # Asterisk only has the codec of 32 kbit/s, and writes it to files of the other rates too.
    **{f".g726-{kbit}": ("g726le", {"sample_rate": "8000", "code_size": "4"}) for kbit in (16, 24, 32, 40)},
    ".g722": ("g722", {}),
    ".g729": ("g729", {}),
    ".gsm": ("gsm", {}),
    ".mp3": ("mp3", {}),
}


@dataclass(frozen=True)
class AudioFacts:
    """The facts about a sound file, counted from its content, not taken from its header."""

    duration_s: float
    channels: int
    sample_rate: int  # Hz
    codec: str  # FFmpeg's name
    container: str  # FFmpeg's name, such as wav, ogg, mp3; also a suitable file extension


def probe_audio(path: Path) -> AudioFacts:
    """Read a complete recording and return its facts: 0.25 s for an hour of WAV, 1 s for an hour of GSM.

    Raises DataError when the file has no sound, more than LONGEST_H hours, or can't be read.
    """
    with open_sound(path) as container:
        context = container.streams.audio[0].codec_context
        samples = sum(frame.samples for frame in decode_frames(container, path))
        rate, name = context.sample_rate, container.format.name.partition(",")[0]
        return AudioFacts(samples / rate, context.channels, rate, context.name, name)


def read_sound(path: Path, block_s: float = 60.0, start_s: float = 0.0) -> Iterator[Samples]:
    """Yield the recording from `start_s` on, as float32 (channels, samples) at 16 kHz, in blocks of `block_s`.

    The last block is shorter. One row per channel, of the first two channels; a silent channel is a row of zeros. Takes
    the memory of two blocks, for any length. Sound before `start_s` is decoded (0.25 s for an hour of WAV) and dropped,
    so that times are exact in every format; when the recording ends before `start_s`, yields nothing. Values are finite
    and within -1 to 1. Raises DataError when there is no sound or it can't be read.
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
                block = np.concatenate(kept, axis=1)
                yield _clipped(block[:, :size].copy())
                kept, length = [block[:, size:]], length - size
    if length:
        yield _clipped(np.concatenate(kept, axis=1))
    elif not heard and start_s <= 0:
        raise _soundless(path)  # a sample or two, too few to resample


def load_sound(path: Path) -> Samples:
    """Return a complete recording, float32 (channels, samples) at 16 kHz: 230 MB for each hour and channel.

    Raises DataError when there is no sound or it can't be read.
    """
    return np.concatenate(list(read_sound(path)), axis=1)


def has_separate_speakers(path: Path) -> bool:
    """Whether each channel has its own speaker: two channels that are not the same sound twice (dual mono).

    See ChannelComparison. Reads until the answer is certain or the recording ends, in bounded memory. Raises DataError
    when it can't be read.
    """
    comparison = ChannelComparison()
    for block in read_sound(path):
        comparison.feed(block)
        if block.shape[0] < 2 or comparison.is_sure:
            break
    return comparison.apart


class ChannelComparison:
    """Distinguishes two speakers from the same sound on both channels, fed in blocks of (channels, samples).

    Compares half-second pieces with sound. Dual mono correlates in nearly all of them at one gain, which may be up to
    12 dB and have the opposite sign; where both sides hear the same music, the other pieces decide. If one channel is
    always silent, the channels count as separate; if both are silent, or with one channel only, they don't.
    """

    def __init__(self) -> None:
        self._powers: NDArray[np.float64] = np.empty((0, 3))

    def feed(self, block: Samples) -> None:
        """Take the next samples, in blocks of at least half a second (the last may be shorter)."""
        if block.shape[0] == 2 and block.shape[1]:
            self._powers = np.concatenate([self._powers, _powers(block)])

    @property
    def apart(self) -> bool:
        """Whether each channel has its own speaker, judged by the sound so far."""
        loud = _loud_pieces(self._powers)
        return len(loud) > 0 and bool(np.mean(_alike(loud)) < 0.95)

    @property
    def is_sure(self) -> bool:
        """Whether a minute of sound has proved separate speakers; only the recording's end proves the opposite."""
        loud = _loud_pieces(self._powers)
        return len(loud) * _PIECE_S > 60 and bool(np.mean(_alike(loud)) < 0.5)


def _powers(block: Samples) -> NDArray[np.float64]:
    """Return (pieces, 3): mean square of the left, of the right, and their mean product, after removing the means."""
    size = min(int(_PIECE_S * SPEECH_HZ), block.shape[1])
    pieces = block[:, : block.shape[1] // size * size].reshape(2, -1, size)
    left, right = pieces - pieces.mean(axis=2, keepdims=True)
    return np.stack([(left * left).mean(1), (right * right).mean(1), (left * right).mean(1)], axis=1).astype(float)


def _loud_pieces(powers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pieces with sound: at most 30 dB below the recording's loud ones."""
    both = powers[:, 0] + powers[:, 1]
    return powers[both > max(_FLOOR, float(np.percentile(both, 95)) / 1000 if len(both) else 0.0)]


def _alike(loud: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which pieces have the same sound on both channels, at the usual gain."""
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
    """Yield frames in one rate and one of FFmpeg's sample formats, also when a file changes its own in between.

    Without a layout, each frame keeps its own.
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
    """Return the frames from the first that ends after `start_s`, and the seconds of it that are before `start_s`."""
    at_s = 0.0
    for frame in frames:
        end_s = at_s + frame.samples / frame.sample_rate
        if end_s > start_s:
            return max(start_s - at_s, 0.0), itertools.chain([frame], frames)
        at_s = end_s
    return 0.0, frames


def _rows(frame: AudioFrame, channels: int) -> Samples:
    """Return (channels, samples) of a planar frame; its last channel is repeated for missing ones."""
    sound = frame.to_ndarray().astype(np.float32, copy=False)
    return sound if len(sound) == channels else sound[np.minimum(np.arange(channels), len(sound) - 1)]


def _clipped(sound: Samples) -> Samples:
    """Return the sound finite and within -1 to 1, which floating-point formats don't guarantee."""
    if not (sound.max() <= 1 and sound.min() >= -1):  # also true for NaN
        np.clip(np.nan_to_num(sound, copy=False, nan=0.0), -1, 1, out=sound)
    return sound


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[InputContainer]:
    """Open a file's audio. Raises DataError when there is none or FFmpeg can't read it."""
    demuxer, options = _format_of(path)
    with contextlib.ExitStack() as opened:
        try:
            source: Any = str(path.absolute())  # FFmpeg takes text before a colon for a protocol
            if demuxer == "wav":
                source = opened.enter_context(riff.WavSound(opened.enter_context(path.open("rb"))))
            container = opened.enter_context(av.open(source, format=demuxer, options=options, buffer_size=_READ_BYTES))
        except riff.NoSound:
            raise DataError(f"{path.name} can't be read as sound: its WAV header is damaged.", _FIX) from None
        except (av.FFmpegError, OSError) as error:
            raise _broken(path, error) from None
        if not container.streams.audio:
            raise _soundless(path)
        _check_sane(container.streams.audio[0], path)
        yield container


def _check_sane(stream: AudioStream, path: Path) -> None:
    """Raise DataError for header values that make FFmpeg or PyAV crash or allocate gigabytes."""
    context = stream.codec_context
    if context is None:  # despite its type: there is no decoder
        raise DataError(f"{path.name} can't be played: it has no sound format that this app knows.", _FIX)
    if context.sample_rate not in _RATES_HZ or not 1 <= context.channels <= _CHANNELS_LIMIT:
        found = f"{context.sample_rate:,} Hz, {context.channels} channels"
        raise DataError(f"{path.name} can't be read as sound: its header says {found}.", _FIX)


def decode_frames(container: InputContainer, path: Path) -> Iterator[AudioFrame]:
    """Yield the frames that can be decoded, without gaps for damaged ones.

    Raises DataError when there is none, after LONGEST_H hours, or when the disk fails.
    """
    found, left_s = False, LONGEST_H * 3600.0
    try:
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.InvalidDataError:  # a damaged part, or an incomplete last block
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
    """Return the format by the first bytes, as names can be wrong; by the name for formats without a header."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path.name} can't be read: {error.strerror}.", _FIX) from None
    if not head:
        raise DataError(f"{path.name} is empty: 0 bytes.", "The PBX recorded no sound.")
    if head.startswith(riff.MAGIC) and len(head) <= HEADER_BYTES:
        raise _soundless(path)
    if not head.translate(None, _PRINTABLE):
        raise DataError(f"{path.name} can't be played: it is a text file.", _FIX)
    by_magic = next((known for magic, known in _MAGIC.items() if head.startswith(magic)), None)
    if known := by_magic or _BY_NAME.get(path.suffix.lower()):
        return known
    if head[0] == 0xFF and head[1:2] >= b"\xe0":  # an MPEG audio frame
        return "mp3", {}
    if len(head) >= _GSM_BYTES * 4 and all(first >> 4 == 0xD for first in head[::_GSM_BYTES]):
        return "gsm", {}
    raise DataError(f"{path.name} can't be played: it has no sound format that this app knows.", _FIX)


def _soundless(path: Path) -> DataError:
    return DataError(f"{path.name} has a header and no sound.", "The PBX recorded no sound.")


def _endless(path: Path) -> DataError:
    fix = "The file is damaged, or a call was never hung up. Play it on the PBX to find out."
    return DataError(f"{path.name} is longer than {LONGEST_H} hours.", fix)


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name} can't be read as sound: {getattr(error, 'strerror', None) or error}.", _FIX)
