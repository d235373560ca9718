"""The player gets lines with timed words and spans on the waveform; edits that it sends are validated."""

import json
from typing import Any

import pytest

from pbx.store.models import SegmentRow
from pbx.ui.player import ChannelWaveform, SegmentEdit, flags_text, lines_json, parse_edit, timed_words, waveform_json

WORDS = [[0.0, 0.4, "It", 0.9], [0.4, 0.8, "is", 0.9], [1.0, 1.4, "fore", 0.2], [1.4, 2.0, "seven", 0.8]]


def row(text: str = "It is fore seven", **changes: Any) -> SegmentRow:
    defaults: dict[str, Any] = {"id": 7, "transcript_id": 1, "start_s": 0.0, "end_s": 2.0, "speaker": "caller"}
    return SegmentRow(**(defaults | {"text": text, "words": WORDS} | changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is four seven", [[0.0, 0.4, "It"], [0.4, 0.8, "is"], [1.0, 1.4, "four"], [1.4, 2.0, "seven"]]),
        (
            "It is four one seven",
            [[0.0, 0.4, "It"], [0.4, 0.8, "is"], [1.0, 1.2, "four"], [1.2, 1.4, "one"], [1.4, 2.0, "seven"]],
        ),
        ("is seven", [[0.4, 0.8, "is"], [1.4, 2.0, "seven"]]),
        ("No", [[0.0, 2.0, "No"]]),
        ("It is fore seven again", [*[word[:3] for word in WORDS], [2.0, 2.0, "again"]]),
        ("Yes It is fore seven", [[0.0, 0.0, "Yes"], *[word[:3] for word in WORDS]]),
    ],
)
def test_words_of_an_edited_line_keep_their_times_and_new_words_get_estimated_ones(
    text: str, expected: list[list[Any]]
) -> None:
    assert [word[:3] for word in timed_words(row(text, original_text="It is fore seven"))] == expected


def test_words_of_an_unedited_line_are_unchanged() -> None:
    assert timed_words(row()) == WORDS


def test_edited_words_have_full_confidence() -> None:
    assert [word[3] for word in timed_words(row("It is four seven", original_text="x"))] == [0.9, 0.9, 1.0, 0.8]


def test_a_line_has_all_data_that_is_shown() -> None:
    (line,) = json.loads(lines_json([row("</script>\u2028", original_text="It", speaker="", channel=1)], 2))
    assert (line["id"], line["at"], line["end"], line["text"]) == (7, 0.0, 2.0, "</script>\u2028")
    assert (line["speaker"], line["tone"], line["original"]) == ("Speaker 2", "agent", "It")


def test_an_unknown_speaker_on_a_single_channel_has_no_name() -> None:
    (line,) = json.loads(lines_json([row(speaker="")], 1))
    assert (line["speaker"], line["tone"]) == ("", "")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", ""),
        ("music", "Hold music"),
        ("ringing music", "Ringing, hold music"),
        ("no_voice phantom", "Doubtful: no voice was detected, a phrase that models invent in silence"),
        ("unheard_of", "Doubtful: unheard_of"),
    ],
)
def test_flags_are_described(flags: str, expected: str) -> None:
    assert flags_text(row(flags=flags)) == expected


def test_waveform_spans_cover_their_segments_and_close_ones_merge() -> None:
    flags_by_start = {0: "", 10: "music", 15: "music", 50: "phantom", 98: "music"}
    rows = [row(start_s=at_s, end_s=at_s + 5, flags=flags) for at_s, flags in flags_by_start.items()]
    wave = json.loads(waveform_json([ChannelWaveform("Caller", "caller", [0.12345, 1.0])], rows, 100.0))
    assert wave["lanes"] == [{"name": "Caller", "tone": "caller", "peaks": [0.123, 1.0]}]
    assert [mark[:3] for mark in wave["spans"]] == [[10, 20, "sound"], [50, 55, "doubted"], [98, 100, "sound"]]


def test_a_recording_without_a_length_has_no_spans() -> None:
    assert json.loads(waveform_json([], [row(flags="music")], None))["spans"] == []


@pytest.mark.parametrize(
    "sent", [None, "x", {}, {"id": "7", "text": "a"}, {"id": 7}, {"id": 7, "text": "  "}, {"id": True, "text": "a"}]
)
def test_invalid_edits_are_ignored(sent: object) -> None:
    assert parse_edit(sent) is None


def test_edit_length_is_limited() -> None:
    assert parse_edit({"id": 7, "text": "a" * 50_000}) == SegmentEdit(7, "a" * 20_000)
