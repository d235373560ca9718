"""Recordings become playable and seekable files of the right duration with a waveform, made once each."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from pbx.errors import DataError, StorageFull
from pbx.recordings.playable import is_prepared, render_playable, waveform
from pbx.speech.audio import probe_audio
from tests.operating_systems import file_size_limit, needs_posix
from tests.unit.speech.sounds import (
    RATE,
    TONES,
    WAV,
    hiss,
    pitch_hz,
    samples_of,
    save_wav,
    silence,
    sine,
    two_mp3_in_one,
    write_wav,
)

Make = Callable[[Path, Path], object]


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.name)
def test_every_format_becomes_playable(tone: Path, tmp_path: Path) -> None:
    playable = render_playable(tone, tmp_path)
    assert playable.suffix == ".webm"
    assert playable.read_bytes()[:4] == b"\x1aE\xdf\xa3"
    samples, rate = samples_of(playable)
    assert samples.shape[0] == 1
    assert samples.shape[1] / rate == pytest.approx(probe_audio(tone).duration_s, abs=0.025)
    assert pitch_hz(samples[0], rate) == pytest.approx(1004, abs=3)
    assert samples.std() > 0.3


def test_a_playable_file_has_its_duration_and_is_seekable(tmp_path: Path) -> None:
    long = save_wav(tmp_path / "long.wav", [np.concatenate([silence(20), sine(440, 10)])])
    with av.open(str(render_playable(long, tmp_path))) as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(30, abs=0.1)
        container.seek(19 * av.time_base)
        frames = [(frame.time or 0, np.abs(frame.to_ndarray()).max()) for frame in container.decode(audio=0)]
    assert 13 < frames[0][0] <= 19  # a cluster lasts 5 s; players decode from its start
    assert next(at for at, level in frames if level > 0.1) == pytest.approx(20, abs=0.05)


def test_a_playable_file_is_small(tmp_path: Path) -> None:
    """A minute of stereo at telephone quality takes less than 300 KB; as WAV it takes 1.9 MB."""
    noisy = save_wav(tmp_path / "x.wav", [hiss(60, 0.1)[::2], hiss(60, 0.05)[::2]], rate=8000)
    assert render_playable(noisy, tmp_path).stat().st_size < 300_000


def test_a_damaged_part_is_left_out(tmp_path: Path) -> None:
    source = render_playable(write_wav(tmp_path / "ten.wav", [440], duration_s=10), tmp_path)
    with av.open(str(source)) as container, av.open(str(tmp_path / "x.ogg"), "w", format="ogg") as output:
        stream = output.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(container.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    damaged = bytearray((tmp_path / "x.ogg").read_bytes())
    damaged[8_000:10_000] = bytes(2000)
    (tmp_path / "damaged.ogg").write_bytes(damaged)
    assert 7 < probe_audio(tmp_path / "damaged.ogg").duration_s < 10
    assert probe_audio(render_playable(tmp_path / "damaged.ogg", tmp_path)).duration_s == pytest.approx(
        probe_audio(tmp_path / "damaged.ogg").duration_s, abs=0.05
    )


def test_both_sides_of_a_stereo_recording_stay_separate(tmp_path: Path) -> None:
    for pitches in ([440, 1000], [440, 1000, 2000]):
        stereo = write_wav(tmp_path / f"{len(pitches)}.wav", pitches)
        assert probe_audio(stereo).channels == len(pitches)
        samples, rate = samples_of(render_playable(stereo, tmp_path))
        assert [pitch_hz(side, rate) for side in samples] == pytest.approx([440, 1000], abs=3)


def test_a_sample_rate_that_changes_within_a_file_is_supported(tmp_path: Path) -> None:
    source = two_mp3_in_one(tmp_path)
    samples, rate = samples_of(render_playable(source, tmp_path))
    assert samples.shape[1] / rate == pytest.approx(waveform(source, tmp_path).duration_s, abs=0.1)
    assert pitch_hz(samples[0, -rate:], rate) == pytest.approx(1000, abs=4)


def test_a_waveform_shows_the_level_of_each_channel(tmp_path: Path) -> None:
    left = np.concatenate([silence(6), sine(440, 6, level=0.5)])
    right = np.concatenate([sine(1000, 3, level=0.25), silence(9)])
    result = waveform(save_wav(tmp_path / "x.wav", [left, right]), tmp_path)
    assert result.duration_s == 12
    assert [len(lane) for lane in result.peaks] == [1200, 1200]
    assert result.peaks[0][:599] == [0] * 599
    assert result.peaks[0][601:] == pytest.approx([0.5] * 599, abs=0.005)
    assert result.peaks[1][:299] == pytest.approx([0.25] * 299, abs=0.005)
    assert result.peaks[1][301:] == [0] * 899


@pytest.mark.parametrize(
    ("channels", "points", "lanes"),
    [
        ([sine(440, 2)], 200, 1),
        ([sine(440, 2), 0.5 * sine(440, 2)], 200, 1),
        ([sine(440, 2), silence(2)], 200, 2),
        ([silence(2), silence(2)], 200, 1),
        ([sine(440, 0.2)], 20, 1),
        ([hiss(13, 5)], 1200, 1),
    ],
    ids=["mono", "dual mono", "a channel missing", "silence", "0.2 s", "clipped"],
)
def test_a_waveform_has_a_lane_for_each_speaker(
    channels: list[np.ndarray], points: int, lanes: int, tmp_path: Path
) -> None:
    result = waveform(save_wav(tmp_path / "x.wav", channels), tmp_path)
    assert [len(lane) for lane in result.peaks] == [points] * lanes
    assert result.duration_s == pytest.approx(len(channels[0]) / RATE, abs=0.001)
    assert all(0 <= peak <= 1 for lane in result.peaks for peak in lane)


def test_a_damaged_waveform_is_made_again(tmp_path: Path) -> None:
    first = waveform(WAV, tmp_path)
    (waveform_file,) = tmp_path.iterdir()
    assert json.loads(waveform_file.read_text())["duration_s"] == first.duration_s
    for damage in ("", "[1]", '{"peaks": 3}'):
        waveform_file.write_text(damage)
        assert waveform(WAV, tmp_path) == first


def test_a_recording_is_prepared_with_both_its_playable_file_and_its_waveform(tmp_path: Path) -> None:
    assert not is_prepared(WAV, tmp_path / "cache")
    render_playable(WAV, tmp_path / "cache")
    assert not is_prepared(WAV, tmp_path / "cache")
    waveform(WAV, tmp_path / "cache")
    assert is_prepared(WAV, tmp_path / "cache")


@pytest.mark.parametrize("make", [render_playable, waveform])
def test_each_file_is_made_once_for_each_content(make: Make, tmp_path: Path) -> None:
    source, cache = tmp_path / "call.wav", tmp_path / "deep/cache"
    shutil.copy(WAV, source)
    first = make(source, cache)
    result = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.iterdir()}
    assert make(source, cache) == first
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.iterdir()} == result
    write_wav(source, [440])
    assert make(source, cache) != first
    assert len(list(cache.iterdir())) == 2
    source.unlink()
    for use in (make, is_prepared):
        with pytest.raises(DataError, match="No such file"):
            use(source, cache)


@pytest.mark.parametrize("make", [render_playable, waveform])
def test_concurrent_requests_make_one_file(make: Make, tmp_path: Path) -> None:
    source = write_wav(tmp_path / "call.wav", [440], duration_s=20)
    with ThreadPoolExecutor() as pool:
        result = list(pool.map(lambda _: make(source, tmp_path / "cache"), range(4)))
    assert all(each == result[0] for each in result)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("make", [render_playable, waveform])
def test_a_cache_folder_that_cannot_be_written_is_an_error(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"Nothing can be written to .*file") as caught:
        make(WAV, tmp_path / "file/cache")
    assert caught.value.fix


@needs_posix
def test_a_relative_cache_path_with_a_colon_is_not_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert render_playable(WAV, Path("c:d")).exists()


@pytest.mark.parametrize("make", [render_playable, waveform])
def test_a_full_disk_leaves_no_partial_file(make: Make, tmp_path: Path) -> None:
    source = write_wav(tmp_path / "call.wav", [440], duration_s=20)
    with file_size_limit(4_000), pytest.raises(StorageFull, match="Not enough disk space"):
        make(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
