"""The analyst's note, tags and rating of a call. Each is saved automatically when it changes."""

from collections.abc import Callable
from typing import Any

import streamlit as st
from sqlmodel import Session

from pbx.errors import PbxError
from pbx.store.engine import reading, writing
from pbx.store.models import CallRow
from pbx.store.notes import all_tags, change_tags, get_note, save_rating, tags_of
from pbx.ui.active_pbx import Site
from pbx.ui.note_field import note_field
from pbx.ui.page_elements import note, plain, show_errors


def show_call_notes(site: Site, call: CallRow) -> None:
    """Draw the note, tags and rating. What can't be saved stays in its field, with the reason."""
    note_field(site, call)
    _tags_and_rating(site, call.id or 0)


@st.fragment
@show_errors
def _tags_and_rating(site: Site, call_id: int) -> None:
    with reading(site.engine) as session:
        saved, tags = get_note(session, call_id), tags_of(session, call_id)
        existing_tags = all_tags(session, site.active.id)
    key = f"tags_{call_id}"
    _show_saved(key, tags)
    st.multiselect(
        "Tags",
        sorted({*existing_tags, *tags, *st.session_state[key]}, key=str.casefold),
        key=key,
        accept_new_options=True,
        placeholder="Select tags or type a new one",
        on_change=_save,
        args=(site, key, lambda session, before, after: change_tags(session, call_id, before, after)),
    )
    _show_problem(key)
    note("Rating")
    key = f"rating_{call_id}"
    _show_saved(key, saved.rating - 1 if saved and saved.rating else None)
    st.feedback(
        "stars",
        key=key,
        on_change=_save,
        args=(site, key, lambda session, _, index: save_rating(session, call_id, None if index is None else index + 1)),
    )
    _show_problem(key)


def _show_saved(key: str, saved: Any) -> None:
    """Set a widget to the saved value, unless the last change could not be saved."""
    problem, shown = f"problem {key}", f"shown {key}"
    if key not in st.session_state:  # the call has just been opened
        st.session_state.pop(problem, None)
    if problem in st.session_state:
        return
    if key not in st.session_state or st.session_state[key] != saved:
        st.session_state[key] = saved
    st.session_state[shown] = saved


def _save(site: Site, key: str, save: Callable[[Session, Any, Any], None]) -> None:
    """Save a change. `save` gets the values before and after it, so that changes made elsewhere meanwhile stay."""
    try:
        with writing(site.engine) as session:
            save(session, st.session_state[f"shown {key}"], st.session_state[key])
    except PbxError as error:
        st.session_state[f"problem {key}"] = error.advice
    else:
        st.session_state.pop(f"problem {key}", None)


def _show_problem(key: str) -> None:
    if problem := st.session_state.get(f"problem {key}"):
        st.error(f"Not saved. Your change is still here. {plain(problem)}")
