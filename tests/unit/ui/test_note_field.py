"""Drafts from the note field are validated, then saved or answered with an error."""

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from pbx.errors import StorageFull
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow
from pbx.store.notes import get_note, save_note, save_rating
from pbx.ui.active_pbx import Site, find_site
from pbx.ui.note_field import NoteAnswer, NoteDraft, parse_draft, save_draft
from tests.pages.sample_data import TEXTS_WITH_MARKUP, save_pbx

VALID_DRAFT = {"linkedid": "1.2", "text": "a", "base": "", "number": "7"}


@pytest.fixture
def site(engine: Engine) -> Site:
    """The app with a PBX and one call."""
    pbx = save_pbx(engine)
    with writing(engine) as session:
        session.add(CallRow(id=1, connection_id=pbx, linkedid="1.2"))
    found = find_site()
    assert found is not None
    return found


def saved_note(site: Site) -> str:
    with reading(site.engine) as session:
        note = get_note(session, 1)
        return note.note if note else ""


def test_a_valid_draft_is_parsed() -> None:
    assert parse_draft(VALID_DRAFT) == NoteDraft("1.2", "a", "", "7")


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "x",
        {},
        {**VALID_DRAFT, "text": 1},
        {**VALID_DRAFT, "base": None},
        {**VALID_DRAFT, "linkedid": "x" * 2000},
        {**VALID_DRAFT, "number": "x" * 2000},
        {"linkedid": "1.2", "text": "a", "base": ""},
    ],
)
def test_invalid_drafts_are_ignored(sent: object) -> None:
    assert parse_draft(sent) is None


@pytest.mark.parametrize("text", TEXTS_WITH_MARKUP)
def test_a_draft_is_saved_and_the_rating_kept(site: Site, text: str) -> None:
    with writing(site.engine) as session:
        save_rating(session, 1, 2)
    assert save_draft(site, NoteDraft("1.2", text, "", "7")) == NoteAnswer("7", text)
    assert saved_note(site) == text
    with reading(site.engine) as session:
        assert session.get_one(CallRow, 1).linkedid == "1.2"
        note = get_note(session, 1)
        assert note is not None
        assert note.rating == 2


def test_a_stale_draft_is_merged_with_what_was_saved_meanwhile(site: Site) -> None:
    with writing(site.engine) as session:
        save_note(session, 1, "theirs")
    assert save_draft(site, NoteDraft("1.2", "mine", "", "7")) == NoteAnswer("7", "mine\ntheirs")
    assert save_draft(site, NoteDraft("1.2", "mine", "", "8")) == NoteAnswer("8", "mine\ntheirs")  # sent again


def test_a_missing_call_is_reported(site: Site) -> None:
    answer = save_draft(site, NoteDraft("9.9", "mine", "", "7"))
    assert (answer.gone, answer.problem) == (True, "This call no longer exists.")


def test_the_error_of_an_unsaved_note_is_returned(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_storage_full(session: Session, *_: object) -> str:
        raise StorageFull("Not enough disk space.", "Free disk space.")

    assert "holds 20,000 characters" in save_draft(site, NoteDraft("1.2", "x" * 30_000, "", "7")).problem
    monkeypatch.setattr("pbx.ui.note_field.save_note", raise_storage_full)
    assert save_draft(site, NoteDraft("1.2", "mine", "", "7")) == NoteAnswer(
        "7", problem="Not enough disk space. Free disk space."
    )
    assert saved_note(site) == ""
