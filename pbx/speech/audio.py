"""Recordings as Asterisk writes them: what a file holds, and how a browser plays it. Streams; never a call in memory.

The bytes decide before the name does, and FFmpeg is told the format, never left to guess it: its guesses include
playlists, by which a hostile file would have others read.
"""

import contextlib
import errno
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from pbx.errors import DataError, StorageFull

HEADER_BYTES = 44  # an Asterisk WAV of this length or less is a header without sound
_HEAD_BYTES = 512  # no sound is printable for as long as that
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"
_RATE_HZ = 16_000  # MPEG-2 layer III; at telephone's 8 kHz it would be MPEG 2.5, which is in no standard
_BITS_PER_S = {1: 32_000, 2: 48_000}
_LAME_SPEED = {"compression_level": "7"}  # a third faster than LAME's default; not to be heard at telephone quality
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MEND = "Sync again to fetch it anew; if it stays so, look at the file on the PBX."

SPEECH_HZ = 16_000  # what voice detection and Whisper take
MAX_CHANNELS = 2  # a call has two sides; what Asterisk writes has no more
_PIECE_S = 0.5  # two channels are compared in pieces of that length, short enough to hold one speaker
_FLOOR = 1e-6  # mean square of a piece that is as good as silent: -60 dB of full scale
_ALIKE = 0.98  # correlation; telephone codecs that encode each channel for itself leave 0.99 and more
_MAX_GAIN_DB = 12.0  # beyond it the quieter channel is an echo of the other

Sound = NDArray[np.float32]  # (channels, samples) at SPEECH_HZ, -1 to 1

Format = tuple[str, dict[str, str]]  # FFmpeg's demuxer and its options

