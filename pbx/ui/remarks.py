"""What the analyst says of a call: a note, tags, a rating."""

import streamlit as st

from pbx.errors import PbxError
from pbx.store.engine import reading, writing
from pbx.store.models import Call
from pbx.store.notes import all_tags, get_note, save_note, set_tags, tags_of
from pbx.ui.sites import Site
from pbx.ui.words import note, plain


def show_remarks(at: Site, call: Call) -> None:
    """Note, tags and rating; what was typed stays in its fields when it can't be saved."""
    call_id = call.id or 0
    with reading(at.engine) as session:
        known, tags = get_note(session, call_id), tags_of(session, call_id)
        offered = all_tags(session, at.active.id)
    with st.form(f"remarks_{call_id}", border=False):
        text = st.text_area(
            "Note", known.note if known else "", key=f"note_{call_id}", height=120, placeholder="What is worth knowing"
        )
        chosen = st.multiselect(
            "Tags",
            sorted({*offered, *tags}, key=str.casefold),
            tags,
            key=f"tags_{call_id}",
            accept_new_options=True,
            placeholder="Choose, or type a new one",
        )
        note("Rating")
        stars = st.feedback(
            "stars", key=f"rating_{call_id}", default=known.rating - 1 if known and known.rating else None
        )
        saved = st.form_submit_button("Save", type="primary", icon=":material/save:")
    if not saved:
        return
    try:
        with writing(at.engine) as session:
            save_note(session, call_id, text or "", None if stars is None else stars + 1)
            set_tags(session, call_id, chosen)
    except PbxError as error:
        st.error(f"Not saved; what you wrote is still here. {plain(error.advice)}")
        return
    st.toast("Saved.", icon=":material/check_circle:")
