"""Each format is read back, by a library where there is one, else by a strict grammar of its own."""

import html
import json
import re
from datetime import timedelta
from io import BytesIO

import docx
import pytest

from pbx.export import CallTranscript, RecordingTranscript, export_bytes, to_docx, to_json, to_srt, to_txt, to_vtt
from pbx.export.call import clean_text
from tests.unit.export.samples import HOSTILE, NINE, call, line, talk, with_words

TIME = r"(\d\d):([0-5]\d):([0-5]\d)[,.](\d{3})"


def seconds(groups: tuple[str, ...]) -> float:
    hours, minutes, whole, ms = map(int, groups)
    return hours * 3600 + minutes * 60 + whole + ms / 1000


def read_srt(text: str) -> list[tuple[float, float, str]]:
    """SubRip as strict players read it: numbers that count from 1, a time line, one line of text, an empty line."""
    cues = []
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], 1):
        head, times, said = block.removesuffix("\n").split("\n")
        assert head == str(number)
        found = re.fullmatch(rf"{TIME} --> {TIME}".replace("[,.]", ","), times)
        assert found, times
        start_s, end_s = seconds(found.groups()[:4]), seconds(found.groups()[4:])
        assert end_s > start_s
        cues.append((start_s, end_s, said))
    return cues


def read_vtt(text: str) -> list[tuple[float, str, str]]:
    """WebVTT: its header, then cues whose text holds no markup but the speaker's."""
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header.rstrip("\n") == "WEBVTT"
    cues = []
    for block in blocks:
        times, said = block.strip("\n").split("\n")
        found = re.fullmatch(rf"{TIME} --> {TIME}".replace("[,.]", r"\."), times)
        assert found, times
        spoken = re.fullmatch(r"(?:<v ([^<>&]+)>)?([^<>]*)", said)
        assert spoken, said
        assert "-->" not in said
        cues.append((seconds(found.groups()[:4]), spoken[1] or "", html.unescape(spoken[2])))
    return cues


def paragraphs(made: bytes) -> list[str]:
    return [paragraph.text for paragraph in docx.Document(BytesIO(made)).paragraphs]


def test_text_has_facts_summary_and_a_line_per_segment_with_time_and_speaker() -> None:
    assert to_txt(call(line(3, "Hello."), line(3725, "Bye.", "Caller"), line(4000, "Who?", ""))) == (
        "+4930123 → 600\n\nFrom   +4930123\nQueue  600\n\nSummary\n\nThe caller asked for a refund.\n\n"
        "[00:03] Agent: Hello.\n[1:02:05] Caller: Bye.\n[1:06:40] Who?\n"
    )


def test_srt_counts_from_one_with_commas_and_the_speaker() -> None:
    assert to_srt(call(line(3661.5, "Hello."), line(3664.0004, "Bye.", ""))) == (
        "1\n01:01:01,500 --> 01:01:04,000\nAgent: Hello.\n\n2\n01:01:04,000 --> 01:01:06,500\nBye.\n"
    )


def test_vtt_names_the_speaker_and_escapes() -> None:
    assert to_vtt(call(line(1, "R&D <b> -->"))) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:03.500\n<v Agent>R&amp;D &lt;b&gt; --&gt;\n"
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_a_format(text: str) -> None:
    cleaned = clean_text(text)
    made = call(line(1, cleaned), line(4, "After."), facts={"From": cleaned}, summary=cleaned, note=cleaned)
    assert f"[00:01] Agent: {cleaned}\n[00:04] Agent: After.\n" in to_txt(made)
    assert [cue[2] for cue in read_srt(to_srt(made))] == [
        f"Agent: {cleaned}".replace("-->", "→"),
        "Agent: After.",
    ]
    assert read_vtt(to_vtt(made)) == [(1.0, "Agent", cleaned), (4.0, "Agent", "After.")]
    assert json.loads(to_json(made))["calls"][0]["recordings"][0]["segments"][0]["text"] == cleaned
    assert any(cleaned in paragraph for paragraph in paragraphs(to_docx(made)))


def test_characters_not_allowed_in_files_are_removed() -> None:
    assert clean_text("a\x00b\x1bc \ud83d d\ufffe\n\n e") == "abc d e"
    assert clean_text("שלום 👩‍👩‍👧") == "שלום 👩‍👩‍👧"


def test_doubtful_lines_are_left_out_unless_included() -> None:
    made = call(
        line(1, "Real."), line(4, "Thanks for watching.", flags=("phantom",)), line(8, "", "", flags=("music",))
    )
    for write in (to_txt, to_srt, to_vtt, to_json):
        assert "watching" not in write(made)
        assert "watching" in write(made, doubtful=True)
    assert "watching" not in "".join(paragraphs(to_docx(made)))
    assert "[00:04] Agent (doubtful): Thanks for watching.\n[00:08] (hold music)\n" in to_txt(made, doubtful=True)
    assert any("(hold music)" in text for text in paragraphs(to_docx(made, doubtful=True)))
    assert len(read_srt(to_srt(made, doubtful=True))) == 2


