"""Transcripts are stored in parts and shown when complete; edits and new versions lose nothing."""

import subprocess
import sys

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.errors import PbxError, StorageFull
from pbx.model.segment import Segment, Word
from pbx.speech.transcriber import TranscriptPart
from pbx.store.engine import reading, writing
from pbx.store.models import SegmentRow, Transcript
from pbx.store.transcripts import (
    add_part,
    analysis_of,
    begin_transcript,
    current_transcript,
    edit_segment,
    finish_transcript,
    save_analysis,
    segments_of,
    speaker_of,
    to_segment,
    transcripts_of_call,
)
from pbx.transcription.search.hits import SearchFilter, count_hits, find_hits
from tests.operating_systems import KILLED
from tests.paths import ROOT
from tests.unit.both_databases import sqlite_only
from tests.unit.transcription.search.transcribed_calls import add_call, add_transcript, id_of, segments

STORE_PART_AND_DIE = """
import psutil, sys
from pbx.settings import load_settings
from pbx.speech.transcriber import TranscriptPart
from pbx.store.engine import open_engine, writing
from pbx.store.transcripts import add_part
from tests.unit.transcription.search.transcribed_calls import segments
with writing(open_engine(load_settings())) as session:
    add_part(session, int(sys.argv[1]), TranscriptPart(0, segments("three", start_s=10.0), done_s=20.0), "inbound")
    psutil.Process().kill()
"""
STORE_AND_EDIT = """
import sys
from pbx.settings import load_settings
from pbx.store.engine import open_engine, writing
from tests.unit.transcription.search.transcribed_calls import add_transcript, segments, id_of
from pbx.store.transcripts import edit_segment, segments_of
engine = open_engine(load_settings())
number = int(sys.argv[1])
for turn in range(15):
    with writing(engine) as session:
        texts = [f"worker{number} turn{turn}", "both"]
        made = add_transcript(session, 1 + (number + turn) % 2, texts, model=f"m{turn}")
    with writing(engine) as session:
        rows = segments_of(session, id_of(made))
        if rows:
            edit_segment(session, rows[1].id, "both edited")
"""


@pytest.fixture
def ready(engine: Engine) -> Engine:
    """A database with one inbound call, number 1, with recording 1."""
    with writing(engine) as session:
        add_call(session, 1)
    return engine


def texts(session: Session, transcript_id: int) -> list[str]:
    return [row.text for row in segments_of(session, transcript_id)]


def hits(session: Session, query: str) -> int:
    return count_hits(session, SearchFilter(1, query))[0]


def edit(session: Session, text: str, number: int = 0) -> SegmentRow:
    """Edit a segment of recording 1's current transcript."""
    current = current_transcript(session, 1)
    assert current is not None
    return edit_segment(session, segments_of(session, id_of(current))[number].id or 0, text)


@pytest.mark.parametrize(
    ("direction", "channels", "channel", "leg", "speaker"),
    [
        ("inbound", 2, 0, "", "caller"),
        ("inbound", 2, 1, "", "agent"),
        ("outbound", 2, 0, "", "agent"),
        ("outbound", 2, 1, "", "caller"),
        ("internal", 2, 0, "", "caller"),
        ("internal", 2, 1, "", "agent"),
        ("inbound", 1, 0, "r", "caller"),
        ("inbound", 1, 0, "t", "agent"),
        ("outbound", 1, 0, "r", "agent"),
        ("outbound", 1, 0, "t", "caller"),
        ("inbound", 1, 0, "", ""),  # both speakers on one channel
        ("unknown", 2, 0, "", ""),
        ("unknown", 1, 0, "r", ""),
        ("inbound", 6, 3, "", ""),
    ],
)
def test_the_speaker_is_known_from_channel_and_direction(
    direction: str, channels: int, channel: int, leg: str, speaker: str
) -> None:
    assert speaker_of(direction, channels, channel, leg) == speaker


