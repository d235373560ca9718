"""How a sync handles files of another format than listed, damaged files, and files that are too large."""

import shutil
import socket
import struct
import time
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from pbx.errors import StorageFull
from pbx.recordings.download import Room
from pbx.recordings.sync import SyncResult
from tests.unit.asterisk.ari.replay_server import STORED, reply, wav
from tests.unit.recordings.sync_bench import NOW, Bench, name
from tests.unit.speech.sounds import AUDIO

SOUND = bytes(48_000)  # 3 s
OLD = NOW - timedelta(days=2)


def encoded(folder: Path, suffix: str, codec: str) -> bytes:
    """Three seconds of a tone in another format."""
    sound = (np.sin(np.arange(24_000) / 5) * 9000).astype("<i2")[np.newaxis]
    path = folder / f"x.{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        frame.sample_rate = 8000
        resampler = av.AudioResampler(stream.format, "mono", 8000, frame_size=stream.codec_context.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            piece.pts = None
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path.read_bytes()


CODECS = {"flac": "flac", "ogg": "libopus", "mp3": "libmp3lame"}


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("listed", ["wav", "gsm", "ulaw", "ogg"])
def test_a_recording_under_another_formats_name_is_kept(bench: Bench, suffix: str, listed: str, tmp_path: Path) -> None:
    file = encoded(tmp_path, suffix, CODECS[suffix])
    bench.pbx.recordings, bench.pbx.formats = {name(): file}, {name(): listed}
    assert bench.sync().downloaded == 1
    row = bench.rows()[name()]
    if not (suffix == "mp3" and listed in ("gsm", "ulaw") and not file.startswith(b"ID3")):  # MP3 without a header
        assert row.duration_s == pytest.approx(3.0, abs=0.15)
        assert row.file.endswith(f".{suffix}")


@pytest.mark.parametrize("file", ["mp3-named.wav", "sox-pipe.wav"])
def test_files_written_by_lame_and_sox_last_three_seconds(bench: Bench, file: str) -> None:
    bench.pbx.recordings = {name(): (AUDIO / file).read_bytes()}
    assert bench.sync() == SyncResult(listed=1, new=1, downloaded=1)
    assert bench.rows()[name()].duration_s == pytest.approx(3.0, abs=0.01)


def test_raw_gsm_named_wav_is_kept(bench: Bench) -> None:
    bench.pbx.recordings = {name(): (AUDIO / "tone.gsm").read_bytes()}
    assert bench.sync().downloaded == 1
    assert bench.rows()[name()].duration_s == pytest.approx(0.9, abs=0.03)
    assert bench.rows()[name()].file.endswith(".gsm")


@pytest.mark.parametrize(
    "announced",
    [0x7FFFF000, 0x7FFFEFFF, 0x7FFFF024, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFDB, 0x7FFFEFC4],
)
@pytest.mark.parametrize("riff", [None, 0, 0xFFFFFFFF, 0x7FFFF024])
def test_a_wav_written_to_a_pipe_has_the_duration_of_its_audio(bench: Bench, announced: int, riff: int | None) -> None:
    riff = min(announced + 36, 0xFFFFFFFF) if riff is None else riff
    bench.pbx.recordings = {name(): wav(SOUND, announced=announced, riff=riff)}
    assert bench.sync().downloaded == 1
    assert bench.rows()[name()].duration_s == 3.0


def test_a_truncated_wav_waits_a_day_and_is_then_kept(bench: Bench) -> None:
    recent, old = name(), name(at=OLD)
    bench.pbx.recordings = dict.fromkeys((recent, old), wav(SOUND, announced=60_000))
    assert bench.sync() == SyncResult(listed=2, new=2, downloaded=1, unreadable=1)
    assert "cut short: 48000 of 60000" in bench.rows()[recent].reason
    assert bench.rows()[old].duration_s == 3.0


def test_a_wav_that_is_still_being_written_waits(bench: Bench) -> None:
    bench.pbx.recordings = {name(): wav(SOUND, riff=0, announced=0), name(leg=1): wav(SOUND, announced=0)}
    assert bench.sync() == SyncResult(listed=2, new=2, waiting=2)


def test_a_wav_with_a_damaged_header_is_kept(bench: Bench) -> None:
    rf64 = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 0, len(SOUND), 0, 0) + wav(SOUND)[12:40]
    bench.pbx.recordings = {name(): rf64 + b"\xff\xff\xff\xff" + SOUND}
    assert bench.sync().downloaded == 1
    assert bench.rows()[name()].duration_s == 3.0


def test_a_recording_that_is_too_large_is_skipped_and_the_rest_downloaded(bench: Bench) -> None:
    large, small = name(leg=1), name(leg=2)
    bench.pbx.recordings = {large: wav(SOUND), small: wav()}
    room = Room(largest_bytes=40_000)
    assert bench.sync(room=room) == SyncResult(listed=2, new=2, downloaded=1, too_large=1)
    row = bench.rows()[large]
    assert (row.state, row.size_bytes, row.file) == ("too_large", 48_044, "")
    assert row.reason == "It is 48 KB; the limit is 40 KB. Raise FREEPBX_LARGEST_RECORDING_MB to download it."
    assert bench.calls()[row.uniqueid].state == "too_large"
    assert bench.sync(room=room) == SyncResult(listed=2)
    assert bench.sync(room=room, dry_run=True) == SyncResult(listed=2)
    assert bench.pbx.downloads()[large] == 1
    assert bench.sync() == SyncResult(listed=2, downloaded=1)  # under a higher limit


@pytest.mark.parametrize("length", [10_000_000_000, 999_999_999_999_999])
def test_a_file_of_10_gb_is_skipped_without_writing_to_disk(bench: Bench, length: int) -> None:
    bench.pbx.recordings = {name(leg=1): b"", name(leg=2): wav()}
    path = f"{STORED}/{name(leg=1).replace('/', '%2F')}/file"
    complete = reply("file", b"x" * 100_000).replace(b"100000", b"%d" % length)
    bench.pbx.answers[path] = complete
    assert bench.sync() == SyncResult(listed=2, new=2, downloaded=1, too_large=1)
    assert bench.rows()[name(leg=1)].size_bytes == length
    assert sum(len(file) for file in bench.files().values()) == len(wav())
    assert bench.sync() == SyncResult(listed=2)


def test_a_sync_keeps_the_minimum_free_disk_space(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.pbx.recordings = {name(): wav(SOUND)}
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 540_000, 540_000))
    with pytest.raises(StorageFull, match="540 KB free") as raised:
        bench.sync(room=Room(least_free_bytes=500_000))
    assert "PBX_LEAST_FREE_MB" in raised.value.fix
    assert bench.files() == {}
    assert bench.states() == {name(): "listed"} or bench.states() == {name(): "failed"}
    assert bench.sync(room=Room(least_free_bytes=100_000)).downloaded == 1


def test_concurrent_downloads_share_the_free_disk_space(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.pbx.recordings = {name(leg=leg): wav(SOUND) for leg in range(4)}

    def send_in_parts(_: object, sock: socket.socket, complete: bytes) -> None:
        sock.sendall(complete[:10_000])
        time.sleep(0.3)
        sock.sendall(complete[10_000:])

    bench.pbx.faults = {f"{STORED}/{name(leg=leg).replace('/', '%2F')}/file": [send_in_parts] for leg in range(4)}
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, 600_000))
    with pytest.raises(StorageFull):
        bench.sync(room=Room(least_free_bytes=500_000), parallel=4)
    assert len(bench.files()) <= 3  # two of 48 KB each fit at the same time
