"""Each export format, read back by a library or by a strict parser."""

import html
import json
import re
from datetime import timedelta
from io import BytesIO

import docx
import pytest

from pbx.export import CallTranscript, RecordingTranscript, export_bytes, to_docx, to_json, to_srt, to_txt, to_vtt
from pbx.export.call import clean_text
from tests.unit.export.samples import STARTED_AT, UNUSUAL_TEXTS, conversation, line_with_words, sample_call, sample_line

TIME = r"(\d\d):([0-5]\d):([0-5]\d)[,.](\d{3})"


def seconds(groups: tuple[str, ...]) -> float:
    hours, minutes, whole, ms = map(int, groups)
    return hours * 3600 + minutes * 60 + whole + ms / 1000


def read_srt(text: str) -> list[tuple[float, float, str]]:
    """Parse SubRip as strict players do: numbers from 1, a time line, one line of text, an empty line."""
    cues = []
    for number, block in enumerate(text.removesuffix("\n").split("\n\n") if text else [], 1):
        head, times, text_line = block.removesuffix("\n").split("\n")
        assert head == str(number)
        found = re.fullmatch(rf"{TIME} --> {TIME}".replace("[,.]", ","), times)
        assert found, times
        start_s, end_s = seconds(found.groups()[:4]), seconds(found.groups()[4:])
        assert end_s > start_s
        cues.append((start_s, end_s, text_line))
    return cues


def read_vtt(text: str) -> list[tuple[float, str, str]]:
    """Parse WebVTT: its header, then cues whose text has no markup except the speaker."""
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header.rstrip("\n") == "WEBVTT"
    cues = []
    for block in blocks:
        times, text_line = block.strip("\n").split("\n")
        found = re.fullmatch(rf"{TIME} --> {TIME}".replace("[,.]", r"\."), times)
        assert found, times
        spoken = re.fullmatch(r"(?:<v ([^<>&]+)>)?([^<>]*)", text_line)
        assert spoken, text_line
        assert "-->" not in text_line
        cues.append((seconds(found.groups()[:4]), spoken[1] or "", html.unescape(spoken[2])))
    return cues


def paragraphs(document: bytes) -> list[str]:
    return [paragraph.text for paragraph in docx.Document(BytesIO(document)).paragraphs]


def test_text_has_facts_summary_and_one_line_per_segment() -> None:
    assert to_txt(
        sample_call(sample_line(3, "Hello."), sample_line(3725, "Bye.", "Caller"), sample_line(4000, "Who?", ""))
    ) == (
        "+4930123 → 600\n\nFrom   +4930123\nQueue  600\n\nSummary\n\nThe caller asked for a refund.\n\n"
        "[00:03] Agent: Hello.\n[1:02:05] Caller: Bye.\n[1:06:40] Who?\n"
    )


def test_srt_has_numbers_from_1_commas_in_times_and_speakers() -> None:
    assert to_srt(sample_call(sample_line(3661.5, "Hello."), sample_line(3664.0004, "Bye.", ""))) == (
        "1\n01:01:01,500 --> 01:01:04,000\nAgent: Hello.\n\n2\n01:01:04,000 --> 01:01:06,500\nBye.\n"
    )


def test_vtt_has_the_speaker_and_escaped_text() -> None:
    assert to_vtt(sample_call(sample_line(1, "R&D <b> -->"))) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:03.500\n<v Agent>R&amp;D &lt;b&gt; --&gt;\n"
    )


@pytest.mark.parametrize("text", UNUSUAL_TEXTS)
def test_unusual_text_keeps_every_format_valid(text: str) -> None:
    cleaned = clean_text(text)
    exported_call = sample_call(
        sample_line(1, cleaned), sample_line(4, "After."), facts={"From": cleaned}, summary=cleaned, note=cleaned
    )
    assert f"[00:01] Agent: {cleaned}\n[00:04] Agent: After.\n" in to_txt(exported_call)
    assert [cue[2] for cue in read_srt(to_srt(exported_call))] == [
        f"Agent: {cleaned}".replace("-->", "→"),
        "Agent: After.",
    ]
    assert read_vtt(to_vtt(exported_call)) == [(1.0, "Agent", cleaned), (4.0, "Agent", "After.")]
    assert json.loads(to_json(exported_call))["calls"][0]["recordings"][0]["segments"][0]["text"] == cleaned
    assert any(cleaned in paragraph for paragraph in paragraphs(to_docx(exported_call)))


def test_characters_not_allowed_in_files_are_removed() -> None:
    assert clean_text("a\x00b\x1bc \ud83d d\ufffe\n\n e") == "abc d e"
    assert clean_text("שלום 👩‍👩‍👧") == "שלום 👩‍👩‍👧"


def test_doubtful_lines_are_left_out_unless_included() -> None:
    exported_call = sample_call(
        sample_line(1, "Real."),
        sample_line(4, "Thanks for watching.", flags=("phantom",)),
        sample_line(8, "", "", flags=("music",)),
    )
    for write in (to_txt, to_srt, to_vtt, to_json):
        assert "watching" not in write(exported_call)
        assert "watching" in write(exported_call, doubtful=True)
    assert "watching" not in "".join(paragraphs(to_docx(exported_call)))
    assert "[00:04] Agent (doubtful): Thanks for watching.\n[00:08] (hold music)\n" in to_txt(
        exported_call, doubtful=True
    )
    assert any("(hold music)" in text for text in paragraphs(to_docx(exported_call, doubtful=True)))
    assert len(read_srt(to_srt(exported_call, doubtful=True))) == 2


