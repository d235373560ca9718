"""Every format Asterisk writes becomes what a browser plays, with its true length; what can't be played says why."""

import resource
import shutil
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from pbx.errors import DataError, StorageFull
from pbx.speech.audio import load_sound, probe_audio, render_playable

TONES = sorted((Path(__file__).parent.parent / "fixtures/audio").glob("tone.*"))
WAV = next(tone for tone in TONES if tone.name == "tone.wav")
CODECS = {
    ".WAV": ("gsm_ms", 8000),
    ".alaw": ("pcm_alaw", 8000),
    ".au": ("pcm_mulaw", 8000),
    ".g722": ("g722", 16000),
    ".g726-32": ("g726le", 8000),
    ".gsm": ("gsm", 8000),
    ".ogg": ("vorbis", 8000),
    ".opus": ("opus", 48000),
    ".sln": ("pcm_s16le", 8000),
    ".sln16": ("pcm_s16le", 16000),
    ".ulaw": ("pcm_mulaw", 8000),
    ".wav": ("pcm_s16le", 8000),
    ".wav16": ("pcm_s16le", 16000),
}


def samples_of(path: Path) -> tuple[np.ndarray, int]:
    """The sound by channel, and its rate, read by FFmpeg's own guess as a browser would."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
        return np.concatenate([frame.to_ndarray() for frame in frames], axis=1), frames[0].sample_rate


def pitch_hz(sound: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate / len(sound))


def write_wav(path: Path, pitches: list[float], duration_s: float = 1.0, rate: int = 8000) -> Path:
    """One sine for each channel."""
    moments = np.arange(int(rate * duration_s)) / rate
    sound = np.stack([9000 * np.sin(2 * np.pi * pitch * moments) for pitch in pitches], axis=1).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((len(pitches), 2, rate, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    return path


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.name)
def test_every_format_is_read_and_made_playable(tone: Path, tmp_path: Path) -> None:
    facts = probe_audio(tone)
    assert (facts.codec, facts.sample_rate) == CODECS[tone.suffix]
    assert facts.channels == 1
    assert facts.duration_s == pytest.approx(0.9, abs=0.03)

    playable = render_playable(tone, tmp_path)
    assert playable.suffix == ".mp3"
    assert playable.read_bytes()[:3] in (b"ID3", b"\xff\xf3\x48")
    sound, rate = samples_of(playable)
    assert rate == 16000
    assert sound.shape[0] == 1
    assert sound.shape[1] / rate == pytest.approx(facts.duration_s, abs=0.01)
    assert pitch_hz(sound[0], rate) == pytest.approx(1004, abs=3)
    assert sound.std() > 0.3


def test_the_rendering_says_how_long_it_is(tmp_path: Path) -> None:
    long = write_wav(tmp_path / "long.wav", [440], duration_s=30)
    with av.open(str(render_playable(long, tmp_path))) as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(30, abs=0.1)
        container.seek(20 * av.time_base)
        assert float(next(container.decode(audio=0)).time or 0) == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.name)
def test_every_format_becomes_an_array(tone: Path) -> None:
    sound = load_sound(tone)
    assert (sound.dtype, sound.shape[0]) == (np.float32, 1)
    assert sound.shape[1] == pytest.approx(probe_audio(tone).duration_s * 16000, abs=2)
    assert pitch_hz(sound[0], 16000) == pytest.approx(1004, abs=3)
    assert 0.4 < sound.std() < 0.55


def test_every_tone_was_tried() -> None:
    assert {tone.suffix for tone in TONES} == set(CODECS)


@pytest.mark.parametrize(
    ("content", "name"),
    [("tone.wav", "x.gsm"), ("tone.wav", "x.ulaw"), ("tone.WAV", "x.wav"), ("tone.ogg", "x.wav"), ("tone.au", "x.bin")],
)
def test_the_bytes_decide_not_the_name(content: str, name: str, tmp_path: Path) -> None:
    shutil.copy(WAV.with_name(content), tmp_path / name)
    assert probe_audio(tmp_path / name) == probe_audio(WAV.with_name(content))
    sound, rate = samples_of(render_playable(tmp_path / name, tmp_path))
    assert pitch_hz(sound[0], rate) == pytest.approx(1004, abs=3)


@pytest.mark.parametrize("name", ["a:b.wav", "Zoë's 50% #1 + ?&.wav", "two\nlines.wav", "-i.wav", "x\udcff.wav"])
def test_any_file_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    shutil.copy(WAV, tmp_path / name)
    assert probe_audio(tmp_path / name).duration_s == probe_audio(WAV).duration_s
    assert render_playable(tmp_path / name, tmp_path / "cache").stat().st_size > 1000


def test_a_relative_path_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(WAV, "http:x.wav")
    assert probe_audio(Path("http:x.wav")).codec == "pcm_s16le"
    assert render_playable(Path("http:x.wav"), Path("c:d")).exists()


@pytest.mark.parametrize("name", ["tone.wav", "tone.WAV", "tone.wav16"])
def test_a_header_without_lengths_is_read_to_the_end(name: str, tmp_path: Path) -> None:
    """As Asterisk leaves it while a call is recorded, or when it dies in the middle of one."""
    whole = WAV.with_name(name).read_bytes()
    data_at = whole.index(b"data") + 4
    open_ended = tmp_path / name
    open_ended.write_bytes(whole[:4] + bytes(4) + whole[8:data_at] + bytes(4) + whole[data_at + 4 :])
    assert probe_audio(open_ended) == probe_audio(WAV.with_name(name))
    sound, rate = samples_of(render_playable(open_ended, tmp_path))
    assert sound.shape[1] / rate == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("name", ["tone.wav", "tone.WAV", "tone.gsm", "tone.ulaw", "tone.g722"])
def test_a_file_cut_short_lasts_as_long_as_what_is_there(name: str, tmp_path: Path) -> None:
    whole = WAV.with_name(name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2 + 1])
    assert probe_audio(tmp_path / name).duration_s == pytest.approx(0.45, abs=0.03)


def test_a_damaged_stretch_is_left_out(tmp_path: Path) -> None:
    source = render_playable(write_wav(tmp_path / "ten.wav", [440], duration_s=10), tmp_path)
    damaged = bytearray(source.read_bytes())
    damaged[20_000:22_000] = bytes(2000)
    (tmp_path / "damaged.mp3").write_bytes(damaged)
    assert 9 < probe_audio(tmp_path / "damaged.mp3").duration_s < 10.2
    assert render_playable(tmp_path / "damaged.mp3", tmp_path).stat().st_size > 30_000


def test_both_sides_of_a_stereo_recording_stay_apart(tmp_path: Path) -> None:
    stereo = write_wav(tmp_path / "stereo.wav", [440, 1000])
    assert probe_audio(stereo).channels == 2
    sound, rate = samples_of(render_playable(stereo, tmp_path))
    assert [pitch_hz(side, rate) for side in sound] == pytest.approx([440, 1000], abs=3)


HOSTILE = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.wav", b"", "is empty: 0 bytes"),
        ("empty.gsm", b"", "is empty: 0 bytes"),
        ("header.wav", WAV.read_bytes()[:44], "holds a header and no sound"),
        ("short.wav", b"RIFF", "holds a header and no sound"),
        ("header.au", WAV.with_name("tone.au").read_bytes()[:24], "holds a header and no sound"),
        ("text.wav", b"This call may be recorded.\n" * 9, "can't be played: it holds text"),
        ("page.WAV", b"<!DOCTYPE html><title>404</title>" * 9, "can't be played: it holds text"),
        ("list.wav", HOSTILE, "can't be played: it holds text"),
        ("text.gsm", b"This call may be recorded.\n" * 99, "can't be played: it holds text"),
        ("broken.wav", b"RIFF\x24\x10\0\0WAVE" + b"\0" * 400, "can't be read as sound"),
        ("broken.ogg", b"OggS" + b"\0" * 400, "can't be read as sound"),
        ("other.vox", bytes(range(128, 250)) * 9, "holds no sound format that this app knows"),
    ],
)
def test_what_holds_no_sound_says_so(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for read in (probe_audio, lambda path: render_playable(path, tmp_path / "cache")):
        with pytest.raises(DataError, match=words) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(name)
        assert caught.value.mend
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_gone_or_no_file(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "gone.wav", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=words):
            probe_audio(path)
        with pytest.raises(DataError, match=words):
            render_playable(path, tmp_path / "cache")


def test_a_rendering_is_made_once_for_each_content(tmp_path: Path) -> None:
    source, cache = tmp_path / "call.wav", tmp_path / "deep/cache"
    shutil.copy(WAV, source)
    first = render_playable(source, cache)
    made = first.stat()
    assert render_playable(source, cache) == first
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    write_wav(source, [440])
    second = render_playable(source, cache)
    assert second != first
    assert sorted(cache.iterdir()) == sorted([first, second])


def test_two_who_ask_at_once_both_get_it(tmp_path: Path) -> None:
    source = write_wav(tmp_path / "call.wav", [440], duration_s=20)
    with ThreadPoolExecutor() as pool:
        paths = list(pool.map(lambda _: render_playable(source, tmp_path / "cache"), range(4)))
    assert len(set(paths)) == 1
    assert list((tmp_path / "cache").iterdir()) == [paths[0]]
    assert probe_audio(paths[0]).duration_s == pytest.approx(20, abs=0.1)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"Nothing can be written to .*file") as caught:
        render_playable(WAV, tmp_path / "file/cache")
    assert caught.value.mend


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may grow beyond 20 KB: the kernel refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = write_wav(tmp_path / "call.wav", [440], duration_s=20)
    request.getfixturevalue("little_room")
    with pytest.raises(StorageFull, match="no room left"):
        render_playable(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
