"""The analyst's own topics: the phrases of each, and how many calls mention it."""

import re
from dataclasses import replace
from typing import Any

import streamlit as st
from sqlmodel import Session

from pbx.charts import MentionCount
from pbx.errors import PbxError, QueryError
from pbx.formatting import count_text
from pbx.store.engine import reading, writing
from pbx.store.models import Topic
from pbx.store.notes import delete_topic, save_topic, topics
from pbx.transcription.search.hits import SearchFilter, count_hits, count_transcribed
from pbx.transcription.search.query import parse_query
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import empty, note, plain
from pbx.ui.transcript_search import phrase_query, search_for, show_query_error, topic_query


def show_topics(site: Site, search: SearchFilter) -> None:
    """Draw each topic with its phrases and its share of the transcribed calls that match the filters."""
    with reading(site.engine) as session:
        all_topics = topics(session)
    if all_topics:
        st.button("Add a topic", icon=":material/add:", on_click=_open_dialog, args=("edit", 0))
    else:
        empty(
            "No topics yet",
            "A topic is a name with phrases that identify it: for example Refunds, with “money back” and refund*. "
            "This page counts the calls that mention it, and each call’s summary lists its mentions.",
            icon="sell",
            action=("Add a topic", lambda: _open_dialog("edit", 0)),
        )
    with reading(site.engine) as session:
        calls_total = count_transcribed(session, search) if all_topics else 0
        counts = [_count(session, search, topic, calls_total) for topic in all_topics]
    for topic, count in zip(all_topics, counts, strict=True):
        _show_topic(topic, count)
    by_id = {topic.id: topic for topic in all_topics}
    # In the session until the user answers or dismisses it, so that a redraw of the page doesn't close the dialog.
    action, topic_id = st.session_state.get("topic_dialog", ("", 0))
    if action == "edit":
        _edit(site, by_id.get(topic_id))
    elif action == "delete" and topic_id in by_id:
        _confirm_delete(site, by_id[topic_id])


def _open_dialog(action: str, topic_id: int) -> None:
    st.session_state["topic_dialog"] = (action, topic_id)


def _close_dialog() -> None:
    st.session_state.pop("topic_dialog", None)


def _count(session: Session, search: SearchFilter, topic: Topic, calls_total: int) -> MentionCount | QueryError:
    try:
        return MentionCount(*count_hits(session, replace(search, query=topic_query(topic))), calls_total)
    except QueryError as error:
        return error


def _show_topic(topic: Topic, count: MentionCount | QueryError) -> None:
    number = topic.id or 0
    with st.container(border=True, key=f"topic_{number}", horizontal=True, vertical_alignment="center"):
        with st.container(key=f"topic_about_{number}", gap="xsmall"):
            st.markdown(f"**{plain(topic.name)}**")
            note(", ".join(topic.phrases))
            if isinstance(count, QueryError):
                show_query_error(count)
            elif count.share is None:
                st.caption("n/a: no transcribed calls match these filters")
            else:
                total = count_text(count.calls_total, "transcribed call")
                st.progress(count.share / 100, f"{count.share:.1f}% of {total}")
        with st.container(horizontal=True, width="content", vertical_alignment="center", key=f"topic_do_{number}"):
            if isinstance(count, MentionCount):
                st.button(
                    f"{count_text(count.hits, 'mention')} in {count_text(count.calls, 'call')}",
                    key=f"find_topic_{number}",
                    icon=":material/search:",
                    disabled=not count.hits,
                    on_click=search_for,
                    args=(topic_query(topic),),
                )
            edit: dict[str, Any] = {"type": "tertiary", "on_click": _open_dialog}
            st.button("Edit", key=f"edit_topic_{number}", icon=":material/edit:", args=("edit", number), **edit)
            st.button(
                "Delete",
                key=f"delete_topic_{number}",
                icon=":material/delete:",
                args=("delete", number),
                **edit,
            )


def _edit(site: Site, topic: Topic | None) -> None:
    @st.dialog("Add a topic" if topic is None else "Edit the topic", icon=":material/sell:", on_dismiss=_close_dialog)
    def show_form() -> None:
        with st.form("topic_form", border=False):
            name = st.text_input("Name", topic.name if topic else "", placeholder="Refunds", key="topic_name")
            phrases = st.text_area(
                "Phrases, one per line",
                "\n".join(topic.phrases) if topic else "",
                placeholder="money back\nrefund*\ncancel my contract",
                help="Phrases match complete words, in any case. An asterisk at the end matches any ending: refund*.",
                height=180,
                key="topic_phrases",
            )
            saved = st.form_submit_button("Save", type="primary", icon=":material/check:")
        if saved and _save(site, name or "", phrases or "", topic.id if topic else None):
            _close_dialog()
            st.rerun()

    show_form()


def _save(site: Site, name: str, phrases: str, topic_id: int | None) -> bool:
    """Save a topic and return True; if it can't be saved, show why and return False."""
    lines = [line.strip() for line in phrases.splitlines() if line.strip()]
    for line in lines:
        try:
            parse_query(phrase_query(line))
        except QueryError as error:
            why = error.advice if re.search(r"\w", line) else "Enter at least one word."
            st.error(f"{plain(line)}: {plain(why)}", icon=":material/error:")
            return False
    try:
        with writing(site.engine) as session:
            save_topic(session, name, lines, topic_id)
    except PbxError as error:
        st.error(plain(error.advice), icon=":material/error:")
        return False
    st.session_state["toast"] = (f"Topic {' '.join(name.split())} saved.", ":material/sell:")
    return True


def _confirm_delete(site: Site, topic: Topic) -> None:
    @st.dialog("Delete this topic?", icon=":material/delete:", on_dismiss=_close_dialog)
    def show_question() -> None:
        st.markdown(f"**{plain(topic.name)}** with {count_text(len(topic.phrases), 'phrase')}. The calls don’t change.")
        with st.container(horizontal=True):
            if st.button("Delete", type="primary", key="topic_delete_yes"):
                with writing(site.engine) as session:
                    delete_topic(session, topic.id or 0)
                st.session_state["toast"] = (f"Topic {topic.name} deleted.", ":material/delete:")
                _close_dialog()
                st.rerun()
            if st.button("Cancel", key="topic_delete_no"):
                _close_dialog()
                st.rerun()

    show_question()
