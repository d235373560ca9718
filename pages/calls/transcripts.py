"""Transcripts: search what was said in calls, see trends and topics, and export transcripts."""

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
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.pager import pager
from pbx.ui.search_hits import show_hits
from pbx.ui.topics import show_topics
from pbx.ui.transcript_search import NONE_LABELS, SEARCH, TOPICS, TRENDS, check_query, search_for
from pbx.ui.trends import show_trends

PAGE_HITS = 20
LATEST_CALLS = 10
SUMMARY_CHARACTERS = 180
ORDERS: dict[str, Order] = {"Relevance": "relevance", "Newest": "newest", "Oldest": "oldest"}
TRANSCRIPTION_PAGE = "pages/settings/transcription.py"
EXAMPLES = {
    "invoice number": "both words",
    '"order number"': "exact phrase",
    "cancel*": "words that start with it",
    "NEAR(order number, 5)": "within 5 words",
    "invoice NOT paid": "without the second word",
    "(order OR invoice) number": "either word, and the third",
}
SEARCH_HELP = (
    "Type words or “phrases”. begin* finds words that start with it. NEAR(a b, 5) finds words at most 5 words apart. "
    "Combine them with AND, OR, NOT and parentheses. Write operators in capitals; the search ignores the case of words."
)


def show_filters(site: ui.Site) -> SearchFilter:
    """Draw the search box and the filters below it; both are in the URL."""
    query = st.text_input(
        "Search what was said",
        key="q",
        type="search",
        placeholder='Words, "phrases", begin*, NEAR(a b, 5), AND, OR, NOT',
        help=SEARCH_HELP,
        **filters.IN_URL,
    )
    with reading(site.engine) as session:
        tags, agents = all_tags(session, site.active.id), call_agents(session, site.active.id)
    with st.container(horizontal=True, key="filters", vertical_alignment="bottom"):
        since, until = filters.period_filter(site)
        speaker = filters.select_filter(
            "Speaker", list(SPEAKERS), "speaker", format_func=lambda name: SPEAKERS.get(name, name)
        )
        queue = filters.queue_filter(site, none=NONE_LABELS["queue"])
        direction = filters.direction_filter()
        # No filter is inside a menu: a button outside a closed menu can't reset the widgets in it.
        agent = filters.select_filter("Agent", agents, "agent", none=NONE_LABELS["agent"])
        number = filters.number_filter()
        tag = filters.select_filter("Tag", tags, "tag")
        doubtful = st.toggle(
            "Include doubtful passages",
            key="doubtful",
            help="Passages that the speech model may have invented: words where nobody spoke, repetitions, guesses.",
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
    """Reset all filters but not the search. For a button's callback."""
    st.session_state.update(
        period="All time", speaker=filters.ALL, queue=filters.ALL, direction=filters.ALL, agent=filters.ALL
    )
    st.session_state.update(number="", tag=filters.ALL, doubtful=False)


def show_examples(title: str) -> None:
    """Draw a button for each example search."""
    ui.note(title)
    with st.container(horizontal=True, key="examples", gap="small"):
        for query, meaning in EXAMPLES.items():
            st.button(f"`{query}` {meaning}", key=f"try {query}", on_click=search_for, args=(query,))


def show_search(site: ui.Site, search: SearchFilter) -> None:
    """Draw the search results; without a query, examples and the latest transcripts."""
    if not search.query:
        show_latest(site, search)
        return
    if not check_query(search.query):
        show_examples("Examples of valid searches:")
        return
    with reading(site.engine) as session:
        mentions, calls = count_hits(session, search)
    if not mentions:
        show_no_matches(search)
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key="found"):
        selected = selected_calls()
        more = [f"times in {site.zone_name}", *([f"{count_text(len(selected), 'call')} selected"] if selected else [])]
        found_text = f"{count_text(mentions, 'mention')} in {count_text(calls, 'call')}"
        st.html(f'<b>{found_text}</b> <span class="muted">· {" · ".join(more)}</span>')
        with st.container(horizontal=True, vertical_alignment="center", width="content", key="found_tools"):
            order = ui.select_one("Order", list(ORDERS), "Relevance", "sort", persist_state="page", **filters.IN_URL)
            show_export(site, search, ORDERS[order], calls)
    rows = st.container()
    offset = pager(mentions, PAGE_HITS, of=f"{search} {order}")
    with reading(site.engine) as session:
        found = find_hits(session, search, order=ORDERS[order], offset=offset, limit=PAGE_HITS)
    with rows:
        show_hits(site, found, key="hits", selected=selected_calls(), on_select=select_call)


