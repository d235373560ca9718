"""Places found in transcripts: what was said, marked in its context, each a link to that second of its call."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from pbx.formatting import DIRECTIONS, SPEAKERS, position_text
from pbx.transcription.search.hits import Hit
from pbx.ui.active_pbx import Site
from pbx.ui.elements import HERE

SHOWN_CHARACTERS = 420  # of a segment
NEAR_CHARACTERS = 110  # of a neighbour
TextSpans = Sequence[tuple[int, int]]

_hits = st.components.v2.component(
    "pbx_hits",
    html='<div class="hits"></div>',
    css=(HERE / "hits.css").read_text(),
    js=(HERE / "hits.js").read_text(),
)


def show_hits(
    site: Site,
    found: Sequence[Hit],
    *,
    key: str,
    picked: Collection[int],
    on_pick: Callable[[int, bool], None],
) -> None:
    """The places found, those of one call that follow one another below its head; a click opens the call there.

    `on_pick(call_id, picked)` is called when a call's box is ticked or cleared.
    """

    def pick() -> None:
        asked = st.session_state[key]["pick"]
        on_pick(int(asked["call"]), bool(asked["picked"]))

    groups = [
        _group(site, list(of_call), call_id in picked)
        for call_id, of_call in groupby(found, key=lambda hit: hit.call_id)
    ]
    _hits(key=key, data={"label": "Places found", "groups": groups}, on_pick_change=pick)


def _group(site: Site, of_call: Sequence[Hit], picked: bool) -> dict[str, Any]:
    first = of_call[0]
    queue = f"Queue {first.queue}" if first.queue else ""
    agent = f"Agent {site.agent_text(first.agent)}" if first.agent else ""
    about = [DIRECTIONS.get(first.direction, first.direction), queue, agent]
    return {
        "call": str(first.call_id),
        "when": site.local(first.started_at),
        "who": f"{first.from_number or 'Unknown'} → {first.to_number or 'Unknown'}",
        "about": ", ".join(filter(None, about)),
        "picked": picked,
        "hits": [hit_data(hit) for hit in of_call],
    }


def hit_data(hit: Hit) -> dict[str, Any]:
    """A place as the component takes it: times for people and for the link, the text in marked and other parts."""
    second = f"{int(hit.start_s * 10) / 10:g}"
    text, spans, before_cut, after_cut = clip_text(hit.text, hit.spans)
    return {
        "t": second,
        "href": f"interactions?{urlencode({'call': hit.call_id, 'recording': hit.recording_id, 't': second})}",
        "at": position_text(hit.start_s),
        "speaker": SPEAKERS.get(hit.speaker, ""),
        "side": hit.speaker if hit.speaker in SPEAKERS else "",
        "parts": [[part, marked] for part, marked in highlighted_parts(text, spans)],
        "before": "…" if before_cut else _ending(hit.before),
        "after": "…" if after_cut else _beginning(hit.after),
        "marks": [*(["doubtful"] if hit.flags else []), *(["edited"] if hit.edited else [])],
    }


def highlighted_parts(text: str, spans: TextSpans) -> Iterator[tuple[str, bool]]:
    """Text in pieces, each with whether it is within a span; overlapping and unordered spans are taken as one."""
    done = 0
    for start, end in sorted(spans):
        start, end = max(start, done), min(end, len(text))
        if start >= end:
            continue
        if start > done:
            yield text[done:start], False
        yield text[start:end], True
        done = end
    if done < len(text):
        yield text[done:], False


def clip_text(text: str, spans: TextSpans) -> tuple[str, TextSpans, bool, bool]:
    """A long text cut down to around its first span: text, spans within it, whether its beginning, its end is cut."""
    if len(text) <= SHOWN_CHARACTERS:
        return text, spans, False, False
    first = min((start for start, _ in spans), default=0)
    start = max(0, min(first - SHOWN_CHARACTERS // 3, len(text) - SHOWN_CHARACTERS))
    end = start + SHOWN_CHARACTERS
    if start:
        start = max(start, text.rfind(" ", start, first) + 1)
    if end < len(text):
        end = max(text.rfind(" ", first + 1, end), 0) or end
    moved = [(max(a - start, 0), min(b, end) - start) for a, b in spans if b > start and a < end]
    return text[start:end], moved, start > 0, end < len(text)


def _ending(text: str) -> str:
    if len(text) <= NEAR_CHARACTERS:
        return text
    return "…" + text[text.find(" ", len(text) - NEAR_CHARACTERS) :] if " " in text[-NEAR_CHARACTERS:] else "…"


def _beginning(text: str) -> str:
    if len(text) <= NEAR_CHARACTERS:
        return text
    return text[: text.rfind(" ", 0, NEAR_CHARACTERS)] + " …" if " " in text[:NEAR_CHARACTERS] else "…"
