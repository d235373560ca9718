"""What a page shows and plays of a recording: a small file that every browser seeks in, and its waveform.

Both are made once for each content and kept in a folder; a file there is whole or not there at all.
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
from pbx.machine import replace_file
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
_NARROW_HZ, _WIDE_HZ = 8_000, 16_000  # telephone's rates, each of which Opus has
_BITS_PER_S = {_NARROW_HZ: 16_000, _WIDE_HZ: 24_000}  # for each channel
# Opus with the least search: a third of LAME's time at half its size, and not to be heard at telephone quality.
_OPUS = {"application": "voip", "compression_level": "0"}
_POINTS = 1200  # more than a page is wide
_FINE_HZ = 100  # peaks taken while reading, before it is known how many of them make a point
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Waveform:
    """The loudest sample of each of equal pieces of the recording, 0 to 1, one list for each speaker's lane."""

    duration_s: float
    peaks: list[list[float]]


def render_playable(source: Path, cache_dir: Path) -> Path:
    """Return the recording as Opus in WebM (PLAYABLE_TYPE) in `cache_dir`; made once per content.

    All are converted, though browsers play PCM WAV and MP3 as they are: three hours of stereo WAV are 346 MB, which a
    page would hold in memory, Opus is 40 MB and made in half a minute; and a WAV whose writing was cut off says that
    it lasts 0 s. Chromium seeks in it to a tenth of a second. Raises DataError where there is no sound in it or it
    can't be read, StorageFull when the disk is full.
    """
    target = _place(source, cache_dir, "webm")
    if not target.exists():
        with _written_whole(target) as part:
            _write_opus(source, part)
    return target


def waveform(source: Path, cache_dir: Path, points: int = _POINTS) -> Waveform:
    """Return the peaks of the recording, at most `points` a lane; read once per content, in bounded memory.

    One lane for mono and dual mono, two where each channel has its own speaker (see has_separate_speakers). Fewer than
    `points` when the recording is shorter than `points` hundredths of a second. Raises as render_playable.
    """
    target = _place(source, cache_dir, f"{points}.json")
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Waveform(**json.loads(target.read_text(encoding="utf-8")))
    made = _measure(source, points)
    with _written_whole(target) as part:
        part.write_text(json.dumps(asdict(made), separators=(",", ":")), encoding="utf-8")
    return made


def is_prepared(source: Path, cache_dir: Path) -> bool:
    """Whether the playable file and the waveform (of the usual points) are there already. Raises DataError."""
    return all(_place(source, cache_dir, suffix).exists() for suffix in ("webm", f"{_POINTS}.json"))


def _place(source: Path, cache_dir: Path, suffix: str) -> Path:
    try:
        facts = source.stat()
    except OSError as error:
        fix = "Sync to download it again."
        raise DataError(f"{source.name} can't be read: {error.strerror}.", fix) from None
    identity = f"{source.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode("utf-8", "surrogateescape")
    return cache_dir / f"{hashlib.sha256(identity).hexdigest()[:32]}.{suffix}"


@contextlib.contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """A file beside `target` to write to, which takes its place at the end, or is gone after a failure."""
    part = target.with_name(f"{target.stem}.{secrets.token_hex(4)}.part")  # two pages may ask at the same time
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
        with contextlib.suppress(OSError):  # there only after a failure, and then the failure matters more
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
    """(channels, pieces): the largest magnitude in each `size` values; the last piece may be shorter."""
    padded = np.pad(np.abs(sound), ((0, 0), (0, -sound.shape[1] % size)))
    peaks: NDArray[np.float32] = padded.reshape(len(padded), -1, size).max(axis=2)
    return peaks