def test_json_has_words_flags_facts_and_edits() -> None:
    (read,) = json.loads(
        to_json(sample_call(line_with_words(), sample_line(5, "Hm.", flags=("improbable",))), doubtful=True)
    )["calls"]
    first, second = read["recordings"][0]["segments"]
    assert first["words"][1] == {"start_s": 1.4, "end_s": 1.9, "text": "bye.", "probability": 0.4}
    assert (first["text"], first["edited"], first["original_text"]) == ("Good bye.", True, "Good pie.")
    assert "edited" not in second
    assert second["flags"] == ["improbable"]
    assert (read["facts"]["Queue"], read["started_at"]) == ("600", "2026-07-01T07:14:05+00:00")


def test_an_edit_is_marked_in_json_only() -> None:
    for write in (to_txt, to_srt, to_vtt):
        assert "Good pie" not in write(sample_call(line_with_words()))


def test_word_has_title_facts_summary_and_turns() -> None:
    document = to_docx(
        sample_call(sample_line(1, "Hello,"), sample_line(4, "who is there?"), sample_line(8, "Bob.", "Caller"))
    )
    read = docx.Document(BytesIO(document))
    assert [cell.text for row in read.tables[0].rows for cell in row.cells] == ["From", "+4930123", "Queue", "600"]
    assert paragraphs(document) == [
        "+4930123 → 600",
        "Summary",
        "The caller asked for a refund.",
        "Transcript",
        "00:01\tAgent  Hello, who is there?",
        "00:08\tCaller  Bob.",
    ]
    assert read.core_properties.title == "+4930123 → 600"


def test_word_marks_right_to_left_text() -> None:
    read = docx.Document(BytesIO(to_docx(sample_call(sample_line(1, "שלום"), sample_line(4, "Hello", "Caller")))))
    hebrew, english = read.paragraphs[-2:]
    assert [child.tag.rpartition("}")[2] for child in hebrew._p.pPr] == ["pStyle", "bidi"]
    assert hebrew.runs[-1].font.rtl
    assert not english.runs[-1].font.rtl


def test_separate_recordings_of_both_sides_are_merged() -> None:
    sides = [
        RecordingTranscript("r", started_at=STARTED_AT, lines=(sample_line(0, "One."), sample_line(6, "Three."))),
        RecordingTranscript("t", started_at=STARTED_AT, lines=(sample_line(3, "Two.", "Caller"),)),
    ]
    exported_call = CallTranscript(7, "x", recordings=tuple(sides))
    assert [text for _, _, text in read_srt(to_srt(exported_call))] == ["Agent: One.", "Caller: Two.", "Agent: Three."]
    assert "Recording" not in to_txt(exported_call)


def test_a_later_recording_follows_under_its_name_with_its_offset() -> None:
    later = RecordingTranscript(
        "second", started_at=STARTED_AT + timedelta(minutes=2), offset_s=120, lines=(sample_line(1, "B."),)
    )
    first = RecordingTranscript("first", started_at=STARTED_AT, lines=(sample_line(1, "A."),))
    exported_call = CallTranscript(7, "x", recordings=(later, first))
    assert [(start_s, text) for start_s, _, text in read_srt(to_srt(exported_call))] == [
        (1, "Agent: A."),
        (121, "Agent: B."),
    ]
    assert "Recording second, from 02:00\n\n[02:01] Agent: B.\n" in to_txt(exported_call)
    assert [part["offset_s"] for part in json.loads(to_json(exported_call))["calls"][0]["recordings"]] == [120, 0.0]


def test_a_call_without_speech_or_transcript_says_so() -> None:
    assert "No speech in this call." in to_txt(sample_call())
    assert "This call has no transcript." in to_txt(CallTranscript(7, "x"))
    assert to_srt(sample_call()) == ""
    assert read_vtt(to_vtt(sample_call())) == []
    assert "No speech in this call." in paragraphs(to_docx(sample_call()))


def test_every_format_exports_100_000_words() -> None:
    exported_call = sample_call(
        *(sample_line(3.0 * number, " ".join(f"word{number}" for _ in range(12))) for number in range(8334))
    )
    assert len(read_srt(to_srt(exported_call))) == 8334
    assert len(read_vtt(to_vtt(exported_call))) == 8334
    assert to_txt(exported_call).count("word") == 8334 * 12
    assert len(json.loads(to_json(exported_call))["calls"][0]["recordings"][0]["segments"]) == 8334
    assert sum(text.count("word") for text in paragraphs(to_docx(exported_call))) == 8334 * 12


def test_several_calls_are_exported_into_one_document() -> None:
    calls = [conversation(), sample_call(sample_line(1, "Other."), call_id=8)]
    assert to_txt(calls).count("+4930123 → 600\n") == 2
    assert [one["id"] for one in json.loads(to_json(calls))["calls"]] == [7, 8]
    assert paragraphs(to_docx(calls)).count("+4930123 → 600") == 2
    assert export_bytes("Text", iter(calls), many=True).decode() == to_txt(calls)
