"""Mutated recording names and files: names are parsed, and each has its own path within the cache."""

import os
from datetime import UTC, timedelta
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx.asterisk.formats.recording_files import check_recording, stored_path
from pbx.asterisk.formats.recording_names import leg_of, parse_name
from tests.fuzz.mutations import EDGE_CASES, fuzzed, mutated, mutated_fields
from tests.paths import FIXTURES

NAMES = [
    b"2026/07/31/q-600-+442079460123-20260731-143012-1785504612.42",
    b"2026/07/31/out-5551234-1001-20260731-143012-1785504612.42",
    b"rg-601-Zo\xc3\xab-20260731-143012-pbx-berlin-1785504612.42-r",
    b"exten-1001-unknown-00010101-000000-x",
    b"conf-800-1001-20260731-143012-1785504612.42",
    b"meetings/2026-07-31 weekly",
]
ZONES = st.sampled_from([None, *map(ZoneInfo, ("UTC", "Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati"))])
MUTATED = (mutated(NAMES) | mutated_fields(NAMES[3].split(b"-"), b"-")).map(
    lambda data: data.decode("utf-8", "replace")
)
NAME = MUTATED | st.text(max_size=80)
REPLIES = [path.read_bytes().partition(b"\r\n\r\n")[2] for path in FIXTURES.glob("asterisk-*/ari-file*.bin")]
SOUNDS = [path.read_bytes()[:4000] for path in (FIXTURES / "audio").glob("tone.*")] + [body for body in REPLIES if body]


@fuzzed
@given(NAME, ZONES)
def test_mutated_names_are_parsed_to_consistent_values(name: str, zone: ZoneInfo | None) -> None:
    parsed = parse_name(name, zone)
    assert parsed.started_at is None or parsed.started_at.tzinfo is UTC
    assert parsed.local_time is None or parsed.local_time.tzinfo is None
    assert parsed.utc_offset_s is None or abs(parsed.utc_offset_s) <= timedelta(hours=14).total_seconds()
    assert leg_of(name) in ("r", "t", "")


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Pacific/Kiritimati"])
@pytest.mark.parametrize("written", ["00010101-000000", "99991231-235959", "٠٠٠١٠١٠١-٠٠٠٠٠٠"])
def test_a_time_at_the_limits_of_the_calendar_is_ignored(written: str, zone: str) -> None:
    assert parse_name(f"exten-1001-1002-{written}-x", ZoneInfo(zone)).started_at is None


@fuzzed
@given(NAME, NAME, st.integers(1, 99))
def test_each_name_has_its_own_path_within_the_cache(one: str, two: str, connection_id: int) -> None:
    paths = [stored_path(connection_id, name, "wav") for name in (one, two)]
    for text in paths:
        path = PurePosixPath(text)
        assert path.parts[0] == str(connection_id)
        assert os.path.normpath(text) == text
        assert ".." not in path.parts
        assert all(0 < len(os.fsencode(part)) <= 255 for part in path.parts)
        assert text.isprintable()
        assert not any(part.startswith(".") for part in path.parts)
    assert (paths[0].casefold() == paths[1].casefold()) == (one == two)


@fuzzed
@given(NAME)
def test_the_path_of_any_name_can_be_written(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / "paths" / stored_path(1, name, "wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert path.resolve().is_relative_to(tmp_path_factory.getbasetemp().resolve())
    path.unlink()


@fuzzed
@given(mutated(SOUNDS) | st.binary(max_size=200), st.sampled_from(["wav", "WAV", "wav16", "gsm", "ulaw", "sln16", "?"]))
def test_any_file_is_downloaded_or_has_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, fmt: str
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "mutated.wav"
    path.write_bytes(data)
    with path.open("rb") as file:
        result = check_recording(file, len(data), fmt)
    assert result.reason or result.state == "downloaded"
    assert result.duration_s is None or 0 <= result.duration_s < 2**32


def test_a_huge_file_of_zeros_after_a_header_is_refused_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "zeros.wav").open("w+b") as file:
        file.write(b"RIFF\x40\0\0\0WAVE")
        file.truncate(2**40)  # a sparse file, which takes no disk space
        file.seek(0)
        assert check_recording(file, 2**40, "wav").state == "unreadable"


@pytest.mark.parametrize("name", EDGE_CASES, ids=lambda value: repr(value[:20]))
def test_edge_cases_in_names_are_accepted(name: bytes) -> None:
    text = name.decode("utf-8", "replace")
    for recording in (text, f"q-{text}-{text}-20260731-143012-{text}", f"{text}/{text}"):
        parse_name(recording, ZoneInfo("Asia/Tokyo"))
        assert all(len(os.fsencode(part)) <= 255 for part in PurePosixPath(stored_path(1, recording, "wav")).parts)
