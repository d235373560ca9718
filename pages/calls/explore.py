"""Explore: calls counted by time, number, queue, agent and outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast, get_args
from urllib.parse import urlencode

import streamlit as st

from pbx import ui
from pbx.analytics.calls import CallCount, CallDimension, CallQuestion, call_counts, call_heat_map, call_totals
from pbx.analytics.coverage import call_coverage
from pbx.analytics.formulas.intervals import interval_edges
from pbx.analytics.formulas.ratio import Ratio
from pbx.charts.calls import NamedValue, direction_alt, direction_bars, named_alt, named_bars
from pbx.charts.heat import WEEKDAYS, week_heat
from pbx.charts.layout import UnobservedSpan
from pbx.export.tables import CellValue
from pbx.formatting import DIRECTIONS, DISPOSITIONS, PLAIN_DIRECTIONS, count_text, duration_text
from pbx.model.call import CallDirection
from pbx.store.engine import reading, shared_reading
from pbx.ui.coverage import compared, coverage_notes
from pbx.ui.drilldown import drilldown_chart, drilldown_list, follow, no_history, show_drilldown
from pbx.ui.drilldown_rows import CALLS, CallQuery
from pbx.ui.filters import ALL, IN_URL
from pbx.ui.period_bar import Period, period_bar
from pbx.ui.tiles import figure_tile, figure_tiles
from pbx.ui.transcript_search import NONE_LABELS

CHART_BARS = 10
TABLE_ROWS = 50
MAX_EXPORTED_NAMES = 10_000
TABLE_DIRECTIONS = ("inbound", "outbound", "internal")
EXPORT_COLUMNS = (
    *("Calls", "Inbound", "Outbound", "Internal", "Calls with known outcome", "Answered"),
    *("Talk time (s)", "Calls with known talk time", "Wait time (s)", "Calls with known wait time"),
)
HEAT_MAP_TITLE = "Calls by weekday and hour"
# The label of a breakdown: the dimension it counts by, and the label for calls that have none.
BREAKDOWNS: dict[str, tuple[CallDimension, str]] = {
    "Direction": ("direction", "Unknown"),
    "Outcome": ("disposition", DISPOSITIONS[""]),
    "External number": ("number", "Unknown"),
    "Number called": ("did", "No number called"),
    "Queue": ("queue", NONE_LABELS["queue"]),
    "Agent": ("agent", NONE_LABELS["agent"]),
    "Day": ("day", ""),
    "Hour": ("hour", ""),
}
ANSWER_RATE = (
    "Answered calls ÷ calls with a known outcome. If you select a queue, a call counts as answered only if an agent "
    "answered it in that queue."
)
TALK = (
    "Total talk time ÷ answered calls with a known talk time, counted from when the agent answers; if that isn’t "
    "recorded, from when the queue or menu answers, so it may include waiting."
)
WAIT = "Total wait time ÷ calls with a known wait time. Wait time runs from the start of a call until it is answered."


def call_question(period: Period, direction: CallDirection | None) -> CallQuestion:
    """Return which calls the page counts: those of the period and queue in the period bar, in one direction or all."""
    return CallQuestion(period.connection_id, period.since, period.until, direction, period.queue)


def choose_direction() -> CallDirection | None:
    """Draw the direction buttons; None if all directions are selected."""
    names = [ALL, *get_args(CallDirection)]
    as_in_url = str.capitalize  # as in the filter on Interactions, so the URLs match
    chosen = ui.select_one(
        "Direction", names[:4], ALL, "direction", format_func=as_in_url, persist_state="page", **IN_URL
    )
    return None if chosen == ALL else cast(CallDirection, chosen)


def show_tiles(now: CallCount, before: CallCount | None) -> None:
    """Draw the headline figures with their change since the previous period; `before` is None without a comparison."""
    with figure_tiles("calls"):
        total = before.calls if before else None
        figure_tile("Calls", now.calls, total, kind="count", definition="Calls that started in the period.")
        for way in ("inbound", "outbound") if len(now.by_direction) > 1 else ():
            mine, then = now.by_direction.get(way, 0), before.by_direction.get(way, 0) if before else None
            definition = f"{way.capitalize()} calls: {mine:,} of {now.calls:,}."
            figure_tile(way.capitalize(), mine, then, kind="count", definition=definition)
        rates = (now.answer_rate, before.answer_rate if before else None)
        figure_tile("Answer rate", *rates, kind="percent", definition=ANSWER_RATE, better="up")
        talks = (now.acd, before.acd if before else None)
        figure_tile("Average talk time", *talks, kind="duration", definition=TALK)
        waits = (now.mean_wait, before.mean_wait if before else None)
        figure_tile("Average wait time", *waits, kind="duration", definition=WAIT, better="down")


def show_time(site: ui.Site, period: Period, counts: Sequence[CallCount], gaps: Sequence[UnobservedSpan]) -> None:
    """Draw the calls of each hour or day, stacked by direction."""
    starts = [count.start_at for count in counts if count.start_at]
    ends = [*starts[1:], period.until]
    rows = [(start, end, count.by_direction) for start, end, count in zip(starts, ends, counts, strict=True)]
    title = f"Calls by {period.step}"
    figure = direction_bars(rows, period.time_frame(gaps), title=title, step=period.step)
    drilldown_chart(
        figure, alt=direction_alt(title, rows, site.zone), key="calls_by_time", picture=period.picture(title)
    )


def show_week(site: ui.Site, period: Period, cells: list[list[int | None]]) -> None:
    """Draw the heat map of weekdays and hours. `cells`: 7 rows of 24 counts, None where there is no data."""
    hover_texts = [
        [
            f"{WEEKDAYS[day]} {hour:02}:00 – {hour + 1:02}:00: {count_text(n or 0, 'call')}"
            for hour, n in enumerate(hours)
        ]
        for day, hours in enumerate(cells)
    ]
    most, day, hour = max((n or 0, day, hour) for day, hours in enumerate(cells) for hour, n in enumerate(hours))
    alt = f"{HEAT_MAP_TITLE}: the busiest is {WEEKDAYS[day]} {hour:02}:00 with {count_text(most, 'call')}."
    figure = week_heat(cells, hover_texts, title=HEAT_MAP_TITLE, zone=site.zone, palette=ui.palette())
    drilldown_chart(figure, alt=alt, key="calls_by_week", picture=period.picture(HEAT_MAP_TITLE))


def name_text(by: CallDimension, name: str, none_label: str, directions: Mapping[str, str] = DIRECTIONS) -> str:
    """Return the label of a name that calls are counted by; `none_label` if it is empty."""
    labels = {"direction": directions, "disposition": DISPOSITIONS}.get(by, {})
    return labels.get(name, name) or none_label


def show_names(
    site: ui.Site, period: Period, by: CallDimension, none_label: str, title: str, counts: Sequence[CallCount]
) -> None:
    """Draw the names with the most calls as bars."""
    bars = [
        NamedValue(
            urlencode({str(by): count.label}),
            name_text(by, count.label, none_label),
            count.calls,
            f"{name_text(by, count.label, none_label)}: {count_text(count.calls, 'call')}, "
            f"answer rate {count.answer_rate.percent_text()} ({count.answer_rate.parts_text()}), "
            f"average talk time {count.acd.duration_text()}",
        )
        for count in counts[:CHART_BARS]
    ]
    figure = named_bars(bars, title=title, unit="Calls", palette=ui.palette(), zone=site.zone)
    drilldown_chart(figure, alt=named_alt(title, bars), key=f"calls_by_{by}", picture=period.picture(title))


@st.fragment
@ui.show_errors
def show_breakdown(site: ui.Site, question: CallQuestion) -> None:
    """Draw the table of calls by a dimension that the reader selects; a click on a row lists its calls."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Breakdown", anchor=False, width="content")
        name = ui.select_one("By", list(BREAKDOWNS), "Direction", "by", persist_state="page", **IN_URL)
    by, none_label = BREAKDOWNS[name]
    with reading(site.engine) as session:
        limit = None if by in ("hour", "day") else MAX_EXPORTED_NAMES
        counts = [count for count in call_counts(session, question, site.zone, by, limit) if count.calls]
    directions = () if by == "direction" else TABLE_DIRECTIONS
    rows: dict[str, list[ui.TableCell]] = {}
    for count in counts[:TABLE_ROWS]:
        rows[count.start_at.isoformat() if count.start_at else count.label] = [
            interval_text(site, by, count.start_at) if count.start_at else name_text(by, count.label, none_label),
            f"{count.calls:,}",
            *(f"{count.by_direction.get(way, 0):,}" for way in directions),
            {"text": count.answer_rate.percent_text(), "sub": count.answer_rate.parts_text()},
            {"text": count.acd.duration_text(), "sub": mean_parts(count.acd)},
            {"text": count.mean_wait.duration_text(), "sub": mean_parts(count.mean_wait)},
        ]
    columns = [f"{name}|", "Calls>", *(f"{way.capitalize()}>" for way in directions)]
    columns += ["Answer rate>", "Average talk time>", "Average wait time>"]
    chosen = ui.table(f"Calls by {name}", columns, rows, key="breakdown_table", pick=True)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        exported = f"the top {limit:,}" if len(counts) == limit else f"all {len(counts):,}"
        more = f"{TABLE_ROWS} rows shown; the export contains {exported}. " if counts[TABLE_ROWS:] else ""
        every_queue = "A call counts in every queue it entered. " if by == "queue" else ""
        ui.note(
            f"{more}{every_queue}Answer rate: answered calls ÷ calls with a known outcome. "
            "Averages use only calls whose time is known; that number is shown under each average."
        )
        ui.table_export(
            site,
            f"Calls by {name}",
            [name, *EXPORT_COLUMNS],
            lambda: export_rows(by, none_label, counts),
            key="all",
            label="Export breakdown",
        )
    if chosen is not None:
        follow_row(site, by, chosen)


