"""Make what the player needs of a recording: a small file that every browser can seek in, and a waveform.

Both are made once per content and kept in a cache folder, which contains only complete files.
"""

import contextlib
import errno
import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pbx.errors import DataError, StorageFull
from pbx.operating_system import replace_file
from pbx.speech.audio import (
    MAX_CHANNELS,
    SPEECH_HZ,
    ChannelComparison,
    Samples,
    decode_frames,
    open_sound,
    read_sound,
    resample_frames,
)

PLAYABLE_TYPE = "audio/webm"
_NARROW_HZ, _WIDE_HZ = 8_000, 16_000  # telephone sampling rates; Opus supports both
_BITS_PER_S = {_NARROW_HZ: 16_000, _WIDE_HZ: 24_000}  # per channel
# The fastest setting of Opus: a third of LAME's time and half its size, with no audible loss at telephone quality.
_OPUS = {"application": "voip", "compression_level": "0"}
_POINTS = 1200  # more than the width of a page in pixels
_FINE_HZ = 100  # peaks per second taken while reading, before it is known how many make up one point
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Waveform:
    """The peaks of a recording: the loudest sample of each of its equal pieces, 0 to 1, in one list per lane."""

    duration_s: float
    peaks: list[list[float]]


def render_playable(source: Path, cache_dir: Path) -> Path:
    """Return the path of the recording as Opus in WebM (PLAYABLE_TYPE) in `cache_dir`, converting it if needed.

    Even PCM WAV and MP3, which browsers can play, are converted: three hours of stereo WAV are 346 MB, which a page
    would hold in memory; Opus takes 40 MB and half a minute to make. A WAV that was cut off while being written also
    claims to last 0 s. Chromium seeks in the result with a precision of a tenth of a second.

    Raises DataError if the recording has no sound or can't be read, and StorageFull if the disk is full.
    """
    target = _cached_path(source, cache_dir, "webm")
    if not target.exists():
        with _replacing(target) as part:
            _write_opus(source, part)
    return target


def waveform(source: Path, cache_dir: Path, points: int = _POINTS) -> Waveform:
    """Return the peaks of the recording, at most `points` per lane. It is read once per content, in bounded memory.

    Mono and dual mono have one lane. There are two if each channel has its own speaker (see has_separate_speakers). A
    recording shorter than `points` hundredths of a second has fewer peaks. Raises the errors of render_playable.
    """
    target = _cached_path(source, cache_dir, f"{points}.json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Waveform(**json.loads(target.read_text(encoding="utf-8")))
    made = _measure(source, points)
    with _replacing(target) as part:
        part.write_text(json.dumps(asdict(made), separators=(",", ":")), encoding="utf-8")
    return made


def is_prepared(source: Path, cache_dir: Path) -> bool:
    """Return whether the playable file and the waveform (with the default number of points) exist already.

    Raises DataError if the recording can't be read.
    """
    return all(_cached_path(source, cache_dir, suffix).exists() for suffix in ("webm", f"{_POINTS}.json"))


def _cached_path(source: Path, cache_dir: Path, suffix: str) -> Path:
    try:
        facts = source.stat()
    except OSError as error:
        fix = "Sync to download it again."
        raise DataError(f"{source.name} can't be read: {error.strerror}.", fix) from None
    identity = f"{source.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode("utf-8", "surrogateescape")
    return cache_dir / f"{hashlib.sha256(identity).hexdigest()[:32]}.{suffix}"


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Provide a temporary file next to `target`. It replaces `target` at the end, or is deleted after a failure.

    Raises StorageFull or DataError.
    """
    part = target.with_name(f"{target.stem}.{secrets.token_hex(4)}.part")  # two pages can do this at the same time
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        replace_file(part, target)
    except (OSError, av.FFmpegError) as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(
                f"Not enough disk space in {target.parent}.", "Free disk space, then play it again."
            ) from None
        fix = "Give the account that runs the app the right to write there."
        raise DataError(f"Nothing can be written to {target.parent}: {error.strerror}.", fix) from None
    finally:
        with contextlib.suppress(OSError):  # it exists only after a failure, and that failure matters more
            part.unlink(missing_ok=True)


def _write_opus(source: Path, target: Path) -> None:
    with open_sound(source) as container, av.open(str(target.absolute()), "w", format="webm") as output:
        context = container.streams.audio[0].codec_context
        channels = min(context.channels, MAX_CHANNELS)
        layout = "stereo" if channels == 2 else "mono"
        rate = _NARROW_HZ if context.sample_rate <= _NARROW_HZ else _WIDE_HZ
        stream = output.add_stream("libopus", rate=rate, options=_OPUS, layout=layout)
        stream.bit_rate = _BITS_PER_S[rate] * channels
        for frame in resample_frames(decode_frames(container, source), rate, "s16", layout):
            frame.pts = None
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _measure(source: Path, points: int) -> Waveform:
    comparison, fine, samples = ChannelComparison(), [], 0
    for block in read_sound(source):
        comparison.feed(block)
        fine.append(_peaks(block, SPEECH_HZ // _FINE_HZ))
        samples += block.shape[1]
    lanes = np.concatenate(fine, axis=1)
    if len(lanes) == 2 and not comparison.apart:
        lanes = lanes.max(axis=0, keepdims=True)
    starts = np.linspace(0, lanes.shape[1], min(points, lanes.shape[1]), endpoint=False).astype(int)
    peaks = np.maximum.reduceat(lanes, starts, axis=1).astype(float).round(3)
    return Waveform(round(samples / SPEECH_HZ, 3), peaks.tolist())


def _peaks(sound: Samples, size: int) -> NDArray[np.float32]:
    """Return the largest magnitude of each `size` samples, as (channels, pieces). The last piece can be shorter."""
    padded = np.pad(np.abs(sound), ((0, 0), (0, -sound.shape[1] % size)))
    peaks: NDArray[np.float32] = padded.reshape(len(padded), -1, size).max(axis=2)
    return peaks
