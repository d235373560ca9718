"""Notes, ratings, tags and topics are stored as intended, whatever is typed."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from pbx.errors import PbxError
from pbx.store.engine import reading, writing
from pbx.store.models import CallNote
from pbx.store.notes import (
    MAX_NOTE_CHARACTERS,
    all_tags,
    change_tags,
    delete_topic,
    get_note,
    save_note,
    save_rating,
    save_topic,
    set_tags,
    tags_of,
    topics,
)
from tests.unit.transcription.search.transcribed_calls import add_call

EARLIER = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
def ready(engine: Engine) -> Engine:
    """Two calls of one PBX, one of another."""
    with writing(engine) as session:
        add_call(session, 1)
        add_call(session, 2)
        add_call(session, 3, connection_id=2)
    return engine


def note_and_rating(engine: Engine, call_id: int = 1) -> tuple[str, int | None] | None:
    with reading(engine) as session:
        note = get_note(session, call_id)
        return (note.note, note.rating) if note else None


def test_a_note_and_a_rating_are_stored_changed_and_removed_independently(ready: Engine) -> None:
    with writing(ready) as session:
        assert save_note(session, 1, "Call back; <b>“urgent”</b> 😀\n日本") == "Call back; <b>“urgent”</b> 😀\n日本"
    assert note_and_rating(ready) == ("Call back; <b>“urgent”</b> 😀\n日本", None)
    with writing(ready) as session:
        save_rating(session, 1, 4)
    assert note_and_rating(ready) == ("Call back; <b>“urgent”</b> 😀\n日本", 4)
    with writing(ready) as session:
        save_note(session, 1, " \n")
    assert note_and_rating(ready) == ("", 4)
    with writing(ready) as session:
        save_rating(session, 1, None)
        save_note(session, 2, "")
    assert (note_and_rating(ready), note_and_rating(ready, 2)) == (None, None)


def test_a_rating_must_be_from_1_to_5(ready: Engine) -> None:
    with writing(ready) as session:
        for rating in (0, 6, -1):
            with pytest.raises(ValueError, match="1 to 5"):
                save_rating(session, 1, rating)
        assert get_note(session, 1) is None


def test_a_note_needs_a_call(ready: Engine) -> None:
    with pytest.raises(IntegrityError), writing(ready) as session:
        save_note(session, 99, "lost")


def test_a_note_that_is_too_long_is_refused_and_the_old_one_kept(ready: Engine) -> None:
    with writing(ready) as session:
        save_note(session, 1, "😀" * MAX_NOTE_CHARACTERS)
    with (
        pytest.raises(PbxError, match="holds 20,000 characters; this one has 20,001") as caught,
        writing(ready) as session,
    ):
        save_note(session, 1, "x" * (MAX_NOTE_CHARACTERS + 1))
    assert caught.value.fix
    assert note_and_rating(ready) == ("😀" * MAX_NOTE_CHARACTERS, None)


@pytest.mark.parametrize(
    ("base", "saved", "text", "result"),
    [
        ("a", "a", "b", "b"),  # nobody else wrote
        ("a", "a", "", ""),
        ("", "theirs", "mine", "mine\ntheirs"),
        ("a\nb", "a\nb\ntheirs", "a\nb\nmine", "a\nb\nmine\ntheirs"),
        ("a\nb", "a\nB", "A\nb", "A\nb\nB"),
        ("a", "", "a mine", "a mine"),  # the other browser only deleted text
        ("a", "a theirs", "", "a theirs"),
        ("", "hel", "hello", "hello"),  # the same note was sent twice, the second time with more text
        ("", "mine\ntheirs", "mine", "mine\ntheirs"),  # it was stored, but the response was lost
        ("a", "\n\n", "b", "b"),
    ],
)
def test_a_note_saved_meanwhile_by_another_browser_is_merged(
    ready: Engine, base: str, saved: str, text: str, result: str
) -> None:
    with writing(ready) as session:
        save_note(session, 1, saved)
        assert save_note(session, 1, text, base) == result
    assert (note_and_rating(ready) or ("",))[0] == result


def test_saving_an_unchanged_note_keeps_its_time(ready: Engine) -> None:
    with writing(ready) as session:
        save_note(session, 1, "a")
        session.get_one(CallNote, 1).updated_at = EARLIER
    with writing(ready) as session:
        save_note(session, 1, "a")
        save_rating(session, 1, None)
    with reading(ready) as session:
        assert session.get_one(CallNote, 1).updated_at == EARLIER


def test_changing_tags_keeps_the_tags_of_another_browser(ready: Engine) -> None:
    with writing(ready) as session:
        set_tags(session, 1, ["a", "b", "theirs"])  # another browser added the last
        change_tags(session, 1, ["a", "b"], ["b", "new", "A b"])
        assert tags_of(session, 1) == ["A b", "b", "new", "theirs"]
        change_tags(session, 1, ["b", "gone"], ["b", "THEIRS"])  # and removed another
        assert tags_of(session, 1) == ["A b", "b", "new", "theirs"]


def test_setting_tags_replaces_all_tags_of_a_call(ready: Engine) -> None:
    with writing(ready) as session:
        set_tags(session, 1, ["refund", "  Angry   caller ", "Refund", "", " ", "äöü", "x" * 100])
    with reading(ready) as session:
        assert tags_of(session, 1) == ["Angry caller", "refund", "x" * 60, "äöü"]
    with writing(ready) as session:
        set_tags(session, 1, ["refund", "new"])
        set_tags(session, 2, [])
    with reading(ready) as session:
        assert tags_of(session, 1) == ["new", "refund"]
        assert tags_of(session, 2) == []


def test_all_tags_lists_the_tags_of_one_pbx(ready: Engine) -> None:
    with writing(ready) as session:
        set_tags(session, 1, ["a", "b"])
        set_tags(session, 2, ["b", "C"])
        set_tags(session, 3, ["z"])
    with reading(ready) as session:
        assert all_tags(session, 1) == ["a", "b", "C"]
        assert all_tags(session, 2) == ["z"]
        assert all_tags(session, 3) == []


def test_topics_are_added_changed_and_deleted(ready: Engine) -> None:
    with writing(ready) as session:
        fees = save_topic(session, " Fees  and costs ", ["late fee", "Late Fee", "", "charge*"])
        save_topic(session, "cancelling", ["cancel*"])
    with reading(ready) as session:
        assert [(topic.name, topic.phrases) for topic in topics(session)] == [
            ("cancelling", ["cancel*"]),
            ("Fees and costs", ["late fee", "charge*"]),
        ]
    with writing(ready) as session:
        save_topic(session, "fees and costs", ["bill"], fees.id)
    with reading(ready) as session:
        assert [(topic.name, topic.phrases) for topic in topics(session)][1] == ("fees and costs", ["bill"])
    with writing(ready) as session:
        delete_topic(session, fees.id or 0)
        delete_topic(session, 99)
    with reading(ready) as session:
        assert [topic.name for topic in topics(session)] == ["cancelling"]


@pytest.mark.parametrize(
    ("name", "phrases", "topic_id", "reason"),
    [
        (" ", ["fee"], None, "needs a name"),
        ("Fees", [" ", ""], None, "needs at least one phrase"),
        ("CANCELLING", ["fee"], None, "There is a topic “cancelling” already"),
        ("Fees", ["fee"], 99, "no longer there"),
    ],
)
def test_the_error_of_an_invalid_topic_says_why(
    ready: Engine, name: str, phrases: list[str], topic_id: int | None, reason: str
) -> None:
    with writing(ready) as session:
        save_topic(session, "cancelling", ["cancel*"])
    with pytest.raises(PbxError, match=reason) as caught, writing(ready) as session:
        save_topic(session, name, phrases, topic_id)
    assert caught.value.fix
    with reading(ready) as session:
        assert [topic.phrases for topic in topics(session)] == [["cancel*"]]
