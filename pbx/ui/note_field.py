"""The note on a call: a field that is saved as it is typed, and is never the reason why a click is lost.

Streamlit's own field sends its text when the focus leaves it, which is with the click on something else; of the two one
is lost. This one sends a while after the last key, and keeps in the browser what is not known to be saved.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from pbx.errors import PbxError
from pbx.store.calls import find_call
from pbx.store.engine import reading, writing
from pbx.store.models import Call
from pbx.store.notes import LONGEST_NOTE, get_note, save_note
from pbx.ui.active_pbx import Site
from pbx.ui.elements import HERE, show_errors

_LONGEST_NAME = 1_000  # characters

_field = st.components.v2.component(
    "pbx_note",
    html=(HERE / "note_field.html").read_text(),
    css=(HERE / "note_field.css").read_text(),
    js=(HERE / "note_field.js").read_text(),
)


@dataclass(frozen=True)
class NoteDraft:
    """What somebody wrote on a call: upon which saved note, and the number by which the answer is known."""

    linkedid: str
    text: str
    base: str
    number: str


@dataclass(frozen=True)
class NoteAnswer:
    """What became of a draft: the note as it is kept now, or why it is not; `gone`: there is no such call."""

    number: str
    saved: str = ""
    problem: str = ""
    gone: bool = False


@st.fragment
@show_errors
def note_field(site: Site, call: Call) -> None:
    """The note of a call, saved as it is typed; drafts of other calls that were left in the browser are saved too."""
    key = f"note_{call.id}"

    def keep() -> None:
        if draft := parse_draft(st.session_state[key]["draft"]):
            st.session_state["note_answer"] = save_draft(site, draft)

    answer: NoteAnswer | None = st.session_state.get("note_answer")
    with reading(site.engine) as session:
        known = get_note(session, call.id or 0)
    _field(
        key=key,
        data={
            # Calls of another PBX, or of another cache, may have the same numbers.
            "store": f"{site.pbx_name}/{site.active.id}",
            "call": call.linkedid,
            "saved": known.note if known else "",
            "answer": asdict(answer) if answer else None,
            "longest": LONGEST_NOTE,
        },
        on_draft_change=keep,
    )


def parse_draft(sent: object) -> NoteDraft | None:
    """What the browser sent, if it is what the field sends."""
    if not isinstance(sent, Mapping):
        return None
    parts: list[Any] = [sent.get(name) for name in ("linkedid", "text", "base", "number")]
    if not all(isinstance(part, str) for part in parts) or max(len(parts[0]), len(parts[3])) > _LONGEST_NAME:
        return None
    return NoteDraft(*parts)


def save_draft(site: Site, draft: NoteDraft) -> NoteAnswer:
    """Save a draft as the note of its call, together with what was saved there meanwhile."""
    try:
        with writing(site.engine) as session:
            call = find_call(session, site.active.id, draft.linkedid)
            if call is None:
                return NoteAnswer(draft.number, problem="This call is no longer there.", gone=True)
            return NoteAnswer(draft.number, saved=save_note(session, call.id or 0, draft.text, draft.base))
    except PbxError as error:
        return NoteAnswer(draft.number, problem=error.advice)
