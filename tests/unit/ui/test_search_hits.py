"""Search results highlight matches, shorten long texts and link to the recording."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pbx.transcription.search.hits import Hit
from pbx.ui.search_hits import MAX_CONTEXT_CHARACTERS, MAX_SEGMENT_CHARACTERS, clip_text, highlighted_parts, hit_data


def bracketed(text: str, spans: list[tuple[int, int]]) -> str:
    return "".join(f"[{part}]" if hit else part for part, hit in highlighted_parts(text, spans))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], "one two"),
        ([(0, 3)], "[one] two"),
        ([(4, 7), (0, 3)], "[one] [two]"),
        ([(0, 5), (2, 7)], "[one t][wo]"),
        ([(4, 99)], "one [two]"),
        ([(9, 12)], "one two"),
    ],
)
def test_matches_are_highlighted_and_all_text_is_kept(spans: list[tuple[int, int]], expected: str) -> None:
    assert bracketed("one two", spans) == expected


def test_markup_and_emoji_are_kept_as_text() -> None:
    assert list(highlighted_parts("📞 <b>refund</b>", [(5, 11)])) == [
        ("📞 <b>", False),
        ("refund", True),
        ("</b>", False),
    ]


@pytest.mark.parametrize("at", [0, 300, 2500, 4990])
def test_a_long_text_is_shortened_around_the_first_match(at: int) -> None:
    words = ["word"] * 1000
    words[at // 5] = "here"
    text = " ".join(words)
    start = text.index("here")
    shown, spans, cut_before, cut_after = clip_text(text, [(start, start + 4)])
    assert len(shown) <= MAX_SEGMENT_CHARACTERS
    assert [shown[a:b] for a, b in spans] == ["here"]
    assert set(shown.split()) <= {"word", "here"}
    assert (cut_before, cut_after) == (not text.startswith(shown), not text.endswith(shown))


def test_a_text_without_spaces_is_shortened_too() -> None:
    text = "字" * 2000
    shown, spans, _, _ = clip_text(text, [(1000, 1002)])
    assert 0 < len(shown) <= MAX_SEGMENT_CHARACTERS
    assert [b - a for a, b in spans] == [2]


def hit(**changes: Any) -> Hit:
    defaults: dict[str, Any] = {
        "segment_id": 1,
        "call_id": 7,
        "recording_id": 3,
        "start_s": 61.96,
        "end_s": 64.0,
        "speaker": "agent",
        "text": "Your refund.",
        "spans": ((5, 11),),
        "started_at": datetime(2026, 7, 1, tzinfo=UTC),
        "from_number": "1",
        "to_number": "2",
        "queue": "",
        "agent": "",
        "direction": "inbound",
        "flags": (),
        "edited": False,
        "before": "",
        "after": "",
    }
    return Hit(**(defaults | changes))


def test_a_mention_links_to_its_start_time_rounded_down() -> None:
    shown = hit_data(hit())
    assert (shown["href"], shown["at"], shown["speaker"]) == ("interactions?call=7&recording=3&t=61.9", "1:01", "Agent")
    assert hit_data(hit(start_s=0.0))["href"] == "interactions?call=7&recording=3&t=0"


def test_doubtful_and_edited_segments_are_marked() -> None:
    assert hit_data(hit(flags=("phantom",), edited=True))["marks"] == ["doubtful", "edited"]
    assert hit_data(hit(speaker=""))["speaker"] == ""


def test_context_is_shortened_at_the_end_far_from_the_match() -> None:
    long_text = " ".join(f"w{number}" for number in range(200))
    shown = hit_data(hit(before=long_text, after=long_text))
    assert shown["before"].startswith("… ")
    assert shown["before"].endswith("w199")
    assert shown["after"].startswith("w0 ")
    assert shown["after"].endswith(" …")
    assert max(len(shown["before"]), len(shown["after"])) <= MAX_CONTEXT_CHARACTERS + 2
