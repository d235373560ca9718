"""Small files that announce gigabytes or contain days of silence take little memory and time."""

import io
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.errors import DataError
from pbx.recordings.playable import render_playable, waveform
from pbx.speech import audio
from pbx.speech.audio import load_sound, probe_audio, read_sound
from pbx.speech.wav_for_ffmpeg import NoSound, WavSound
from tests.operating_systems import needs_linux
from tests.paths import ROOT
from tests.unit.asterisk.ari.replay_server import wav
from tests.unit.speech.sounds import AUDIO

SOUND = bytes(16_000)  # one second
HUGE = 2_000_000_000
FORMAT = wav()[12:36]

MEASURE = """
import resource, sys
from pathlib import Path
from pbx.errors import DataError
from pbx.speech.audio import probe_audio
good, *bad = map(Path, sys.argv[1:])
probe_audio(good)
for path in bad:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        summary = f"{probe_audio(path).duration_s:.1f} s"
    except DataError as error:
        summary = f"refused: {error.fix}"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, summary)
"""


def chunk(name: bytes, length: int, content: bytes = b"x" * 4000) -> bytes:
    return name + struct.pack("<I", length) + content


INFO = b"INFOISFT" + struct.pack("<I", HUGE - 20) + b"x" * 4000
COMPLETE_INFO = b"INFO" + chunk(b"ISFT", HUGE - 20) + bytes(4)


def id3_length(length: int) -> bytes:
    """A length in ID3's encoding: seven bits per byte."""
    return bytes((length >> shift) & 127 for shift in (21, 14, 7, 0))


def id3(frame: bytes, version: int) -> bytes:
    max_length = 0x0FFFFFFF
    length = id3_length(max_length - 100) if version == 4 else struct.pack(">I", max_length - 100)
    header = b"ID3" + bytes([version, 0, 0]) + id3_length(max_length)
    return header + frame + length + b"\0\0\0image/png\0\3x\0" + b"x" * 4000


def wav_with_64_bit_lengths(after: bytes, head: bytes = b"RF64") -> bytes:
    sizes = struct.pack("<IQQQI", 28, 1 << 40, len(SOUND), 1 << 40, 0)
    return head + b"\xff\xff\xff\xffWAVEds64" + sizes + FORMAT + b"data\xff\xff\xff\xff" + SOUND + after


FLAC_HEAD = b"fLaC\0\0\0\x22" + bytes.fromhex("1000100000000000000001f401f0") + bytes(20)
MATROSKA = bytes.fromhex("1a45dfa38b428284") + b"webm" + bytes.fromhex("4285810218538067") + b"\x01" + b"\xff" * 7
OVERSIZED = {
    "list-after.wav": wav(SOUND) + chunk(b"LIST", HUGE, INFO),
    "list-that-fits-after.wav": wav(SOUND) + chunk(b"LIST", len(COMPLETE_INFO), COMPLETE_INFO),
    "list-before.wav": wav()[:12] + chunk(b"LIST", HUGE, INFO) + wav()[12:],
    "list-that-fits-before.wav": wav()[:12] + chunk(b"LIST", len(COMPLETE_INFO), COMPLETE_INFO) + wav(SOUND)[12:],
    "list-in-list.wav": wav(SOUND) + chunk(b"LIST", HUGE, b"adtllabl" + chunk(b"LIST", HUGE, INFO)),
    **{
        f"{name.decode().strip()}.wav": wav(SOUND) + chunk(name, HUGE)
        for name in (b"id3 ", b"bext", b"iXML", b"cue ", b"axml", b"chna", b"SMV0", b"JUNK", b"fmt ", b"data")
    },
    "format.wav": wav()[:16] + struct.pack("<I", HUGE) + b"\xfe\xff" + wav()[22:] + b"x" * 4000,
    "rf64.wav": wav_with_64_bit_lengths(chunk(b"LIST", HUGE, INFO)),
    "bw64.wav": wav_with_64_bit_lengths(chunk(b"LIST", HUGE, INFO), b"BW64"),
    "w64.wav": b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0" + struct.pack("<Q", 1 << 40) + b"x" * 4000,
    "header.au": b".snd" + struct.pack(">IIIII", HUGE, 0xFFFFFFFF, 1, 8000, 1) + b"title=" + b"x" * 4000,
    "form.aiff": b"FORM" + struct.pack(">I", HUGE) + b"AIFFNAME" + struct.pack(">I", HUGE - 20) + b"x" * 4000,
    **{
        f"id3-{version}-{name.decode()}.mp3": id3(name, version) + (AUDIO / "mp3-named.wav").read_bytes()
        for version in (3, 4)
        for name in (b"APIC", b"GEOB", b"PRIV", b"TXXX", b"COMM", b"CHAP", b"TIT2")
    },
    "picture.flac": FLAC_HEAD + b"\x06\xff\xff\xff" + struct.pack(">II", 3, 9) + b"image/png" + b"\xff" * 4000,
    "comment.flac": FLAC_HEAD + b"\x84\xff\xff\xff\xff\xff\xff\xff" + b"x" * 4000,
    "page.ogg": (AUDIO / "tone.ogg").read_bytes()[:300].replace(b"vorbis", b"vorbis\xff\xff\xff\xff") + b"\xff" * 4000,
    "title.webm": MATROSKA + bytes.fromhex("1549a966010000007fffffff7ba90100000070000000") + b"x" * 4000,
    "private.webm": MATROSKA
    + bytes.fromhex("1654ae6b010000007fffffffae010000007ffffff063a2010000000fffff00" + 4000 * "78"),
}  # fmt: skip