def test_a_segment_is_read_back_unchanged(ready: Engine) -> None:
    words = (Word(0.1, 0.5, "Guten", 0.9), Word(0.5, 0.9, "Tag", 0.25))
    segment = Segment(0.1, 0.9, 1, "Guten Tag", words, 0.75, ("improbable", "phantom"))
    with writing(ready) as session:
        transcript_id = id_of(add_transcript(session, 1, [segment]))
    with reading(ready) as session:
        (row,) = segments_of(session, transcript_id)
        assert to_segment(row) == segment
        assert (row.speaker, row.original_text, row.edited_at) == ("agent", None, None)
        ((recording, transcript, rows),) = transcripts_of_call(session, 1)
        assert (recording.id, transcript.id, rows) == (1, transcript_id, [row])
        assert (transcript.engine, transcript.model, transcript.channels) == ("whisper", "base", 2)


def test_an_incomplete_transcript_is_neither_shown_nor_found(ready: Engine) -> None:
    with writing(ready) as session:
        transcript = begin_transcript(session, 1, "whisper", "base", "abc")
        add_part(session, id_of(transcript), TranscriptPart(0, segments("early words"), done_s=30.0), "inbound")
    with reading(ready) as session:
        assert current_transcript(session, 1) is None
        assert transcripts_of_call(session, 1) == []
        assert hits(session, "early") == 0
    with writing(ready) as session:
        finish_transcript(session, id_of(transcript))
    with reading(ready) as session:
        assert current_transcript(session, 1) is not None
        assert hits(session, "early") == 1


def test_parts_are_added_to_one_transcript(ready: Engine) -> None:
    with writing(ready) as session:
        transcript_id = id_of(begin_transcript(session, 1, "whisper", "base", "abc"))
        first = TranscriptPart(0, segments("one", "two"), 10.0, 25.0, 2, voiced_s=1.5, language="de")
        second = TranscriptPart(0, segments("three", start_s=10.0), 25.0, 25.0, 2, voiced_s=2.0, is_last=True)
        add_part(session, transcript_id, first, "inbound")
        add_part(session, transcript_id, second, "inbound")
        row = session.get(Transcript, transcript_id)
        assert row is not None
        assert (row.done_s, row.speech_s, row.duration_s, row.language, row.channels) == (25.0, 3.5, 25.0, "de", 2)
        assert texts(session, transcript_id) == ["one", "two", "three"]


def test_a_killed_worker_loses_one_part_and_duplicates_none(ready: Engine) -> None:
    with writing(ready) as session:
        transcript_id = id_of(begin_transcript(session, 1, "whisper", "base", "abc"))
        add_part(session, transcript_id, TranscriptPart(0, segments("one", "two"), done_s=10.0), "inbound")
    killed = subprocess.run(
        [sys.executable, "-c", STORE_PART_AND_DIE, str(transcript_id)], cwd=ROOT, check=False, timeout=60
    )
    assert killed.returncode in KILLED
    with writing(ready) as session:
        again = begin_transcript(session, 1, "whisper", "base", "abc")
        assert (again.id, again.done_s) == (transcript_id, 10.0)
        # The new worker repeats the segments of the first 10 s.
        more = (*segments("one", "two"), *segments("three", "four", start_s=10.0))
        add_part(session, transcript_id, TranscriptPart(0, more, done_s=20.0, is_last=True), "inbound")
        finish_transcript(session, transcript_id)
    with reading(ready) as session:
        assert texts(session, transcript_id) == ["one", "two", "three", "four"]
        assert [hits(session, word) for word in ("one", "three", "four")] == [1, 1, 1]


@pytest.mark.parametrize(
    "other", [("whisper", "small", "abc"), ("faster-whisper", "base", "abc"), ("whisper", "base", "changed")]
)
def test_another_model_or_other_audio_starts_a_new_transcript(ready: Engine, other: tuple[str, str, str]) -> None:
    with writing(ready) as session:
        transcript_id = id_of(begin_transcript(session, 1, "whisper", "base", "abc"))
        add_part(session, transcript_id, TranscriptPart(0, segments("one"), done_s=10.0), "inbound")
    with writing(ready) as session:
        restarted = begin_transcript(session, 1, *other)
        assert restarted.done_s == 0
        assert texts(session, id_of(restarted)) == []
        assert session.get(Transcript, transcript_id) is None or transcript_id == restarted.id


