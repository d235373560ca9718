"""Transcripts: what was said in all calls, to search, to follow over time, and to take away."""

from datetime import datetime
from textwrap import shorten

import streamlit as st

from pbx import ui
from pbx.formatting import DIRECTIONS, SPEAKERS, count_text, duration_text
from pbx.store.calls import call_agents
from pbx.store.engine import reading
from pbx.store.notes import all_tags
from pbx.store.transcripts import summaries_of
from pbx.transcription.search.hits import (
    Order,
    SearchFilter,
    calls_with_hits,
    count_hits,
    count_transcribed,
    find_hits,
    transcribed_calls,
)
from pbx.ui import exports, filters
from pbx.ui import search_hits as hits
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.pager import pager
from pbx.ui.searches import NONE_LABELS, SEARCH, TOPICS, TRENDS, check_query, search_for
from pbx.ui.topics import show_topics
from pbx.ui.trends import show_trends

PAGE_HITS = 20
RECENT_CALLS = 10
SUMMARY_CHARACTERS = 180
ORDERS: dict[str, Order] = {"Relevance": "relevance", "Newest": "newest", "Oldest": "oldest"}
TRANSCRIPTION_PAGE = "pages/settings/transcription.py"
EXAMPLES = {
    "invoice number": "both words",
    '"order number"': "a phrase",
    "cancel*": "words that begin so",
    "NEAR(order number, 5)": "close together",
    "invoice NOT paid": "one without the other",
    "(order OR invoice) number": "either, with a third",
}
HELP = (
    "Words, “phrases”, begin*, NEAR(a b, 5), AND, OR, NOT and parentheses. The operators are written in capitals; "
    "all else is found whatever its case."
)


def choose(site: ui.Site) -> SearchFilter:
    """The search box and the filters below it, kept in the address."""
    query = st.text_input(
        "Search what was said",
        key="q",
        type="search",
        placeholder='Words, "phrases", begin*, NEAR(a b, 5), AND, OR, NOT',
        help=HELP,
        **filters.IN_URL,
    )
    with reading(site.engine) as session:
        tags, agents = all_tags(session, site.active.id), call_agents(session, site.active.id)
    with st.container(horizontal=True, key="filters", vertical_alignment="bottom"):
        since, until = filters.period_filter(site)
        speaker = filters.select_filter("Speaker", list(SPEAKERS), "speaker", said=lambda who: SPEAKERS.get(who, who))
        queue = filters.queue_filter(site, none=NONE_LABELS["queue"])
        direction = filters.direction_filter()
        # All in sight: what a closed menu holds isn't cleared by a button outside it, and comes back unseen.
        agent = filters.select_filter("Agent", agents, "agent", none=NONE_LABELS["agent"])
        number = filters.number_filter()
        tag = filters.select_filter("Tag", tags, "tag")
        doubtful = st.toggle(
            "Include doubtful passages",
            key="doubtful",
            help="What the speech model may have made up: words where nobody spoke, repetitions, guesses.",
            **filters.IN_URL,
        )
    return SearchFilter(
        connection_id=site.active.id,
        query=(query or "").strip(),
        since=since,
        until=until,
        direction=direction,
        queue=queue,
        agent=agent,
        number=number,
        speaker=speaker,
        doubtful=doubtful,
        tag=tag,
    )


def clear_filters() -> None:
    st.session_state.update(
        period="All time", speaker=filters.ALL, queue=filters.ALL, direction=filters.ALL, agent=filters.ALL
    )
    st.session_state.update(number="", tag=filters.ALL, doubtful=False)


def offer_examples(title: str) -> None:
    ui.note(title)
    with st.container(horizontal=True, key="examples", gap="small"):
        for query, meaning in EXAMPLES.items():
            st.button(f"`{query}` {meaning}", key=f"try {query}", on_click=search_for, args=(query,))


def show_search(site: ui.Site, wanted: SearchFilter) -> None:
    if not wanted.query:
        show_recent(site, wanted)
        return
    if not check_query(wanted.query):
        offer_examples("Searches that work:")
        return
    with reading(site.engine) as session:
        places, calls = count_hits(session, wanted)
    if not places:
        show_nothing(wanted)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key="found"):
        chosen = f' <span class="muted">{count_text(len(picked()), "call")} picked</span>' if picked() else ""
        st.html(f"<b>{count_text(places, 'place')} in {count_text(calls, 'call')}</b>{chosen}")
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="found_tools"):
            order = st.segmented_control(
                "Order",
                list(ORDERS),
                default="Relevance",
                required=True,
                key="sort",
                label_visibility="collapsed",
                persist_state="page",
                **filters.IN_URL,
            )
            offer_export(site, wanted, ORDERS[order or "Relevance"], calls)
    rows = st.container()
    before = pager(places, PAGE_HITS, of=f"{wanted} {order}", also=f", times in {site.zone_name}")
    with reading(site.engine) as session:
        found = find_hits(session, wanted, order=ORDERS[order or "Relevance"], offset=before, limit=PAGE_HITS)
    with rows:
        hits.show_hits(site, found, key="hits", picked=picked(), on_pick=pick)


