"""The demo PBX's shelf: what is listed in which order, what grows, what goes, and a hundred thousand of them."""

import json
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pbx.asterisk.formats.recording_names import parse_name
from pbx.demo.company import QUEUES
from pbx.demo.recording_dir import Shelf, crowd_names, name_of, stock_shelf
from pbx.demo.scripts import SCRIPTS, script
from pbx.demo.story import recorded_calls

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def listed(shelf: Shelf) -> list[tuple[str, str]]:
    body = shelf.listing()
    assert body is not None
    return [(item["name"], item["format"]) for item in json.loads(body)]


def test_the_storys_recordings_lie_there_under_freepbx_names() -> None:
    shelf = stock_shelf(NOW)
    calls = {name_of(call): call for call in recorded_calls(NOW)}
    assert len(shelf) == len(SCRIPTS) == 12
    assert shelf.names() == sorted(calls)
    for name, call in calls.items():
        facts = parse_name(name)
        assert (facts.type, facts.direction, facts.queue) == ("q", "inbound", call.queue)
        assert (facts.from_number, facts.uniqueid) == (call.from_number, call.uniqueid)
        assert facts.started_at == call.started_at.replace(microsecond=0)
        assert facts.utc_offset_s in (0, 3600)
        assert shelf.content(name) == script(call.recording).sound.read_bytes()
        assert call.talk_s == pytest.approx(script(call.recording).duration_s, abs=0.01)
        queue = next(queue for queue in QUEUES if queue.number == call.queue)
        assert script(call.recording).queue == queue.name.lower()


def test_names_are_listed_by_their_bytes() -> None:
    shelf = Shelf()
    for name in ("b", "a/b", "é", "B", "a", "日本", "a-b"):
        shelf.add(name, b"x")
    assert shelf.names() == ["B", "a", "a-b", "a/b", "b", "é", "日本"]
    assert listed(shelf) == [(name, "wav") for name in shelf.names()]


def test_what_is_added_replaced_and_deleted_shows_in_the_list() -> None:
    shelf = Shelf()
    assert shelf.listing() == b"[]"
    shelf.add("one", b"wav")
    shelf.add("one", b"gsm!", format="gsm")
    shelf.add("two", b"x")
    assert listed(shelf) == [("one", "gsm"), ("two", "wav")]
    assert shelf.content("one") == b"gsm!"
    shelf.delete("one")
    assert listed(shelf) == [("two", "wav")]
    for do in (shelf.delete, shelf.content):
        with pytest.raises(KeyError):
            do("one")


def test_a_growing_recording_grows_for_who_has_it_open() -> None:
    shelf = Shelf()
    shelf.grow("call", b"ab")
    opened = shelf.file("call")
    assert opened is not None
    shelf.grow("call", b"cd")
    assert opened.read() == b"abcd"
    shelf.finish("call", b"ABCD!")
    assert (opened.read(), opened.size_bytes) == (b"ABCD!", 5)
    shelf.delete("call")
    assert opened.read() == b"ABCD!"
    assert shelf.file("call") is None


def test_a_file_grows_without_being_changed_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF")
    shelf = Shelf()
    shelf.add("call", path)
    shelf.grow("call", b"more")
    assert shelf.content("call") == b"RIFFmore"
    assert path.read_bytes() == b"RIFF"


def test_a_name_twice_is_listed_twice_until_it_goes() -> None:
    shelf = Shelf()
    shelf.add("one", b"x")
    shelf.duplicate("one")
    assert listed(shelf) == [("one", "wav")] * 2
    assert (shelf.names(), len(shelf)) == (["one"], 1)
    shelf.delete("one")
    assert listed(shelf) == []


def test_a_name_that_is_not_utf8_spoils_the_whole_list() -> None:
    shelf = Shelf()
    shelf.add("good", b"x")
    shelf.add(b"bad\xff".decode(errors="surrogateescape"), b"y")
    assert shelf.listing() is None
    shelf.delete("bad\udcff")
    assert listed(shelf) == [("good", "wav")]


def test_a_crowd_is_listed_with_the_rest_and_may_lose_members() -> None:
    shelf = Shelf()
    shelf.add("2026/01/05/own", b"own")
    shelf.crowd(3, b"all alike")
    first, second, _ = crowd_names(3)
    shelf.delete(second)
    assert len(shelf) == 3
    assert [name for name, _ in listed(shelf)] == shelf.names() == sorted(["2026/01/05/own", first, crowd_names(3)[2]])
    assert shelf.content(first) == b"all alike"
    for name in (second, "2026/01/05/other"):
        assert shelf.file(name) is None
        with pytest.raises(KeyError):
            shelf.delete(name)
    shelf.crowd(0, b"")
    assert shelf.names() == ["2026/01/05/own"]


def test_a_hundred_thousand_take_bounded_memory() -> None:
    names = crowd_names(100_000)
    assert len(set(names)) == 100_000
    assert parse_name(names[54_321]).utc_offset_s == 0
    shelf = Shelf()
    tracemalloc.start()
    try:
        shelf.crowd(100_000, b"x" * 100_000)
        body = shelf.listing()
        now_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert body is not None
    assert body.count(b'"name"') == 100_000
    assert now_bytes < len(body) + 2_000_000
    assert peak_bytes < 6 * len(body)
    assert shelf.listing() is body  # made once
