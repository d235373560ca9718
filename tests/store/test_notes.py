"""Notes, ratings, tags and topics: kept as meant, whatever is typed."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from pbx.errors import PbxError
from pbx.store.engine import reading, writing
from pbx.store.notes import all_tags, delete_topic, get_note, save_note, save_topic, set_tags, tags_of, topics
from tests.store.spoken import add_call


@pytest.fixture
def ready(engine: Engine) -> Engine:
    """Two calls of one PBX, one of another."""
    with writing(engine) as session:
        add_call(session, 1)
        add_call(session, 2)
        add_call(session, 3, connection_id=2)
    return engine


def test_a_note_is_kept_changed_and_removed(ready: Engine) -> None:
    with writing(ready) as session:
        save_note(session, 1, "Call back; <b>“urgent”</b> 😀\n日本", 4)
    with reading(ready) as session:
        note = get_note(session, 1)
        assert note is not None
        assert (note.note, note.rating) == ("Call back; <b>“urgent”</b> 😀\n日本", 4)
        assert get_note(session, 2) is None
    with writing(ready) as session:
        save_note(session, 1, "", 5)
    with reading(ready) as session:
        note = get_note(session, 1)
        assert note is not None
        assert (note.note, note.rating) == ("", 5)
    with writing(ready) as session:
        save_note(session, 1, " \n", None)
        save_note(session, 2, "", None)
    with reading(ready) as session:
        assert get_note(session, 1) is None


def test_a_rating_is_one_to_five(ready: Engine) -> None:
    with writing(ready) as session:
        for rating in (0, 6, -1):
            with pytest.raises(ValueError, match="1 to 5"):
                save_note(session, 1, "", rating)
        assert get_note(session, 1) is None


def test_a_note_needs_a_call(ready: Engine) -> None:
    with pytest.raises(IntegrityError), writing(ready) as session:
        save_note(session, 99, "lost", None)


def test_tags_are_set_as_a_whole(ready: Engine) -> None:
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


def test_all_tags_are_those_of_one_pbx(ready: Engine) -> None:
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
def test_a_topic_that_cannot_be_is_explained(
    ready: Engine, name: str, phrases: list[str], topic_id: int | None, reason: str
) -> None:
    with writing(ready) as session:
        save_topic(session, "cancelling", ["cancel*"])
    with pytest.raises(PbxError, match=reason) as caught, writing(ready) as session:
        save_topic(session, name, phrases, topic_id)
    assert caught.value.mend
    with reading(ready) as session:
        assert [topic.phrases for topic in topics(session)] == [["cancel*"]]
