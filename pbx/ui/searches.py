"""What the views of the search share: a way to start one, and what to say when it can't be understood."""

import re
from typing import Any

import streamlit as st

from pbx.errors import QueryError
from pbx.store.models import Topic
from pbx.transcription.search.query import parse_query
from pbx.ui.elements import plain

SEARCH, TRENDS, TOPICS = "Search", "Trends", "Topics"
NONE_LABELS = {"queue": "No queue", "agent": "No agent"}


def search_for(query: str, **filters: Any) -> None:
    """Show what a query finds, with these filters set by their keys. For callbacks: before the widgets are drawn."""
    st.session_state.update(q=query, view=SEARCH, **filters)


def show_query_error(error: QueryError) -> None:
    """Say what is wrong with a search, and how to write it."""
    st.info(f"**{plain(str(error))}** {plain(error.fix)}", icon=":material/help:")


def check_query(query: str) -> bool:
    """Whether a search can be understood; if not, the page says why."""
    try:
        parse_query(query)
    except QueryError as error:
        show_query_error(error)
        return False
    return True


def topic_query(topic: Topic) -> str:
    """The search that finds a topic: any of its phrases, each as it would be typed."""
    return " OR ".join(map(phrase_query, topic.phrases))


def phrase_query(phrase: str) -> str:
    """A phrase as it is typed into the search; a star at its end stays one."""
    said = phrase.replace('"', " ").strip()
    stem = said.rstrip("*")
    plain_word = re.fullmatch(r"\w+", stem) and stem not in ("AND", "OR", "NOT", "NEAR")
    return (stem if plain_word else f'"{stem}"') + ("*" if stem != said else "")
