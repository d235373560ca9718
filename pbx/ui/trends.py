"""Trends: how often up to four phrases are mentioned, by day, queue or agent."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, cast

import streamlit as st

from pbx.charts import MentionCount, bars_alt, day_bars, name_bars
from pbx.store.engine import reading
from pbx.store.models import Topic
from pbx.store.notes import topics
from pbx.transcription.search.hits import SearchFilter, TrendDimension, trend
from pbx.ui.active_pbx import Site
from pbx.ui.filters import IN_URL
from pbx.ui.page_elements import chart, note, palette, picture_name
from pbx.ui.table import table
from pbx.ui.transcript_search import NONE_LABELS, check_query, search_for, topic_query

MAX_PHRASES = 4
MAX_DAYS = 400  # more bars would be too thin
MentionCounts = Mapping[str, Mapping[Any, MentionCount]]  # phrase → day or name → count


def show_trends(site: Site, wanted: SearchFilter) -> None:
    """The phrases to compare, their bars and their totals; a click on a bar lists its mentions."""
    with reading(site.engine) as session:
        saved_topics = topics(session)
    phrases, by, share = _choose(wanted, saved_topics)
    if not phrases:
        note("Enter what to compare: a word, a phrase, or a search as in the box above.")
        return
    if sum(check_query(phrase) for phrase in phrases) < len(phrases):  # each unreadable phrase shows its error
        return
    counts: dict[str, dict[Any, MentionCount]] = {}
    with reading(site.engine) as session:
        for phrase in phrases:
            points = trend(session, replace(wanted, query=phrase), by, site.zone)
            counts[phrase] = {
                point.day or point.label: MentionCount(point.hits, point.calls, point.calls_total) for point in points
            }
    if not any(count.calls_total for named in counts.values() for count in named.values()):
        note("No transcribed call matches these filters.")
        return
    _draw(site, wanted, counts, by, share)
    _show_totals(counts)


def _choose(wanted: SearchFilter, saved_topics: list[Topic]) -> tuple[list[str], TrendDimension, bool]:
    options: dict[str, Any] = {"persist_state": "page", **IN_URL}
    names = {topic_query(topic): topic.name for topic in saved_topics}
    typed = [wanted.query] if wanted.query else []
    followed = st.session_state.get("followed")
    if followed is not None and followed != typed and st.session_state.get("phrases", followed) == followed:
        st.session_state["phrases"] = typed  # a new search replaces the phrases, unless the user chose some here
    st.session_state["followed"] = typed
    with st.container(horizontal=True, key="trend_choice"):
        phrases = st.multiselect(
            "Compare",
            list(dict.fromkeys([*typed, *names])),
            default=typed,
            format_func=lambda query: names.get(query, query),
            accept_new_options=True,
            max_selections=MAX_PHRASES,
            key="phrases",
            placeholder=f"Up to {MAX_PHRASES} words, phrases or topics",
            **options,
        )
        by = st.segmented_control("By", ["Day", "Queue", "Agent"], default="Day", required=True, key="by", **options)
        measures = ["Mentions", "Share of calls"]
        measure = st.segmented_control("Measure", measures, default="Mentions", required=True, key="measure", **options)
    return phrases, cast(TrendDimension, (by or "Day").lower()), measure == "Share of calls"


def _draw(site: Site, wanted: SearchFilter, counts: MentionCounts, by: TrendDimension, share: bool) -> None:
    title = f"{'Transcribed calls with a mention' if share else 'Mentions'}, by {by}"
    if by == "day":
        days = _days(site, wanted, counts)
        if len(days) > MAX_DAYS:
            note(f"The last {MAX_DAYS} days are shown. Choose another period to see earlier days.")
        days = days[-MAX_DAYS:]
        now = datetime.now(site.zone)
        figure = day_bars(counts, days, title=title, share=share, zone=site.zone, palette=palette(), now=now)
    else:
        figure = name_bars(
            counts, title=title, share=share, nameless=NONE_LABELS[by], zone=site.zone, palette=palette()
        )
    picture = picture_name(title, wanted.since, wanted.until, site.zone)
    chart(figure, alt=bars_alt(title, counts), key="trend", picture=picture, on_pick=_follow_bar)
    note("Hover over a bar to see its figures. Click it to list its mentions.")


def _days(site: Site, wanted: SearchFilter, counts: MentionCounts) -> list[date]:
    """Every day from first to last: of the period, or of the calls if the period has no bounds."""
    seen = sorted({day for named in counts.values() for day in named})
    first = wanted.since.astimezone(site.zone).date() if wanted.since else seen[0]
    last = (wanted.until - timedelta(seconds=1)).astimezone(site.zone).date() if wanted.until else None
    last = last or max(seen[-1], datetime.now(site.zone).date() if wanted.since else seen[-1])
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _follow_bar(customdata: Any) -> None:
    if customdata:
        phrase, label, *_ = customdata
        search_for(
            phrase, **trend_drilldown(label, cast(TrendDimension, (st.session_state.get("by") or "Day").lower()))
        )


def trend_drilldown(label: str, by: TrendDimension) -> dict[str, Any]:
    """The filters, by key, that find the mentions of one bar."""
    if by == "day":
        day = date.fromisoformat(label)
        return {"period": "Custom range", "days": (day, day)}
    return {by: label or NONE_LABELS[by]}


def _show_totals(counts: MentionCounts) -> None:
    rows = {}
    for phrase, named in counts.items():
        mentions, calls, total = (sum(count[part] for count in named.values()) for part in range(3))
        share = f"{100 * calls / total:.1f}%" if total else "n/a"
        rows[phrase] = [phrase, f"{mentions:,}", f"{calls:,} of {total:,}", share]
    table("Phrases compared", ("Phrase", "Mentions>", "Calls with a mention>", "Share>"), rows, key="trend_totals")
