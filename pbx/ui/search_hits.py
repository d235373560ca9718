"""Search results: the mentions found, highlighted in their context, each a link to that second of its call."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from pbx.formatting import DIRECTIONS, SPEAKERS, position_text
from pbx.transcription.search.hits import Hit
from pbx.ui.active_pbx import Site
from pbx.ui.page_elements import component

MAX_SEGMENT_CHARACTERS = 420
MAX_CONTEXT_CHARACTERS = 110
TextSpans = Sequence[tuple[int, int]]  # of characters: the first, and the one after the last

_component = component("pbx_hits", '<div class="hits"></div>', "search_hits.css", "elements.js", "search_hits.js")


def show_hits(
    site: Site,
    found: Sequence[Hit],
    *,
    key: str,
    selected: Collection[int],
    on_select: Callable[[int, bool], None],
) -> None:
    """Draw the mentions found, with consecutive ones of a call under one heading; a click opens the call there.

    `selected`: the ids of the calls whose check box is selected. When the reader changes one, the app calls
    `on_select(call_id, selected)`.
    """

    def select() -> None:
        sent = st.session_state[key]["select"]
        on_select(int(sent["call"]), bool(sent["selected"]))

    groups = [
        _call_data(site, list(call_hits), call_id in selected)
        for call_id, call_hits in groupby(found, key=lambda hit: hit.call_id)
    ]
    _component(key=key, data={"label": "Mentions found", "groups": groups}, on_select_change=select)


def _call_data(site: Site, hits: Sequence[Hit], selected: bool) -> dict[str, Any]:
    first = hits[0]
    queue = f"Queue {first.queue}" if first.queue else ""
    agent = f"Agent {site.agent_text(first.agent)}" if first.agent else ""
    about = [DIRECTIONS.get(first.direction, first.direction), queue, agent]
    return {
        "call": str(first.call_id),
        "when": site.local(first.started_at),
        "who": f"{first.from_number or 'Unknown'} → {first.to_number or 'Unknown'}",
        "about": ", ".join(filter(None, about)),
        "selected": selected,
        "hits": [hit_data(hit) for hit in hits],
    }


def hit_data(hit: Hit) -> dict[str, Any]:
    """Return a mention as data for the component: its time, its link, and the text in highlighted and other parts."""
    second = f"{int(hit.start_s * 10) / 10:g}"
    text, spans, before_cut, after_cut = clip_text(hit.text, hit.spans)
    return {
        "t": second,
        "href": f"interactions?{urlencode({'call': hit.call_id, 'recording': hit.recording_id, 't': second})}",
        "at": position_text(hit.start_s),
        "speaker": SPEAKERS.get(hit.speaker, ""),
        "side": hit.speaker if hit.speaker in SPEAKERS else "",
        "parts": [[part, marked] for part, marked in highlighted_parts(text, spans)],
        "before": "…" if before_cut else _last_words(hit.before),
        "after": "…" if after_cut else _first_words(hit.after),
        "marks": [*(["doubtful"] if hit.flags else []), *(["edited"] if hit.edited else [])],
    }


def highlighted_parts(text: str, spans: TextSpans) -> Iterator[tuple[str, bool]]:
    """Split a text into parts, each with whether it is inside a span. Spans may overlap and be in any order."""
    position = 0
    for start, end in sorted(spans):
        start, end = max(start, position), min(end, len(text))
        if start >= end:
            continue
        if start > position:
            yield text[position:start], False
        yield text[start:end], True
        position = end
    if position < len(text):
        yield text[position:], False


def clip_text(text: str, spans: TextSpans) -> tuple[str, TextSpans, bool, bool]:
    """Shorten a long text to the part around its first span.

    Returns the part, the spans in it, whether its start was cut off, and whether its end was.
    """
    if len(text) <= MAX_SEGMENT_CHARACTERS:
        return text, spans, False, False
    first = min((start for start, _ in spans), default=0)
    start = max(0, min(first - MAX_SEGMENT_CHARACTERS // 3, len(text) - MAX_SEGMENT_CHARACTERS))
    end = start + MAX_SEGMENT_CHARACTERS
    if start:
        start = max(start, text.rfind(" ", start, first) + 1)
    if end < len(text):
        end = max(text.rfind(" ", first + 1, end), 0) or end
    shifted = [(max(a - start, 0), min(b, end) - start) for a, b in spans if b > start and a < end]
    return text[start:end], shifted, start > 0, end < len(text)


def _last_words(text: str) -> str:
    if len(text) <= MAX_CONTEXT_CHARACTERS:
        return text
    return (
        "…" + text[text.find(" ", len(text) - MAX_CONTEXT_CHARACTERS) :]
        if " " in text[-MAX_CONTEXT_CHARACTERS:]
        else "…"
    )


def _first_words(text: str) -> str:
    if len(text) <= MAX_CONTEXT_CHARACTERS:
        return text
    shortened = text[:MAX_CONTEXT_CHARACTERS]
    return shortened[: shortened.rfind(" ")] + " …" if " " in shortened else "…"