@needs_linux
def test_announced_lengths_beyond_the_file_take_no_memory(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(wav(SOUND))
    for name, content in OVERSIZED.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "good"), *(str(tmp_path / name) for name in OVERSIZED)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True)
    summary = dict(zip(OVERSIZED, (line.split(" ", 1) for line in run.stdout.splitlines()), strict=True))
    assert {name: kilobytes for name, (kilobytes, _) in summary.items() if int(kilobytes) > 40_000} == {}
    good = [name for name in OVERSIZED if name.endswith(".wav") and "before" not in name]
    good = [name for name in good if name not in ("format.wav", "w64.wav")]
    assert {name: summary[name][1] for name in good} == dict.fromkeys(good, "1.0 s")
    assert summary["list-that-fits-before.wav"][1] == "1.0 s"
    assert summary["list-before.wav"][1].startswith("refused: ")


@pytest.fixture
def long_flac(tmp_path: Path) -> Path:
    """An hour of silence in a hundredth of the bytes of a WAV file."""
    path = tmp_path / "long.flac"
    silence = np.zeros((1, 8000 * 60), np.int16)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flac", rate=8000, layout="mono")
        for _ in range(60):
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate = 8000
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert path.stat().st_size < 700_000
    return path


def test_every_reader_refuses_sound_longer_than_any_call(
    long_flac: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> Iterator[object]:
        return iter(list(read_sound(path)))

    assert probe_audio(long_flac).duration_s == 3600
    monkeypatch.setattr(audio, "LONGEST_H", 0.5)
    for use in (probe_audio, load_sound, read, lambda path: waveform(path, tmp_path / "made")):
        with pytest.raises(DataError, match=r"longer than 0\.5 hours") as caught:
            use(long_flac)
        assert caught.value.fix
    with pytest.raises(DataError, match=r"longer than 0\.5 hours"):
        render_playable(long_flac, tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


@given(st.binary(max_size=400), st.sampled_from((b"RIFF", b"RF64", b"BW64")))
def test_any_riff_becomes_a_small_wav_of_its_own_bytes_or_raises_an_error(content: bytes, magic: bytes) -> None:
    file = io.BytesIO(magic + b"\0\0\0\0WAVE" + content)
    try:
        rewritten = WavSound(file)
    except NoSound:
        return
    content_read = rewritten.read()
    assert content_read.startswith(b"RIFF")
    assert len(content_read) <= len(content) + 70
    assert rewritten.seek(0, io.SEEK_END) == len(content_read)
    rewritten.seek(5)
    assert rewritten.read(7) == content_read[5:12]


def test_additional_chunks_do_not_change_the_sound_of_a_wav(tmp_path: Path) -> None:
    for name in ("tone.wav", "tone.WAV", "tone.wav16"):
        before = load_sound(AUDIO / name)
        data = (AUDIO / name).read_bytes()
        (tmp_path / name).write_bytes(data[:12] + chunk(b"bext", 601, b"b" * 602) + data[12:] + chunk(b"LIST", 4000))
        assert np.array_equal(load_sound(tmp_path / name), before)