def test_the_old_transcript_stays_until_the_new_one_is_complete(ready: Engine) -> None:
    with writing(ready) as session:
        old = id_of(add_transcript(session, 1, ["old words"]))
        save_analysis(session, old, "local", {"summary": "old"})
    with writing(ready) as session:
        new = id_of(begin_transcript(session, 1, "whisper", "small", "abc"))
        add_part(session, new, TranscriptPart(0, segments("new words"), done_s=10.0), "inbound")
    with reading(ready) as session:
        current = current_transcript(session, 1)
        assert current is not None
        assert current.id == old
        assert (hits(session, "old"), hits(session, "new")) == (1, 0)
    with writing(ready) as session:
        finish_transcript(session, new)
    with reading(ready) as session:
        assert [transcript.id for _, transcript, _ in transcripts_of_call(session, 1)] == [new]
        assert (hits(session, "old"), hits(session, "new")) == (0, 1)
        assert session.get(Transcript, old) is None
        assert analysis_of(session, old) is None


def test_an_edited_transcript_is_kept_beside_the_new_one(ready: Engine) -> None:
    with writing(ready) as session:
        old = id_of(add_transcript(session, 1, ["recieve", "bye"]))  # codespell:ignore recieve
        edit(session, "receive")
    with writing(ready) as session:
        new = id_of(add_transcript(session, 1, ["deceive", "bye"], model="small"))
    with reading(ready) as session:
        kept, current = session.get(Transcript, old), current_transcript(session, 1)
        assert kept is not None
        assert current is not None
        assert (kept.complete, kept.current, current.id) == (True, False, new)
        assert texts(session, old) == ["receive", "bye"]
        assert (hits(session, "receive"), hits(session, "bye")) == (0, 1)  # the search finds only current transcripts
    with writing(ready) as session:
        edit_segment(session, segments_of(session, old)[0].id or 0, "receipt")
        assert hits(session, "receipt") == 0


def test_finishing_a_transcript_twice_changes_nothing(ready: Engine) -> None:
    with writing(ready) as session:
        transcript_id = id_of(add_transcript(session, 1, ["once"]))
        finish_transcript(session, transcript_id)
    with reading(ready) as session:
        assert hits(session, "once") == 1
        assert texts(session, transcript_id) == ["once"]


def test_an_edited_text_is_found_and_the_original_is_kept(ready: Engine) -> None:
    with writing(ready) as session:
        add_transcript(session, 1, ["the feed is paid", "yes"])
    with writing(ready) as session:
        row = edit(session, "  the fee is paid\x00 ")
        assert (row.text, row.original_text) == ("the fee is paid", "the feed is paid")
        assert row.edited_at is not None
    with reading(ready) as session:
        assert (hits(session, "fee"), hits(session, "feed"), hits(session, "yes")) == (1, 0, 1)
        (hit,) = find_hits(session, SearchFilter(1, "fee"), offset=0, limit=5)
        assert hit.edited
    with writing(ready) as session:
        edit(session, "the fee was paid")
        row = edit(session, "the feed is paid")  # back to the model's text
        assert (row.text, row.original_text, row.edited_at) == ("the feed is paid", None, None)
    with reading(ready) as session:
        assert (hits(session, "fee"), hits(session, "feed")) == (0, 1)


def test_a_segments_text_can_be_deleted_and_written_again(ready: Engine) -> None:
    with writing(ready) as session:
        add_transcript(session, 1, ["noise", "yes"])
        edit(session, "")
        assert hits(session, "noise") == 0
        edit(session, "a voice")
        assert (hits(session, "voice"), hits(session, "noise")) == (1, 0)


def test_editing_a_deleted_segment_raises_an_error_with_advice(ready: Engine) -> None:
    with writing(ready) as session:
        old = id_of(add_transcript(session, 1, ["old"]))
        deleted = segments_of(session, old)[0].id or 0
        add_transcript(session, 1, ["new", "words"], model="small")
        session.expunge_all()
        with pytest.raises(PbxError, match="no longer there") as caught:
            edit_segment(session, deleted + 100, "text")
        assert "Open the call again" in caught.value.fix
        with pytest.raises(PbxError, match="no longer there"):
            add_part(session, old + 100, TranscriptPart(0), "inbound")


