"""Paths of recordings, and the state, duration and format that a file's bytes show."""

import io
import struct
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.formats.recording_files import check_recording, stored_path
from pbx.operating_system import is_device_name
from tests.unit.asterisk.ari.replay_server import captured, wav


def check(data: bytes, fmt: str = "wav") -> tuple[str, float | None, str]:
    finding = check_recording(io.BytesIO(data), len(data), fmt)
    assert (finding.state == "downloaded") == (finding.reason == "")
    return finding.state, finding.duration_s, finding.suffix


def test_an_ordinary_name_is_kept_as_path() -> None:
    name = "2026/11/21/q-sales-+49300495313-20261121-135531-pbx1-1795249531.15"
    assert stored_path(7, name, "wav") == f"7/{name}.wav"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/../../b", "a//b", "a\0b", "x" * 300, "ü" * 120, "a\\b",
     "2026/" * 30 + "x", ".parts/1", "a.wav/b", "trailing.", "trailing ", "\ud800"],
)  # fmt: skip
def test_an_unsafe_name_gets_a_safe_path(name: str, tmp_path: Path) -> None:
    path = stored_path(7, name, "wav")
    assert path.startswith("7/")
    assert ".." not in PurePosixPath(path).parts
    assert not any(part.startswith(".") or len(part.encode()) > 140 for part in PurePosixPath(path).parts)
    target = tmp_path / path
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x")  # the file system accepts it


@given(st.text(), st.text())
def test_different_names_never_share_a_path_even_if_case_is_ignored(one: str, other: str) -> None:
    def paths(name: str) -> str:
        return stored_path(1, name, "wav").casefold()

    for first, second in ((one, other), (one, one.upper()), (one, one.swapcase()), (one, one + "/" + other)):
        assert (paths(first) == paths(second)) == (first == second)


@pytest.mark.parametrize("version", [16, 22])
def test_files_from_real_asterisk_are_recognized(version: int) -> None:
    def body(name: str) -> bytes:
        return captured(name, version).partition(b"\r\n\r\n")[2]

    complete = body("file")
    assert check(complete) == ("downloaded", (len(complete) - 44) / 16000, "wav")
    assert check(body("file-being-written"))[0] == "waiting"
    assert check(body("file-empty"))[0] == "empty"


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
def test_a_wav_files_state_depends_on_its_header(data: bytes, state: str) -> None:
    assert check(data)[0] == state


def test_other_chunks_may_precede_the_audio() -> None:
    head, data = wav()[:36], wav()[36:]
    listed = head + b"LIST" + struct.pack("<I", 5001) + bytes(5002) + b"fact\x04\0\0\0\0\0\0\0" + data
    assert check(listed) == ("downloaded", 0.1, "wav")


def test_gsm_within_wav_keeps_its_extension() -> None:
    # The header that real Asterisk wrote for 2730 bytes: 42 blocks of 40 ms.
    head = bytes.fromhex(
        "52494646de0a000057415645666d74201400000031000100401f00005906000041000000020040016661637404000000"
        "8034000064617461aa0a0000"
    )
    assert check(head + bytes(2730), "WAV") == ("downloaded", 1.68, "WAV")


@pytest.mark.parametrize(
    ("fmt", "size_bytes", "duration_s"),
    [("ulaw", 13440, 1.68), ("alaw", 13440, 1.68), ("sln", 26560, 1.66), ("sln16", 32000, 1.0), ("gsm", 2772, 1.68),
     ("g722", 8000, 1.0), ("ogg", 5000, None), ("siren7", 5000, None)],
)  # fmt: skip
def test_the_duration_of_a_headerless_file_comes_from_its_size(
    fmt: str, size_bytes: int, duration_s: float | None
) -> None:
    assert check(b"\x55" * size_bytes, fmt) == ("downloaded", duration_s, fmt)


def test_wav_content_is_recognized_under_another_listed_format() -> None:
    assert check(wav(), "gsm") == ("downloaded", 0.1, "wav")


def test_an_unsafe_format_gets_a_safe_extension() -> None:
    assert check(bytes(100), "../x")[2] == "bin"


@given(st.binary(max_size=300), st.sampled_from(["wav", "WAV", "gsm", "ulaw"]))
def test_arbitrary_bytes_get_a_state(data: bytes, fmt: str) -> None:
    check(data, fmt)
    check(b"RIFF\x40\0\0\0WAVE" + data, fmt)


@pytest.mark.parametrize("name", ["con", "nul.2026", "2026/aux/x", "2026/prn", "com1", "lpt9.wav", "con /x", "aux .x"])
def test_no_path_contains_a_windows_device_name(name: str) -> None:
    path = PurePosixPath(stored_path(7, name, "wav"))
    assert not any(is_device_name(part) for part in path.parts)
    assert not any(part.endswith((".", " ")) for part in path.parts)


def test_paths_stay_within_windows_length_limit() -> None:
    folders = "/".join(["twenty-characters-xx"] * 6)
    assert stored_path(7, f"{folders}/short", "wav") == f"7/{folders}/short.wav"
    assert stored_path(7, f"{folders}/{'x' * 60}", "wav").startswith(f"7/other/{'x' * 60}~")


@given(st.text())
def test_paths_contain_only_characters_that_all_systems_allow(name: str) -> None:
    path = stored_path(7, name, "wav")
    assert path.isascii()
    assert not set(path) & set('<>:"\\|?*\0')
    assert len(path) <= 190
    assert not any(part.endswith((".", " ")) or is_device_name(part) for part in PurePosixPath(path).parts)