def interval_text(site: ui.Site, by: CallDimension, start: datetime) -> str:
    """Format the start of a day or hour: Mon 2 Mar 2026, 09:00."""
    local = start.astimezone(site.zone)
    return f"{local:%a} {local.day} {local:%b %Y}" + (f", {local:%H:%M}" if by == "hour" else "")


def mean_parts(mean: Ratio) -> str:
    """Format how an average of seconds was calculated: the total time / the number of calls."""
    return f"{duration_text(mean.numerator)} ÷ {mean.denominator:,.0f}" if mean.denominator else ""


def export_rows(by: CallDimension, none_label: str, counts: Sequence[CallCount]) -> list[list[CellValue]]:
    """Return the rows of the breakdown's export: the name, then the values of EXPORT_COLUMNS."""
    return [
        [
            count.start_at or name_text(by, count.label, none_label, PLAIN_DIRECTIONS),
            count.calls,
            *(count.by_direction.get(way, 0) for way in TABLE_DIRECTIONS),
            count.decided,
            count.answered,
            count.talk_s,
            count.talks,
            count.wait_s,
            count.waits,
        ]
        for count in counts
    ]


def follow_row(site: ui.Site, by: CallDimension, row: str) -> None:
    """List the calls of a row of the breakdown."""
    if by not in ("hour", "day"):
        follow({by: row})
        return
    start = datetime.fromisoformat(row)
    end = interval_edges(start, start + timedelta(days=2), site.zone, "day" if by == "day" else "hour")[1]
    follow({"from": str(int(start.timestamp())), "until": str(int(end.timestamp()))})