def test_json_holds_words_flags_facts_and_what_was_edited() -> None:
    (read,) = json.loads(to_json(call(with_words(), line(5, "Hm.", flags=("improbable",))), doubtful=True))["calls"]
    first, second = read["recordings"][0]["segments"]
    assert first["words"][1] == {"start_s": 1.4, "end_s": 1.9, "text": "bye.", "probability": 0.4}
    assert (first["text"], first["edited"], first["original_text"]) == ("Good bye.", True, "Good pie.")
    assert "edited" not in second
    assert second["flags"] == ["improbable"]
    assert (read["facts"]["Queue"], read["started_at"]) == ("600", "2026-07-01T07:14:05+00:00")


def test_an_edit_is_marked_in_json_only() -> None:
    for write in (to_txt, to_srt, to_vtt):
        assert "Good pie" not in write(call(with_words()))


def test_word_has_title_facts_summary_and_turns() -> None:
    made = to_docx(call(line(1, "Hello,"), line(4, "who is there?"), line(8, "Bob.", "Caller")))
    read = docx.Document(BytesIO(made))
    assert [cell.text for row in read.tables[0].rows for cell in row.cells] == ["From", "+4930123", "Queue", "600"]
    assert paragraphs(made) == [
        "+4930123 → 600",
        "Summary",
        "The caller asked for a refund.",
        "Transcript",
        "00:01\tAgent  Hello, who is there?",
        "00:08\tCaller  Bob.",
    ]
    assert read.core_properties.title == "+4930123 → 600"


def test_word_orders_right_to_left_text_from_the_right() -> None:
    read = docx.Document(BytesIO(to_docx(call(line(1, "שלום"), line(4, "Hello", "Caller")))))
    hebrew, english = read.paragraphs[-2:]
    assert [child.tag.rpartition("}")[2] for child in hebrew._p.pPr] == ["pStyle", "bidi"]
    assert hebrew.runs[-1].font.rtl
    assert not english.runs[-1].font.rtl


def test_two_sides_recorded_separately_are_merged() -> None:
    sides = [
        RecordingTranscript("r", started_at=NINE, lines=(line(0, "One."), line(6, "Three."))),
        RecordingTranscript("t", started_at=NINE, lines=(line(3, "Two.", "Caller"),)),
    ]
    made = CallTranscript(7, "x", recordings=tuple(sides))
    assert [said for _, _, said in read_srt(to_srt(made))] == ["Agent: One.", "Caller: Two.", "Agent: Three."]
    assert "Recording" not in to_txt(made)


def test_a_later_recording_follows_by_its_offset_and_under_its_name() -> None:
    later = RecordingTranscript("second", started_at=NINE + timedelta(minutes=2), offset_s=120, lines=(line(1, "B."),))
    first = RecordingTranscript("first", started_at=NINE, lines=(line(1, "A."),))
    made = CallTranscript(7, "x", recordings=(later, first))
    assert [(start_s, said) for start_s, _, said in read_srt(to_srt(made))] == [(1, "Agent: A."), (121, "Agent: B.")]
    assert "Recording second, from 02:00\n\n[02:01] Agent: B.\n" in to_txt(made)
    assert [part["offset_s"] for part in json.loads(to_json(made))["calls"][0]["recordings"]] == [120, 0.0]


def test_a_call_without_words_says_so() -> None:
    assert "No speech in this call." in to_txt(call())
    assert "This call has no transcript." in to_txt(CallTranscript(7, "x"))
    assert to_srt(call()) == ""
    assert read_vtt(to_vtt(call())) == []
    assert "No speech in this call." in paragraphs(to_docx(call()))


def test_a_hundred_thousand_words_go_through_every_format() -> None:
    made = call(*(line(3.0 * number, " ".join(f"word{number}" for _ in range(12))) for number in range(8334)))
    assert len(read_srt(to_srt(made))) == 8334
    assert len(read_vtt(to_vtt(made))) == 8334
    assert to_txt(made).count("word") == 8334 * 12
    assert len(json.loads(to_json(made))["calls"][0]["recordings"][0]["segments"]) == 8334
    assert sum(text.count("word") for text in paragraphs(to_docx(made))) == 8334 * 12


def test_several_calls_in_one_document() -> None:
    calls = [talk(), call(line(1, "Other."), call_id=8)]
    assert to_txt(calls).count("+4930123 → 600\n") == 2
    assert [one["id"] for one in json.loads(to_json(calls))["calls"]] == [7, 8]
    assert paragraphs(to_docx(calls)).count("+4930123 → 600") == 2
    assert export_bytes("Text", iter(calls), many=True).decode() == to_txt(calls)
