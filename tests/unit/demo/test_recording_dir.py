"""The simulated PBX's recordings: order of the list, recordings that grow or are deleted, and 100,000 of them."""

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pbx.asterisk.formats.recording_names import parse_name
from pbx.demo.recording_dir import recording_name
from pbx.demo.sample_recordings import SAMPLE_RECORDINGS
from pbx.demo.simulated_history import recorded_calls
from tests.simulator.simulated_recordings import SimulatedRecordings, bulk_names, recordings_of_ended_calls

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def listed(recordings: SimulatedRecordings) -> list[tuple[str, str]]:
    body = recordings.listing()
    assert body is not None
    return [(item["name"], item["format"]) for item in json.loads(body)]


def test_recordings_of_ended_calls_have_the_names_that_freepbx_gives() -> None:
    recordings = recordings_of_ended_calls(NOW)
    calls = {recording_name(call): call for call in recorded_calls(NOW)}
    assert len(recordings) == len(SAMPLE_RECORDINGS) == 12
    assert recordings.names() == sorted(calls)
    for name, call in calls.items():
        facts = parse_name(name)
        assert (facts.type, facts.direction, facts.queue) == ("q", "inbound", call.queue)
        assert (facts.from_number, facts.uniqueid) == (call.from_number, call.uniqueid)
        assert facts.started_at == call.started_at.replace(microsecond=0)
        assert facts.utc_offset_s in (0, 3600)
        assert recordings.content(name) == SAMPLE_RECORDINGS[call.recording].sound.read_bytes()
        assert call.talk_s == pytest.approx(SAMPLE_RECORDINGS[call.recording].duration_s, abs=0.01)
        assert SAMPLE_RECORDINGS[call.recording].queue == call.queue


def test_names_are_listed_by_their_bytes() -> None:
    recordings = SimulatedRecordings()
    for name in ("b", "a/b", "é", "B", "a", "日本", "a-b"):
        recordings.add(name, b"x")
    assert recordings.names() == ["B", "a", "a-b", "a/b", "b", "é", "日本"]
    assert listed(recordings) == [(name, "wav") for name in recordings.names()]


def test_the_list_shows_added_replaced_and_deleted_recordings() -> None:
    recordings = SimulatedRecordings()
    assert recordings.listing() == b"[]"
    recordings.add("one", b"wav")
    recordings.add("one", b"gsm!", format="gsm")
    recordings.add("two", b"x")
    assert listed(recordings) == [("one", "gsm"), ("two", "wav")]
    assert recordings.content("one") == b"gsm!"
    recordings.delete("one")
    assert listed(recordings) == [("two", "wav")]
    for do in (recordings.delete, recordings.content):
        with pytest.raises(KeyError):
            do("one")


def test_a_growing_recording_grows_in_an_open_file() -> None:
    recordings = SimulatedRecordings()
    recordings.grow("call", b"ab")
    opened = recordings.file("call")
    assert opened is not None
    recordings.grow("call", b"cd")
    assert opened.read() == b"abcd"
    recordings.finish("call", b"ABCD!")
    assert opened.read() == b"ABCD!"
    recordings.delete("call")
    assert opened.read() == b"ABCD!"
    assert recordings.file("call") is None


def test_a_file_grows_without_being_changed_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF")
    recordings = SimulatedRecordings()
    recordings.add("call", path)
    recordings.grow("call", b"more")
    assert recordings.content("call") == b"RIFFmore"
    assert path.read_bytes() == b"RIFF"


def test_list_twice_lists_a_name_twice_until_it_is_deleted() -> None:
    recordings = SimulatedRecordings()
    recordings.add("one", b"x")
    recordings.list_twice("one")
    assert listed(recordings) == [("one", "wav")] * 2
    assert (recordings.names(), len(recordings)) == (["one"], 1)
    recordings.delete("one")
    assert listed(recordings) == []


def test_a_name_that_is_not_utf_8_makes_the_list_fail() -> None:
    recordings = SimulatedRecordings()
    recordings.add("good", b"x")
    recordings.add(b"bad\xff".decode(errors="surrogateescape"), b"y")
    assert recordings.listing() is None
    recordings.delete("bad\udcff")
    assert listed(recordings) == [("good", "wav")]


def test_bulk_recordings_are_listed_with_others_and_can_be_deleted() -> None:
    recordings = SimulatedRecordings()
    recordings.add("2026/01/05/own", b"own")
    recordings.add_bulk(3, b"all alike")
    first, second, _ = bulk_names(3)
    recordings.delete(second)
    assert len(recordings) == 3
    left = sorted(["2026/01/05/own", first, bulk_names(3)[2]])
    assert [name for name, _ in listed(recordings)] == recordings.names() == left
    assert recordings.content(first) == b"all alike"
    for name in (second, "2026/01/05/other"):
        assert recordings.file(name) is None
        with pytest.raises(KeyError):
            recordings.delete(name)
    recordings.add_bulk(0, b"")
    assert recordings.names() == ["2026/01/05/own"]


def test_100_000_recordings_need_little_memory() -> None:
    names = bulk_names(100_000)
    assert len(set(names)) == 100_000
    assert parse_name(names[54_321]).utc_offset_s == 0
    recordings = SimulatedRecordings()
    tracemalloc.start()
    try:
        recordings.add_bulk(100_000, b"x" * 100_000)
        body = recordings.listing()
        now_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body is not None
    assert body.count(b'"name"') == 100_000
    assert now_bytes < len(body) + 2_000_000
    assert peak_bytes < 6 * len(body)
    assert recordings.listing() is body  # created once
