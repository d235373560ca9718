"""What the analyst says of a call: a note, tags, a rating; each is saved by itself when it changes."""

from collections.abc import Callable
from typing import Any

import streamlit as st
from sqlmodel import Session

from pbx.errors import PbxError
from pbx.store.engine import reading, writing
from pbx.store.models import Call
from pbx.store.notes import all_tags, change_tags, get_note, save_rating, tags_of
from pbx.ui.active_pbx import Site
from pbx.ui.elements import note, plain, show_errors
from pbx.ui.note_field import note_field


def show_call_notes(site: Site, call: Call) -> None:
    """Note, tags and rating; what can't be saved stays in its field, with the reason."""
    note_field(site, call)
    _labels(site, call.id or 0)


@st.fragment
@show_errors
def _labels(site: Site, call_id: int) -> None:
    with reading(site.engine) as session:
        known, tags = get_note(session, call_id), tags_of(session, call_id)
        offered = all_tags(session, site.active.id)
    key = f"tags_{call_id}"
    _bring_up_to_date(key, tags)
    st.multiselect(
        "Tags",
        sorted({*offered, *tags, *st.session_state[key]}, key=str.casefold),
        key=key,
        accept_new_options=True,
        placeholder="Choose, or type a new one",
        on_change=_save,
        args=(site, key, lambda session, had, chosen: change_tags(session, call_id, had, chosen)),
    )
    _say_problem(key)
    note("Rating")
    key = f"rating_{call_id}"
    _bring_up_to_date(key, known.rating - 1 if known and known.rating else None)
    st.feedback(
        "stars",
        key=key,
        on_change=_save,
        args=(site, key, lambda session, _, star: save_rating(session, call_id, None if star is None else star + 1)),
    )
    _say_problem(key)


def _bring_up_to_date(key: str, kept: Any) -> None:
    """Have a field show what is kept, unless what was chosen could not be."""
    problem, shown = f"problem {key}", f"shown {key}"
    if key not in st.session_state:  # the call was not open before
        st.session_state.pop(problem, None)
    if problem in st.session_state:
        return
    if key not in st.session_state or st.session_state[key] != kept:
        st.session_state[key] = kept
    st.session_state[shown] = kept


def _save(site: Site, key: str, save: Callable[[Session, Any, Any], None]) -> None:
    """Keep what was chosen: what was shown before is known, so that only what was changed here is changed."""
    try:
        with writing(site.engine) as session:
            save(session, st.session_state[f"shown {key}"], st.session_state[key])
    except PbxError as error:
        st.session_state[f"problem {key}"] = error.advice
    else:
        st.session_state.pop(f"problem {key}", None)


def _say_problem(key: str) -> None:
    if problem := st.session_state.get(f"problem {key}"):
        st.error(f"Not saved; what you chose is still here. {plain(problem)}")