def show_figures(site: ui.Site, period: Period, question: CallQuestion) -> None:
    """Draw everything below the filters, or an empty state if the period has no calls."""
    with reading(site.engine) as session:
        covered = call_coverage(session, site.active.id, period.since, period.seen_until)
        now = call_totals(session, question)
        if not now.calls:
            no_history("No calls in this period", "query_stats", what="the PBX’s calls", source="cdr")
            return
        times = call_counts(session, question, site.zone, period.step)
        cells = call_heat_map(session, question, site.zone, (*covered.gaps, (period.seen_until, period.until)))
        named = {
            by: call_counts(session, question, site.zone, by, CHART_BARS + 1) for by in ("number", "did", "disposition")
        }
        previous = compared(session, site, period, call_coverage)
        before = None
        if previous:
            before = call_totals(session, replace(question, since=previous.since, until=previous.until))
    coverage_notes(site, period, covered, "Before that, only recorded calls are shown.")
    show_tiles(now, before)
    show_time(site, period, times, covered.gaps)
    show_week(site, period, cells)
    left, right = st.columns(2, gap="medium")
    with left:
        show_names(site, period, "number", "Unknown", "External numbers with the most calls", named["number"])
    with right:
        show_names(
            site, period, "did", "", "Numbers called by outside callers", [one for one in named["did"] if one.label]
        )
        show_names(site, period, "disposition", DISPOSITIONS[""], "Calls by outcome", named["disposition"])
    ui.note("Hover over a bar or a square to see its figures. Click it to list its calls below.")
    with drilldown_list("calls_list"):
        st.subheader("Calls", anchor=False)
        show_drilldown(site, CALLS, CallQuery(question), period)
    show_breakdown(site, question)


ui.head("Explore", "Calls by time, number, queue, agent and outcome")
site = ui.site()
with shared_reading(site.engine):
    bar = period_bar(site)
    show_figures(site, bar, call_question(bar, choose_direction()))