_MAGIC: dict[bytes, Format] = {
    b"RIFF": ("wav", {}),
    b"RF64": ("wav", {}),
    b"OggS": ("ogg", {}),
    b".snd": ("au", {}),
    b"ID3": ("mp3", {}),
}
_SLN_HZ = {"": 8_000, "12": 12_000, "16": 16_000, "24": 24_000, "32": 32_000, "44": 44_100, "48": 48_000, "96": 96_000}
# Files without a header, by the extensions that `core show file formats` prints (16 and 22).
_BY_NAME: dict[str, Format] = {
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


def probe_audio(path: Path) -> AudioFacts:
    """Read a recording through: an hour in a quarter of a second, of GSM in one.

    Raises DataError where there is no sound in it or it can't be read.
    """
    with _opened(path) as container:
        context = container.streams.audio[0].codec_context
        samples = sum(frame.samples for frame in _frames(container, path))
        return AudioFacts(samples / context.sample_rate, context.channels, context.sample_rate, context.name)


def read_sound(path: Path, block_s: float = 60.0, start_s: float = 0.0) -> Iterator[Sound]:
    """Yield the recording from `start_s` on, as float32 (channels, samples) at 16 kHz, in blocks of `block_s`.

    The last block is shorter. One row per channel, two at most: of more, the first two. A channel without sound is a
    row of zeros. Needs the memory of two blocks, whatever the length. What lies before `start_s` is decoded (an hour
    of WAV in a quarter of a second) and dropped, so that the times are exact in every format; yields nothing when all
    does. Values are within -1 to 1, and finite. Raises DataError where there is no sound or it can't be read.
    """
    size = max(round(block_s * SPEECH_HZ), 1)
    kept: list[Sound] = []
    length = 0
    with _opened(path) as container:
        for piece in _resampled(_skipped(_frames(container, path), start_s)):
            kept.append(piece)
            length += piece.shape[1]
            while length >= size:
                whole = np.concatenate(kept, axis=1)
                yield whole[:, :size].copy()
                kept, length = [whole[:, size:]], length - size
    if length:
        yield np.concatenate(kept, axis=1)


def load_sound(path: Path) -> Sound:
    """Return the whole recording, float32 (channels, samples) at 16 kHz: 230 MB for each hour and channel.

    Raises DataError where there is no sound in it or it can't be read.
    """
    return np.concatenate(list(read_sound(path)), axis=1)


def speakers_apart(path: Path) -> bool:
    """Whether each channel is a speaker of its own: two channels that are not the same sound twice (dual mono).

    Half-second pieces with sound in them are compared: dual mono correlates in nearly all, at one gain (which may
    differ up to 12 dB, or have the other sign); where both sides only heard the same music, the rest tells. A channel
    that is silent throughout leaves the other its speaker, so that is True; both silent, or mono: False. Reads until
    it is sure, at most the whole recording, in bounded memory. Raises DataError where it can't be read.
    """
    powers = np.empty((0, 3))
    for block in read_sound(path):
        if block.shape[0] < 2:
            return False
        powers = np.concatenate([powers, _powers(block)])
        loud = _loud(powers)
        if len(loud) * _PIECE_S > 60 and np.mean(_alike(loud)) < 0.5:
            return True
    loud = _loud(powers)
    return len(loud) > 0 and bool(np.mean(_alike(loud)) < 0.95)


def _powers(block: Sound) -> NDArray[np.float64]:
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


def _skipped(frames: Iterator[AudioFrame], start_s: float) -> Iterator[tuple[AudioFrame, int]]:
    """The frames that reach beyond `start_s`, each with how many of its samples lie before it."""
    at_s = 0.0
    for frame in frames:
        end_s = at_s + frame.samples / frame.sample_rate
        before = max(round((start_s - at_s) * frame.sample_rate), 0)
        at_s = end_s
        if before < frame.samples:
            yield frame, before


def _resampled(frames: Iterator[tuple[AudioFrame, int]]) -> Iterator[Sound]:
    """Frames to arrays at 16 kHz, with as many channels as the first; a later one may differ in all (chained Ogg)."""
    resampler, form, channels, drop = AudioResampler(), None, 0, 0
    for frame, before in frames:
        if form != (form := (frame.sample_rate, frame.layout.name, frame.format.name)):
            if channels:
                yield from (_rows(rest, channels) for rest in resampler.resample(None))
            resampler = AudioResampler(format="fltp", layout=frame.layout, rate=SPEECH_HZ)
            channels = channels or min(frame.layout.nb_channels, MAX_CHANNELS)
            drop = round(before * SPEECH_HZ / frame.sample_rate)
        for piece in resampler.resample(frame):
            rows = _rows(piece, channels)[:, drop:]
            drop = max(drop - piece.samples, 0)
            yield rows
    if channels:
        yield from (_rows(rest, channels)[:, drop:] for rest in resampler.resample(None))


def _rows(frame: AudioFrame, channels: int) -> Sound:
    """(channels, samples) of a planar frame, finite and clipped; a channel that it lacks repeats its last."""
    sound = np.nan_to_num(frame.to_ndarray().astype(np.float32, copy=False), nan=0.0, posinf=1.0, neginf=-1.0)
    rows = sound[np.minimum(np.arange(channels), len(sound) - 1)]
    return np.clip(rows, -1.0, 1.0)


def render_playable(source: Path, cache_dir: Path) -> Path:
    """Return the recording as an MP3 in `cache_dir` that every browser plays and seeks in; made once per content.

    All are converted, though browsers play PCM WAV and MP3 as they are (and Ogg, but for older Safaris): three hours of
    WAV are 173 MB, which a page would hold in memory, the MP3 is 43 MB; and a WAV whose writing was cut off says that
    it lasts 0 s. Raises DataError where there is no sound in it or it can't be read, StorageFull when the disk is full.
    """
    try:
        facts = source.stat()
    except OSError as error:
        raise DataError(f"{source.name} can't be read: {error.strerror}.", _MEND) from None
    identity = f"{source.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode("utf-8", "surrogateescape")
    target = cache_dir / f"{hashlib.sha256(identity).hexdigest()[:32]}.mp3"
    if target.exists():
        return target
    part = target.with_name(f"{target.stem}.{secrets.token_hex(4)}.part")  # two pages may ask at once
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _write_mp3(source, part)
        part.replace(target)
    except (OSError, av.FFmpegError) as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(f"There is no room left in {cache_dir}.", "Make room, then play it again.") from None
        mend = "Give the account that runs the app the right to write there."
        raise DataError(f"Nothing can be written to {cache_dir}: {error.strerror}.", mend) from None
    finally:
        with contextlib.suppress(OSError):  # there only after a failure, and then the failure matters more
            part.unlink(missing_ok=True)
    return target


def _write_mp3(source: Path, target: Path) -> None:
    with _opened(source) as container, av.open(str(target.absolute()), "w", format="mp3") as output:
        channels = min(container.streams.audio[0].codec_context.channels, 2)
        layout = "stereo" if channels == 2 else "mono"
        stream = output.add_stream("libmp3lame", rate=_RATE_HZ, options=_LAME_SPEED, layout=layout)
        stream.bit_rate = _BITS_PER_S[channels]
        for frame in _frames(container, source):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The file with the one audio stream that is read; whatever FFmpeg finds wrong in reading becomes a DataError."""
    demuxer, options = _format_of(path)
    try:  # an absolute path, as FFmpeg takes what stands before a colon for a protocol
        container = av.open(str(path.absolute()), format=demuxer, options=options)
    except (av.FFmpegError, OSError) as error:
        raise _broken(path, error) from None
    with container:
        if not container.streams.audio:
            raise _soundless(path)
        yield container


def _frames(container: InputContainer, path: Path) -> Iterator[AudioFrame]:
    """What can be decoded, without gaps for what can't. Raises DataError when that is nothing, or the disk fails."""
    found = False
    try:
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.InvalidDataError:  # a damaged stretch, or a last block cut short
                continue
            for frame in frames:
                found = True
                frame.pts = None
                yield frame
    except (av.FFmpegError, OSError) as error:
        if not (found and isinstance(error, av.InvalidDataError)):
            raise _broken(path, error) from None
    if not found:
        raise _soundless(path)


def _format_of(path: Path) -> Format:
    """By the first bytes, which names contradict at times; by the name for the formats without a header."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path.name} can't be read: {error.strerror}.", _MEND) from None
    if not head:
        raise DataError(f"{path.name} is empty: 0 bytes.", "The PBX recorded nothing; there is nothing to hear.")
    if head.startswith(b"RIFF") and len(head) <= HEADER_BYTES:
        raise _soundless(path)
    if not head.translate(None, _PRINTABLE):
        raise DataError(f"{path.name} can't be played: it holds text.", _MEND)
    by_magic = next((known for magic, known in _MAGIC.items() if head.startswith(magic)), None)
    if known := by_magic or _BY_NAME.get(path.suffix.lower()):
        return known
    if head[0] == 0xFF and head[1:2] >= b"\xe0":  # an MPEG audio frame
        return "mp3", {}
    raise DataError(f"{path.name} can't be played: it holds no sound format that this app knows.", _MEND)


def _soundless(path: Path) -> DataError:
    return DataError(f"{path.name} holds a header and no sound.", "The PBX recorded nothing; there is nothing to hear.")


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name} can't be read as sound: {getattr(error, 'strerror', None) or error}.", _MEND)