def test_saving_an_analysis_replaces_the_old_one(ready: Engine) -> None:
    with writing(ready) as session:
        transcript_id = id_of(add_transcript(session, 1, ["hello"]))
        save_analysis(session, transcript_id, "local", {"summary": "one"}, "the server was slow", 2)
        save_analysis(session, transcript_id, "llama", {"summary": "two"})
    with reading(ready) as session:
        row = analysis_of(session, transcript_id)
        assert row is not None
        assert (row.engine, row.document, row.fallback_reason, row.attempts) == ("llama", {"summary": "two"}, "", 0)
        assert analysis_of(session, transcript_id + 1) is None


UNUSUAL_TEXTS = [
    "“quotes” 'n' \"more\" -- ; DROP TABLE segments",
    "<script>alert('x')</script> &amp;",
    "😀👩‍👩‍👧 emoji",
    "هُوَ كِتَابٌ جديد",
    "東京都の天気は良い",
    "שָׁלוֹם",
    "a\x00b \ud800 lone",
]


def test_any_text_is_stored_and_found(ready: Engine) -> None:
    with writing(ready) as session:
        transcript_id = id_of(add_transcript(session, 1, UNUSUAL_TEXTS))
    with reading(ready) as session:
        assert texts(session, transcript_id) == [*UNUSUAL_TEXTS[:-1], "ab  lone"]
        for query in ("drop", "script", "emoji", "كتاب", "京都", "שלום", "lone"):
            assert hits(session, query) == 1, query


def test_a_hundred_thousand_words_are_stored_and_found(ready: Engine) -> None:
    words = [f"word{number}" for number in range(100_000)]
    short_texts = [" ".join(words[at : at + 20]) for at in range(0, 50_000, 20)]
    long_text = " ".join(words[50_000:])
    with writing(ready) as session:
        transcript_id = id_of(add_transcript(session, 1, [*short_texts, long_text]))
    with writing(ready) as session:
        assert len(segments_of(session, transcript_id)) == 2501
        assert hits(session, "word1") == 1
        assert hits(session, '"word12345 word12346"') == 1
        (hit,) = find_hits(session, SearchFilter(1, "word70000"), offset=0, limit=1)
        assert [hit.text[start:end] for start, end in hit.spans] == ["word70000"]
        edit(session, long_text + " and more", 2500)
        assert hits(session, "word70000 AND more") == 1


@sqlite_only
def test_a_full_disk_raises_an_error_and_keeps_stored_parts(ready: Engine) -> None:
    """SQLite's page limit simulates a full disk; tests/lab/test_postgres.py fills a server's."""
    with writing(ready) as session:
        transcript_id = id_of(begin_transcript(session, 1, "whisper", "base", "abc"))
        add_part(session, transcript_id, TranscriptPart(0, segments("first part"), done_s=10.0), "inbound")
    long_segments = tuple(Segment(10.0 + at, 11.0 + at, 0, f"{at} " + "word " * 400) for at in range(500))

    def fill(limit_pages: str) -> None:
        with writing(ready) as session:
            session.connection().exec_driver_sql(f"PRAGMA max_page_count = {limit_pages}")
            add_part(session, transcript_id, TranscriptPart(0, long_segments, done_s=999.0), "inbound")
            finish_transcript(session, transcript_id)

    with pytest.raises(StorageFull, match="Not enough disk space"):
        fill("150")
    with reading(ready) as session:
        assert texts(session, transcript_id) == ["first part"]
        assert current_transcript(session, 1) is None
    fill("1000000")
    with reading(ready) as session:
        assert (len(texts(session, transcript_id)), hits(session, "first"), hits(session, "word")) == (501, 1, 500)


def test_the_search_index_matches_what_two_processes_wrote(ready: Engine) -> None:
    with writing(ready) as session:
        add_call(session, 2)
    running = [subprocess.Popen([sys.executable, "-c", STORE_AND_EDIT, str(number)], cwd=ROOT) for number in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    with reading(ready) as session:
        stored_texts = [
            row.text for call in (1, 2) for _, _, rows in transcripts_of_call(session, call) for row in rows
        ]
        assert len(stored_texts) == 4  # each recording has one current transcript
        assert hits(session, "both") == 2
        assert hits(session, "turn*") == 2
        assert hits(session, "edited") == stored_texts.count("both edited")
        assert session.connection().exec_driver_sql("SELECT count(*) FROM segment_index").scalar() == 4
