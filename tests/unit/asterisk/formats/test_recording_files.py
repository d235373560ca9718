"""Where files go, and what their first bytes say."""

import io
import struct
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.formats.recording_files import check_recording, stored_path
from pbx.operating_system import is_device_name
from tests.unit.asterisk.ari.replay_server import captured, wav


def judged(data: bytes, fmt: str = "wav") -> tuple[str, float | None, str]:
    finding = check_recording(io.BytesIO(data), len(data), fmt)
    assert (finding.state == "downloaded") == (finding.reason == "")
    return finding.state, finding.duration_s, finding.suffix


def test_an_ordinary_name_is_kept() -> None:
    name = "2026/11/21/q-sales-+49300495313-20261121-135531-pbx1-1795249531.15"
    assert stored_path(7, name, "wav") == f"7/{name}.wav"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../../b", "a//b", "a\0b", "x" * 300, "ü" * 120, "a\\b",
     "2026/" * 30 + "x", ".parts/1", "a.wav/b", "trailing.", "trailing ", "\ud800"],
)  # fmt: skip
def test_a_name_that_could_do_harm_gets_a_safe_one(name: str, tmp_path: Path) -> None:
    path = stored_path(7, name, "wav")
    assert path.startswith("7/")
    assert ".." not in PurePosixPath(path).parts
    assert not any(part.startswith(".") or len(part.encode()) > 140 for part in PurePosixPath(path).parts)
    target = tmp_path / path
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x")  # the file system takes it


@given(st.text(), st.text())
def test_different_names_never_share_a_file_even_where_case_is_ignored(one: str, other: str) -> None:
    def paths(name: str) -> str:
        return stored_path(1, name, "wav").casefold()

    for first, second in ((one, other), (one, one.upper()), (one, one.swapcase()), (one, one + "/" + other)):
        assert (paths(first) == paths(second)) == (first == second)


@pytest.mark.parametrize("version", [16, 22])
def test_what_asterisk_sent(version: int) -> None:
    def body(name: str) -> bytes:
        return captured(name, version).partition(b"\r\n\r\n")[2]

    whole = body("file")
    assert judged(whole) == ("downloaded", (len(whole) - 44) / 16000, "wav")
    assert judged(body("file-being-written"))[0] == "waiting"
    assert judged(body("file-empty"))[0] == "empty"


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b"", "empty"),
        (wav(b""), "empty"),
        (wav(b"", riff=0), "empty"),
        (wav(riff=0, announced=0), "waiting"),
        (wav(announced=0), "waiting"),
        (wav(announced=5000), "unreadable"),
        (wav()[:1000], "unreadable"),
        (b"This is no sound, though its name says so.......", "unreadable"),
        (b"RIFF\xff\0\0\0AVI " + bytes(100), "unreadable"),
        (b"RIFF\xff\0\0\0WAVE" + bytes(100), "unreadable"),
        (b"RIFF\xff\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(100), "unreadable"),
        (b"RIFF\xff\0\0\0WAVEdata\x20\0\0\0" + bytes(32), "unreadable"),
        (wav() + b"LIST\x04\0\0\0INFO", "downloaded"),
        (wav(announced=0xFFFFFFFF, riff=0xFFFFFFFF), "downloaded"),
    ],
)
def test_a_wav_is_judged_by_its_header(data: bytes, state: str) -> None:
    assert judged(data)[0] == state


def test_other_chunks_may_stand_before_the_sound() -> None:
    head, data = wav()[:36], wav()[36:]
    listed = head + b"LIST" + struct.pack("<I", 5001) + bytes(5002) + b"fact\x04\0\0\0\0\0\0\0" + data
    assert judged(listed) == ("downloaded", 0.1, "wav")


def test_gsm_within_wav_keeps_its_extension() -> None:
    # The header real Asterisk wrote for 2730 bytes: 42 blocks of 40 ms.
    head = bytes.fromhex(
        "52494646de0a000057415645666d74201400000031000100401f00005906000041000000020040016661637404000000"
        "8034000064617461aa0a0000"
    )
    assert judged(head + bytes(2730), "WAV") == ("downloaded", 1.68, "WAV")


@pytest.mark.parametrize(
    ("fmt", "size_bytes", "duration_s"),
    [("ulaw", 13440, 1.68), ("alaw", 13440, 1.68), ("sln", 26560, 1.66), ("sln16", 32000, 1.0), ("gsm", 2772, 1.68),
     ("g722", 8000, 1.0), ("ogg", 5000, None), ("siren7", 5000, None)],
)  # fmt: skip
def test_without_a_header_the_size_tells_the_length(fmt: str, size_bytes: int, duration_s: float | None) -> None:
    assert judged(b"\x55" * size_bytes, fmt) == ("downloaded", duration_s, fmt)


def test_bytes_that_are_wav_are_wav_whatever_the_listing_says() -> None:
    assert judged(wav(), "gsm") == ("downloaded", 0.1, "wav")


def test_a_strange_format_makes_no_strange_extension() -> None:
    assert judged(bytes(100), "../x")[2] == "bin"


@given(st.binary(max_size=300), st.sampled_from(["wav", "WAV", "gsm", "ulaw"]))
def test_any_bytes_get_a_verdict(data: bytes, fmt: str) -> None:
    judged(data, fmt)
    judged(b"RIFF\x40\0\0\0WAVE" + data, fmt)


@pytest.mark.parametrize("name", ["con", "nul.2026", "2026/aux/x", "2026/prn", "com1", "lpt9.wav", "con /x", "aux .x"])
def test_no_name_is_that_of_a_windows_device(name: str) -> None:
    path = PurePosixPath(stored_path(7, name, "wav"))
    assert not any(is_device_name(part) for part in path.parts)
    assert not any(part.endswith((".", " ")) for part in path.parts)


def test_a_path_is_no_longer_than_windows_allows() -> None:
    folders = "/".join(["twenty-characters-xx"] * 6)
    assert stored_path(7, f"{folders}/short", "wav") == f"7/{folders}/short.wav"
    assert stored_path(7, f"{folders}/{'x' * 60}", "wav").startswith(f"7/other/{'x' * 60}~")


@given(st.text())
def test_every_path_has_only_characters_that_all_systems_allow(name: str) -> None:
    path = stored_path(7, name, "wav")
    assert path.isascii()
    assert not set(path) & set('<>:"\\|?*\0')
    assert len(path) <= 190
    assert not any(part.endswith((".", " ")) or is_device_name(part) for part in PurePosixPath(path).parts)