def picked() -> dict[int, None]:
    """The calls picked for export, in the order they were picked."""
    picked_calls: dict[int, None] = st.session_state.setdefault("picked_calls", {})
    return picked_calls


def pick(call_id: int, chosen: bool) -> None:
    picked().pop(call_id, None)
    if chosen:
        picked()[call_id] = None


def offer_export(site: ui.Site, wanted: SearchFilter, order: Order, calls: int) -> None:
    menu = st.popover("Export", icon=":material/download:", key="export", on_change="rerun")
    if not menu.open:
        return
    with menu:
        scopes = [f"All {count_text(calls, 'call')} found", f"{count_text(len(picked()), 'call')} picked"]
        scope = st.radio("Calls", scopes if picked() else scopes[:1], len(picked()) and 1, key=f"scope {len(picked())}")
        if scope == scopes[0]:
            with reading(site.engine) as session:
                ids = calls_with_hits(session, wanted, order=order, limit=exports.MOST_CALLS + 1)
        else:
            ids = list(picked())
            st.button("Pick none", on_click=picked().clear, type="tertiary", icon=":material/close:")
        if not picked():
            ui.note("Tick calls in the list to export only those.")
        stem = f"Transcripts {wanted.query} {datetime.now(site.zone):%Y-%m-%d}"
        exports.export_form(site, ids, stem, key="export", doubtful=wanted.doubtful)


def show_recent(site: ui.Site, wanted: SearchFilter) -> None:
    """Where to begin: examples, and the calls transcribed last."""
    offer_examples("Type what was said, or begin with an example:")
    with reading(site.engine) as session:
        calls = transcribed_calls(session, wanted, limit=RECENT_CALLS)
        total = count_transcribed(session, wanted)
        summaries = summaries_of(session, [call.id or 0 for call in calls])
    st.subheader("Latest transcripts", anchor=False)
    if not calls:
        ui.note("No transcribed call matches these filters.")
        return
    cells: dict[str, list[ui.TableCell]] = {
        str(call.id): [
            {"text": site.local(call.started_at), "sub": DIRECTIONS.get(call.direction, call.direction)},
            {
                "text": f"{call.from_number or 'Unknown'} → {call.to_number or 'Unknown'}",
                "sub": f"Agent {site.agent_text(call.agent)}" if call.agent else "",
            },
            duration_text(call.duration_s),
            shorten(summaries.get(call.id or 0) or "No summary yet", SUMMARY_CHARACTERS, placeholder=" …"),
        ]
        for call in calls
    }
    columns = ("Started|", "Call|", "Length>", "Summary")
    if opened := ui.table("Latest transcripts", columns, cells, key="recent_calls", pick=True):
        go_to_page(CALL_PAGE, {"call": opened})
    ui.note(f"{len(calls)} of {count_text(total, 'transcribed call')}, times in {site.zone_name}")


def show_nothing(wanted: SearchFilter) -> None:
    bare = SearchFilter(connection_id=wanted.connection_id, query=wanted.query)
    if wanted != bare:
        ui.empty(
            "Nobody said that within these filters",
            "Widen the period, or search in all calls.",
            icon="filter_alt_off",
            action=("Search in all calls", clear_filters),
        )
    else:
        ui.empty(
            "Nobody said that",
            "Try fewer words, OR between them, or the beginning of a word with a star: refund* finds refunds and "
            "refunded. Names may be spelt differently by the speech model.",
            icon="search_off",
        )


ui.head("Transcripts", "What was said: search it, follow it, take it away")
site = ui.site()
if st.session_state.setdefault("picked_of", site.active.id) != site.active.id:
    st.session_state.update(picked_of=site.active.id, picked_calls={})
with reading(site.engine) as reader:
    transcribed = transcribed_calls(reader, SearchFilter(site.active.id, ""), limit=1)
if transcribed:
    wanted = choose(site)
    views = st.tabs([SEARCH, TRENDS, TOPICS], key="view", on_change="rerun", **filters.IN_URL)
    for view, show in zip(views, (show_search, show_trends, show_topics), strict=True):
        if view.open:
            with view:
                show(site, wanted)
else:
    ui.empty(
        "Nothing is transcribed yet",
        "Recordings become text on this machine. The transcription page shows how far it is, what is transcribed by "
        "itself, and lets you begin with the calls you choose.",
        icon="speech_to_text",
        link=(TRANSCRIPTION_PAGE, "See the transcription jobs"),
    )
