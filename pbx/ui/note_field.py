"""The note on a call: a text field that saves while the reader types.

Streamlit's own text area sends its text when it loses focus, which happens with a click on something else, and then
one of the two is lost. This field sends shortly after the last key press. Text that isn't confirmed as saved stays in
the browser's storage.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from pbx.errors import PbxError
from pbx.store.calls import find_call
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow
from pbx.store.notes import MAX_NOTE_CHARACTERS, get_note, save_note
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import UI_DIR, component, show_errors

_MAX_ID_CHARACTERS = 1_000

_component = component(
    "pbx_note", (UI_DIR / "note_field.html").read_text(encoding="utf-8"), "note_field.css", "note_field.js"
)


@dataclass(frozen=True)
class NoteDraft:
    """A note as the reader typed it.

    `base`: the saved note that the reader started from. `number`: identifies the answer to this draft.
    """

    linkedid: str
    text: str
    base: str
    number: str


@dataclass(frozen=True)
class NoteAnswer:
    """The answer to a draft: the note as saved, or the problem. `gone`: the call no longer exists."""

    number: str
    saved: str = ""
    problem: str = ""
    gone: bool = False


@st.fragment
@show_errors
def note_field(site: Site, call: CallRow) -> None:
    """Draw the note of a call. Drafts of other calls that are still in the browser's storage are saved too."""
    key = f"note_{call.id}"

    def save() -> None:
        if draft := parse_draft(st.session_state[key]["draft"]):
            st.session_state["note_answer"] = save_draft(site, draft)

    answer: NoteAnswer | None = st.session_state.get("note_answer")
    with reading(site.engine) as session:
        saved = get_note(session, call.id or 0)
    _component(
        key=key,
        data={
            # The browser's storage may also hold drafts for another PBX, whose calls can have the same ids.
            "store": f"{site.pbx_name}/{site.active.id}",
            "call": call.linkedid,
            "saved": saved.note if saved else "",
            "answer": asdict(answer) if answer else None,
            "longest": MAX_NOTE_CHARACTERS,
        },
        on_draft_change=save,
    )


def parse_draft(sent: object) -> NoteDraft | None:
    """Return the draft that the browser sent; None if the message isn't a valid draft."""
    if not isinstance(sent, Mapping):
        return None
    parts: list[Any] = [sent.get(name) for name in ("linkedid", "text", "base", "number")]
    if not all(isinstance(part, str) for part in parts) or max(len(parts[0]), len(parts[3])) > _MAX_ID_CHARACTERS:
        return None
    return NoteDraft(*parts)


def save_draft(site: Site, draft: NoteDraft) -> NoteAnswer:
    """Save a draft as the note of its call, merged with what was saved there since the reader started."""
    try:
        with writing(site.engine) as session:
            call = find_call(session, site.active.id, draft.linkedid)
            if call is None:
                return NoteAnswer(draft.number, problem="This call no longer exists.", gone=True)
            return NoteAnswer(draft.number, saved=save_note(session, call.id or 0, draft.text, draft.base))
    except PbxError as error:
        return NoteAnswer(draft.number, problem=error.advice)