def selected_calls() -> dict[int, None]:
    """Return the ids of the calls selected for export, in the order they were selected."""
    selected_calls: dict[int, None] = st.session_state.setdefault("calls_to_export", {})
    return selected_calls


def select_call(call_id: int, selected: bool) -> None:
    """Add a call to the selection, or remove it."""
    selected_calls().pop(call_id, None)
    if selected:
        selected_calls()[call_id] = None


def show_export(site: ui.Site, search: SearchFilter, order: Order, calls: int) -> None:
    """Draw the export menu: the calls to export, all or the selected ones, and the format."""
    menu = st.popover("Export", icon=":material/download:", key="export", on_change="rerun")
    if not menu.open:
        return
    with menu:
        selected = selected_calls()
        scopes = [f"All {count_text(calls, 'call')} found", f"{count_text(len(selected), 'call')} selected"]
        scope = st.radio(
            "Calls", scopes if selected else scopes[:1], 1 if selected else 0, key=f"scope {len(selected)}"
        )
        if scope == scopes[0]:
            with reading(site.engine) as session:
                ids = calls_with_hits(session, search, order=order, limit=exports.MAX_CALLS + 1)
        else:
            ids = list(selected)
            st.button("Clear selection", on_click=selected.clear, type="tertiary", icon=":material/close:")
        if not selected:
            ui.note("To export only some calls, select their check boxes in the list.")
        stem = f"Transcripts {search.query} {datetime.now(site.zone):%Y-%m-%d}"
        exports.export_form(site, ids, stem, key="export", doubtful=search.doubtful)


def show_latest(site: ui.Site, search: SearchFilter) -> None:
    """Draw what to start with: example searches and the newest transcribed calls."""
    show_examples("Type words that were said, or try an example:")
    with reading(site.engine) as session:
        calls = transcribed_calls(session, search, limit=LATEST_CALLS)
        total = count_transcribed(session, search)
        summaries = summaries_of(session, [call.id or 0 for call in calls])
    st.subheader("Latest transcripts", anchor=False)
    if not calls:
        ui.note("No transcribed calls match these filters.")
        return
    cells: dict[str, list[ui.TableCell]] = {
        str(call.id): [
            {"text": site.local(call.started_at), "sub": (DIRECTIONS.get(call.direction) or call.direction)},
            {
                "text": f"{call.from_number or 'Unknown'} → {call.to_number or 'Unknown'}",
                "sub": f"Agent {site.agent_text(call.agent)}" if call.agent else "",
            },
            duration_text(call.duration_s),
            shorten(summaries.get(call.id or 0) or "No summary yet", SUMMARY_CHARACTERS, placeholder=" …"),
        ]
        for call in calls
    }
    columns = ("Started|", "Call|", "Duration>", "Summary")
    if call_id := ui.table("Latest transcripts", columns, cells, key="latest_calls", pick=True):
        go_to_page(CALL_PAGE, {"call": call_id})
    ui.note(f"{len(calls)} of {count_text(total, 'transcribed call')}, times in {site.zone_name}")


def show_no_matches(search: SearchFilter) -> None:
    """Explain an empty result, and offer to search without the filters if there are any."""
    bare = SearchFilter(connection_id=search.connection_id, query=search.query)
    if search != bare:
        ui.empty(
            "No matches with these filters",
            "Select a longer period, or search all calls.",
            icon="filter_alt_off",
            action=("Search all calls", clear_filters),
        )
    else:
        ui.empty(
            "No matches",
            "Try fewer words, OR between them, or the start of a word with an asterisk: refund* finds refunds and "
            "refunded. The speech model may spell names differently.",
            icon="search_off",
        )


ui.head("Transcripts", "Search what was said, see trends and topics, export transcripts")
site = ui.site()
if st.session_state.setdefault("selection_connection", site.active.id) != site.active.id:
    st.session_state.update(selection_connection=site.active.id, calls_to_export={})
with reading(site.engine) as reader:
    transcribed = transcribed_calls(reader, SearchFilter(site.active.id, ""), limit=1)
if transcribed:
    search = show_filters(site)
    views = st.tabs([SEARCH, TRENDS, TOPICS], key="view", on_change="rerun", **filters.IN_URL)
    for view, show in zip(views, (show_search, show_trends, show_topics), strict=True):
        if view.open:
            with view:
                show(site, search)
else:
    ui.empty(
        "No transcripts yet",
        "This machine transcribes recordings. On the Transcription page you can follow its progress, choose which "
        "calls it transcribes automatically, and start with calls you select.",
        icon="speech_to_text",
        link=(TRANSCRIPTION_PAGE, "Open Transcription"),
    )
