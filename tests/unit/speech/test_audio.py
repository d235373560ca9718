"""Every format that Asterisk writes becomes an array of the right length; unreadable files raise clear errors."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pbx.errors import DataError
from pbx.recordings.playable import render_playable, waveform
from pbx.speech.audio import has_separate_speakers, load_sound, probe_audio, read_sound
from tests.operating_systems import needs_linux
from tests.unit.speech.sounds import (
    AUDIO,
    RATE,
    TONES,
    WAV,
    hiss,
    pitch_hz,
    save_wav,
    silence,
    sine,
    two_mp3_in_one,
    write_wav,
)

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


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.name)
def test_every_format_becomes_an_array(tone: Path) -> None:
    info = probe_audio(tone)
    assert (info.codec, info.sample_rate) == CODECS[tone.suffix]
    assert info.channels == 1
    assert info.duration_s == pytest.approx(0.9, abs=0.03)

    sound = load_sound(tone)
    assert (sound.dtype, sound.shape[0]) == (np.float32, 1)
    assert sound.shape[1] == pytest.approx(info.duration_s * RATE, abs=2)
    assert pitch_hz(sound[0], RATE) == pytest.approx(1004, abs=3)
    assert 0.4 < sound.std() < 0.55


def test_every_format_has_a_test_tone() -> None:
    assert {tone.suffix for tone in TONES} == set(CODECS)


@pytest.mark.parametrize(
    ("content", "name"),
    [("tone.wav", "x.gsm"), ("tone.wav", "x.ulaw"), ("tone.WAV", "x.wav"), ("tone.ogg", "x.wav"), ("tone.au", "x.bin")],
)
def test_the_format_is_detected_from_the_content_and_not_from_the_name(content: str, name: str, tmp_path: Path) -> None:
    shutil.copy(WAV.with_name(content), tmp_path / name)
    assert probe_audio(tmp_path / name) == probe_audio(WAV.with_name(content))
    assert np.array_equal(load_sound(tmp_path / name), load_sound(WAV.with_name(content)))


@pytest.mark.parametrize("name", ["tone.wav", "tone.gsm", "tone.g722", "tone.ogg", "tone.sln16"])
def test_blocks_add_up_to_the_complete_sound_and_a_later_start_is_exact(name: str) -> None:
    complete = load_sound(WAV.with_name(name))
    blocks = list(read_sound(WAV.with_name(name), block_s=0.25))
    assert [block.shape[1] for block in blocks[:-1]] == [4000] * (len(blocks) - 1)
    assert 0 < blocks[-1].shape[1] <= 4000
    assert np.array_equal(np.concatenate(blocks, axis=1), complete)

    later = np.concatenate(list(read_sound(WAV.with_name(name), start_s=0.5)), axis=1)
    assert later.shape[1] == pytest.approx(complete.shape[1] - 8000, abs=2)
    assert np.abs(later[:, 200:6000] - complete[:, 8200:14000]).max() < 0.01
    assert list(read_sound(WAV.with_name(name), start_s=5)) == []


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_every_rate_becomes_16_khz(rate: int, tmp_path: Path) -> None:
    sound = load_sound(write_wav(tmp_path / "x.wav", [440], duration_s=2, rate=rate))
    assert sound.shape == (1, pytest.approx(32_000, abs=20))
    assert pitch_hz(sound[0], RATE) == pytest.approx(440, abs=1)


def test_the_first_two_of_several_channels_are_read(tmp_path: Path) -> None:
    sound = load_sound(write_wav(tmp_path / "three.wav", [440, 1000, 2000]))
    assert [pitch_hz(row, RATE) for row in sound] == pytest.approx([440, 1000], abs=3)


def test_samples_above_full_scale_or_not_a_number_are_clipped(tmp_path: Path) -> None:
    """Other programs write WAV files of floating-point numbers, which can have any value."""
    loud = np.array([0.5, 3.0, -7.0, np.inf, -np.inf, np.nan, 1e30] * 2000, "<f4").tobytes()
    format_chunk = (3).to_bytes(2, "little") + (1).to_bytes(2, "little") + (RATE).to_bytes(4, "little")
    format_chunk += (4 * RATE).to_bytes(4, "little") + (4).to_bytes(2, "little") + (32).to_bytes(2, "little")
    body = b"WAVEfmt " + (16).to_bytes(4, "little") + format_chunk + b"data" + len(loud).to_bytes(4, "little") + loud
    (tmp_path / "x.wav").write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    sound = load_sound(tmp_path / "x.wav")
    assert np.isfinite(sound).all()
    assert (sound.min(), sound.max()) == (-1, 1)


def test_a_sample_rate_that_changes_in_the_middle_is_followed(tmp_path: Path) -> None:
    """Players treat two MP3 files in one as one recording."""
    source = two_mp3_in_one(tmp_path)
    sound = load_sound(source)
    assert sound.shape == (1, pytest.approx(4 * RATE, abs=4000))
    assert pitch_hz(sound[0, : 3 * RATE // 2], RATE) == pytest.approx(440, abs=3)
    assert pitch_hz(sound[0, -3 * RATE // 2 :], RATE) == pytest.approx(1000, abs=3)


def test_sound_after_an_ogg_in_another_codec_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.ogg").write_bytes((AUDIO / "tone.ogg").read_bytes() + (AUDIO / "tone.opus").read_bytes())
    assert load_sound(tmp_path / "x.ogg").shape == load_sound(AUDIO / "tone.ogg").shape


def voice(name: str, length_s: float) -> np.ndarray:
    sound = load_sound(AUDIO / name)[0]
    return np.resize(np.concatenate([sound, silence(1)]), int(length_s * RATE))


CALLER, AGENT = voice("talk.ulaw", 20), voice("phrase-2.ulaw", 20)
TURNS = np.repeat(np.arange(10) % 2, 2 * RATE).astype(np.float32)


@pytest.mark.parametrize(
    ("channels", "separate"),
    [
        ([CALLER], False),
        ([CALLER, CALLER], False),
        ([CALLER, 0.4 * CALLER], False),
        ([CALLER, -CALLER], False),
        ([CALLER + hiss(20, 0.001), CALLER - hiss(20, 0.001)], False),
        ([hiss(20, 0.1), hiss(20, 0.1)], False),
        ([silence(20), silence(20)], False),
        ([CALLER, AGENT], True),
        ([CALLER * TURNS, AGENT * (1 - TURNS)], True),
        ([CALLER * TURNS + 0.1 * AGENT * (1 - TURNS), AGENT * (1 - TURNS) + 0.1 * CALLER * TURNS], True),
        ([CALLER, 0.1 * CALLER], True),
        ([CALLER, silence(20)], True),
        ([silence(20), hiss(20, 0.0001) + CALLER], True),
        ([np.where(np.arange(20 * RATE) < 15 * RATE, sine(440, 20), x) for x in (CALLER, AGENT)], True),
        ([CALLER[:3200], AGENT[:3200]], True),
        ([CALLER[:3200], CALLER[:3200]], False),
    ],
    ids=[
        "mono", "dual mono", "softer", "inverted", "noisy", "noise", "silence", "two", "turns", "crosstalk",
        "an echo", "right missing", "left missing", "shared music", "0.2 s of two", "0.2 s of one",
    ],
)  # fmt: skip
def test_dual_mono_is_distinguished_from_two_speakers(
    channels: list[np.ndarray], separate: bool, tmp_path: Path
) -> None:
    assert has_separate_speakers(save_wav(tmp_path / "x.wav", channels)) is separate


def test_dual_mono_is_detected_after_each_channel_was_encoded_separately(tmp_path: Path) -> None:
    wav = save_wav(tmp_path / "x.wav", [CALLER, CALLER])
    assert has_separate_speakers(render_playable(wav, tmp_path)) is False


def test_a_missing_channel_is_a_row_of_zeros(tmp_path: Path) -> None:
    sound = load_sound(save_wav(tmp_path / "x.wav", [silence(1), CALLER[:RATE]]))
    assert not sound[0].any()
    assert sound[1].std() > 0.01


THREE_HOURS = """
import resource, sys
from pathlib import Path
from pbx.recordings.playable import waveform
source = Path(sys.argv[1])
waveform(source.with_name("short.wav"), source.parent)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = waveform(source, source.parent)
print(made.duration_s, len(made.peaks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@needs_linux
def test_three_hours_take_little_more_memory_than_a_minute(tmp_path: Path) -> None:
    """Computes the waveform, which reads everything and compares the channels."""
    minute = save_wav(tmp_path / "short.wav", [voice("talk.ulaw", 60), voice("phrase-2.ulaw", 60)]).read_bytes()
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(minute[:4] + bytes(4) + minute[8:40] + bytes(4) + minute[44:])
        file.truncate(44 + 3 * 3600 * RATE * 4)  # a sparse file: silence that takes no disk space
    run = [sys.executable, "-c", THREE_HOURS, str(tmp_path / "long.wav")]
    duration_s, lanes, grown_kb = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert (float(duration_s), int(lanes)) == (3 * 3600, 2)
    assert int(grown_kb) < 60_000  # the complete sound would take 1.4 GB


@pytest.mark.parametrize("name", ["a:b.wav", "Zoë's 50% #1 + ?&.wav", "two\nlines.wav", "-i.wav", "x\udcff.wav"])
def test_special_characters_in_file_names_have_no_meaning(name: str, tmp_path: Path) -> None:
    shutil.copy(WAV, tmp_path / name)
    assert probe_audio(tmp_path / name).duration_s == probe_audio(WAV).duration_s
    assert load_sound(tmp_path / name).shape == load_sound(WAV).shape


def test_a_relative_path_with_a_colon_is_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(WAV, "http:x.wav")
    assert probe_audio(Path("http:x.wav")).codec == "pcm_s16le"
    assert load_sound(Path("http:x.wav")).shape == load_sound(WAV).shape


@pytest.mark.parametrize("name", ["tone.wav", "tone.WAV", "tone.wav16"])
def test_a_header_without_lengths_is_read_to_the_end(name: str, tmp_path: Path) -> None:
    """Asterisk's headers have no lengths while a call is recorded, or if it dies during one."""
    complete = WAV.with_name(name).read_bytes()
    data_at = complete.index(b"data") + 4
    open_ended = tmp_path / name
    open_ended.write_bytes(complete[:4] + bytes(4) + complete[8:data_at] + bytes(4) + complete[data_at + 4 :])
    assert probe_audio(open_ended) == probe_audio(WAV.with_name(name))
    assert np.array_equal(load_sound(open_ended), load_sound(WAV.with_name(name)))


@pytest.mark.parametrize("name", ["tone.wav", "tone.WAV", "tone.gsm", "tone.ulaw", "tone.g722"])
def test_a_truncated_file_is_as_long_as_its_remaining_sound(name: str, tmp_path: Path) -> None:
    complete = WAV.with_name(name).read_bytes()
    (tmp_path / name).write_bytes(complete[: len(complete) // 2 + 1])
    assert probe_audio(tmp_path / name).duration_s == pytest.approx(0.45, abs=0.03)
    assert load_sound(tmp_path / name).shape[1] == pytest.approx(0.45 * RATE, abs=500)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.wav", b"", "is empty: 0 bytes"),
        ("empty.gsm", b"", "is empty: 0 bytes"),
        ("header.wav", WAV.read_bytes()[:44], "has a header and no sound"),
        ("short.wav", b"RIFF", "has a header and no sound"),
        ("header.au", WAV.with_name("tone.au").read_bytes()[:24], "has a header and no sound"),
        ("text.wav", b"This call may be recorded.\n" * 9, "can't be played: it is a text file"),
        ("page.WAV", b"<!DOCTYPE html><title>404</title>" * 9, "can't be played: it is a text file"),
        ("list.wav", PLAYLIST, "can't be played: it is a text file"),
        ("text.gsm", b"This call may be recorded.\n" * 99, "can't be played: it is a text file"),
        ("broken.wav", b"RIFF\x24\x10\0\0WAVE" + b"\0" * 400, "can't be read as sound"),
        ("broken.ogg", b"OggS" + b"\0" * 400, "can't be read as sound"),
        ("other.vox", bytes(range(128, 250)) * 9, "has no sound format that this app knows"),
    ],
)
def test_a_file_without_sound_raises_a_clear_error(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    cache = tmp_path / "cache"
    for read in (
        probe_audio,
        load_sound,
        has_separate_speakers,
        lambda path: render_playable(path, cache),
        lambda path: waveform(path, cache),
    ):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(name)
        assert caught.value.fix
    assert list(cache.iterdir() if cache.exists() else []) == []


def test_missing_files_and_directories_raise_errors(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "gone.wav", "No such file"), (tmp_path, "Is a directory")):
        for read in (probe_audio, load_sound, has_separate_speakers):
            with pytest.raises(DataError, match=message):
                read(path)


def test_a_few_samples_are_a_sound_but_a_single_one_is_not(tmp_path: Path) -> None:
    few = save_wav(tmp_path / "x.wav", [np.ones(99, np.float32)], rate=8000)
    assert load_sound(few).shape == (1, 198)
    assert waveform(few, tmp_path).duration_s == pytest.approx(0.012)
    one = save_wav(tmp_path / "y.wav", [np.ones(1, np.float32)], rate=8000)
    for read in (load_sound, lambda path: waveform(path, tmp_path)):
        with pytest.raises(DataError, match="no sound"):
            read(one)
