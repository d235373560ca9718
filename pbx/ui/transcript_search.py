"""What the tabs of Transcripts share: starting a search, checking one, and writing one for a topic."""

import re
from typing import Any

import streamlit as st

from pbx.errors import QueryError
from pbx.store.models import Topic
from pbx.transcription.search.query import parse_query
from pbx.ui.page_elements import plain

SEARCH, TRENDS, TOPICS = "Search", "Trends", "Topics"
NONE_LABELS = {"queue": "No queue", "agent": "No agent"}


def search_for(query: str, **filters: Any) -> None:
    """Open the Search tab with a query and filters, given by their keys. For callbacks, before widgets are drawn."""
    st.session_state.update(q=query, view=SEARCH, **filters)


def show_query_error(error: QueryError) -> None:
    """Show what is wrong with a search and how to fix it."""
    st.info(f"**{plain(str(error))}** {plain(error.fix)}", icon=":material/help:")


def check_query(query: str) -> bool:
    """Return whether a search is valid; if not, show why."""
    try:
        parse_query(query)
    except QueryError as error:
        show_query_error(error)
        return False
    return True


def topic_query(topic: Topic) -> str:
    """Return the search that finds any phrase of a topic."""
    return " OR ".join(map(phrase_query, topic.phrases))


def phrase_query(phrase: str) -> str:
    """Return a phrase as search text, quoted where necessary; an asterisk at its end keeps its meaning."""
    text = phrase.replace('"', " ").strip()
    stem = text.rstrip("*")
    is_single_word = re.fullmatch(r"\w+", stem) and stem not in ("AND", "OR", "NOT", "NEAR")
    return (stem if is_single_word else f'"{stem}"') + ("*" if stem != text else "")
