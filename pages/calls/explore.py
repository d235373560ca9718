"""Explore: how many calls there were, when, with whom, and how they went."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast, get_args
from urllib.parse import urlencode

import streamlit as st

from pbx import ui
from pbx.analytics.calls import CallCount, CallDimension, CallQuestion, call_counts, call_heat_map, call_totals
from pbx.analytics.coverage import call_coverage
from pbx.analytics.formulas.intervals import interval_edges
from pbx.analytics.formulas.ratio import Ratio
from pbx.charts.calls import Named, named_alt, named_bars, way_alt, way_bars
from pbx.charts.frame import UnobservedSpan
from pbx.charts.heat import WEEKDAYS, week_heat
from pbx.export.tables import CellValue
from pbx.formatting import DIRECTIONS, DISPOSITIONS, count_text, duration_text
from pbx.model.folding import CallDirection
from pbx.store.engine import holding, reading
from pbx.ui.coverage import compared, say_coverage
from pbx.ui.drilldown import drilldown_chart, drilldown_list, follow, no_history, show_drilldown
from pbx.ui.drilldown_rows import CALLS, CallQuery
from pbx.ui.filters import ALL, IN_URL
from pbx.ui.period_bar import Period, period_bar
from pbx.ui.tiles import figure_tile, figure_tiles

TOP = 10
TABLE_ROWS = 50
MOST_NAMES = 10_000  # of an export
WAYS = ("inbound", "outbound", "internal")
EXPORTED = (
    *("By", "Calls", "Inbound", "Outbound", "Internal", "Outcome known", "Answered"),
    *("Talk (s)", "Talks", "Wait (s)", "Waits"),
)
HEAT_CELLS = "Calls by weekday and hour"
BREAKDOWNS: dict[str, tuple[CallDimension, str]] = {  # what is said: how it is counted, the name of those without
    "Direction": ("direction", "Unknown"),
    "Outcome": ("disposition", "Not known"),
    "Number": ("number", "Unknown"),
    "Dialled number": ("did", "None"),
    "Queue": ("queue", "No queue"),
    "Agent": ("agent", "No agent"),
    "Day": ("day", ""),
    "Hour": ("hour", ""),
}
ANSWER_RATE = (
    "Answered calls / calls whose outcome is known. With one queue selected: calls an agent answered in that queue."
)
TALK = "Talk time of the answered calls / how many they are. It begins when a queue or menu answers."
WAIT = "From the beginning of a call until somebody answered / calls of which this is known."


def question(period: Period, direction: CallDirection | None) -> CallQuestion:
    return CallQuestion(period.connection_id, period.since, period.until, direction, period.queue)


def choose_direction() -> CallDirection | None:
    names = [ALL, *get_args(CallDirection)]
    kept: dict[str, Any] = {"persist_state": "page", **IN_URL}
    chosen = st.segmented_control(
        "Direction",
        names[:4],
        default=ALL,
        required=True,
        key="direction",
        format_func=str.capitalize,  # as in the filter of Interactions: the address holds what is said
        label_visibility="collapsed",
        **kept,
    )
    return None if chosen in (None, ALL) else cast(CallDirection, chosen)


def show_tiles(now: CallCount, before: CallCount | None) -> None:
    """The headline figures, beside those of the period before, if anything is known of it."""
    with figure_tiles("calls"):
        total = before.calls if before else None
        figure_tile("Calls", now.calls, total, kind="count", definition="Calls that began in the period.")
        for way in ("inbound", "outbound") if len(now.by_direction) > 1 else ():
            mine, then = now.by_direction.get(way, 0), before.by_direction.get(way, 0) if before else None
            definition = f"Calls of direction {way}: {count_text(mine, 'call')} of {now.calls:,}."
            figure_tile(way.capitalize(), mine, then, kind="count", definition=definition)
        rates = (now.answer_rate, before.answer_rate if before else None)
        figure_tile("Answered", *rates, kind="percent", definition=ANSWER_RATE, better="up")
        talks = (now.acd, before.acd if before else None)
        figure_tile("Average talk", *talks, kind="duration", definition=TALK)
        waits = (now.mean_wait, before.mean_wait if before else None)
        figure_tile("Average wait", *waits, kind="duration", definition=WAIT, better="down")


def show_time(site: ui.Site, period: Period, counts: Sequence[CallCount], gaps: Sequence[UnobservedSpan]) -> None:
    starts = [count.start_at for count in counts if count.start_at]
    ends = [*starts[1:], period.until]
    rows = [(start, end, count.by_direction) for start, end, count in zip(starts, ends, counts, strict=True)]
    title = f"Calls by {period.step}"
    figure = way_bars(
        rows,
        gaps,
        title=title,
        step=period.step,
        span=(period.since, period.until),
        zone=site.zone,
        palette=ui.palette(),
        now=period.now,
    )
    drilldown_chart(figure, alt=way_alt(title, rows, site.zone), key="calls_by_time", picture=period.picture(title))


def show_week(site: ui.Site, period: Period, cells: list[list[int | None]]) -> None:
    said = [
        [
            f"{WEEKDAYS[day]} {hour:02}:00 – {hour + 1:02}:00: {count_text(n or 0, 'call')}"
            for hour, n in enumerate(hours)
        ]
        for day, hours in enumerate(cells)
    ]
    busiest = max((n or 0, day, hour) for day, hours in enumerate(cells) for hour, n in enumerate(hours))
    alt = f"{HEAT_CELLS}: most on {WEEKDAYS[busiest[1]]} at {busiest[2]:02}:00 with {busiest[0]:,}."
    figure = week_heat(cells, said, title=HEAT_CELLS, zone=site.zone, palette=ui.palette())
    drilldown_chart(figure, alt=alt, key="calls_by_week", picture=period.picture(HEAT_CELLS))


def said_name(by: CallDimension, name: str, nameless: str) -> str:
    words = {"direction": DIRECTIONS, "disposition": DISPOSITIONS}.get(by, {})
    return words.get(name, name) or nameless


def show_names(
    site: ui.Site, period: Period, by: CallDimension, nameless: str, title: str, counts: Sequence[CallCount]
) -> None:
    bars = [
        Named(
            urlencode({str(by): count.label}),
            said_name(by, count.label, nameless),
            count.calls,
            f"{said_name(by, count.label, nameless)}: {count_text(count.calls, 'call')}, "
            f"answered {count.answer_rate.percent_text()} ({count.answer_rate.parts_text()}), "
            f"average talk {count.acd.duration_text()}",
        )
        for count in counts[:TOP]
    ]
    figure = named_bars(bars, title=title, unit="Calls", palette=ui.palette(), zone=site.zone)
    drilldown_chart(figure, alt=named_alt(title, bars), key=f"calls_by_{by}", picture=period.picture(title))


@st.fragment
@ui.show_errors
def show_table(site: ui.Site, wanted: CallQuestion) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("All figures", anchor=False, width="content")
        kept: dict[str, Any] = {"persist_state": "page", **IN_URL}
        name = st.segmented_control(
            "By",
            list(BREAKDOWNS),
            default="Direction",
            required=True,
            key="by",
            label_visibility="collapsed",
            **kept,
        )
    by, nameless = BREAKDOWNS[name or "Direction"]
    with reading(site.engine) as session:
        limit = None if by in ("hour", "day") else MOST_NAMES
        counts = [count for count in call_counts(session, wanted, site.zone, by, limit) if count.calls]
    ways = () if by == "direction" else WAYS
    rows: dict[str, list[ui.TableCell]] = {}
    for count in counts[:TABLE_ROWS]:
        rows[count.start_at.isoformat() if count.start_at else count.label] = [
            interval_text(site, by, count.start_at) if count.start_at else said_name(by, count.label, nameless),
            f"{count.calls:,}",
            *(f"{count.by_direction.get(way, 0):,}" for way in ways),
            {"text": count.answer_rate.percent_text(), "sub": count.answer_rate.parts_text()},
            {"text": count.acd.duration_text(), "sub": parts_of(count.acd)},
            {"text": count.mean_wait.duration_text(), "sub": parts_of(count.mean_wait)},
        ]
    columns = [f"{name}|", "Calls>", *(f"{way.capitalize()}>" for way in ways)]
    columns += ["Answered>", "Average talk>", "Average wait>"]
    chosen = ui.table(f"Calls by {name}", columns, rows, key="figures_table", pick=True)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        of = f"the {limit:,} most frequent" if len(counts) == limit else f"{len(counts):,}"
        shown = f"The first {TABLE_ROWS} of {of}; the export has them all. " if counts[TABLE_ROWS:] else ""
        several = "A call counts in every queue it entered. " if by == "queue" else ""
        ui.note(f"{shown}{several}Answered: of calls whose outcome is known. Below each mean: its sum and count.")
        ui.table_export(site, f"Calls by {name}", EXPORTED, lambda: export_rows(by, nameless, counts), key="all")
    if chosen is not None:
        follow_row(site, by, chosen)


def interval_text(site: ui.Site, by: CallDimension, start: datetime) -> str:
    local = start.astimezone(site.zone)
    return f"{local:%a} {local.day} {local:%b %Y}" + (f", {local:%H:%M}" if by == "hour" else "")


def parts_of(mean: Ratio) -> str:
    """What a mean of seconds was made of."""
    return f"{duration_text(mean.numerator)} / {mean.denominator:,.0f}" if mean.denominator else ""


def export_rows(by: CallDimension, nameless: str, counts: Sequence[CallCount]) -> list[list[CellValue]]:
    return [
        [
            count.start_at or said_name(by, count.label, nameless),
            count.calls,
            *(count.by_direction.get(way, 0) for way in WAYS),
            count.told,
            count.answered,
            count.talk_s,
            count.talks,
            count.wait_s,
            count.waits,
        ]
        for count in counts
    ]


def follow_row(site: ui.Site, by: CallDimension, row: str) -> None:
    """Show the calls of a row of the table."""
    if by not in ("hour", "day"):
        follow({by: row})
        return
    start = datetime.fromisoformat(row)
    end = interval_edges(start, start + timedelta(days=2), site.zone, "day" if by == "day" else "hour")[1]
    follow({"from": str(int(start.timestamp())), "until": str(int(end.timestamp()))})


def show_figures(site: ui.Site, period: Period, wanted: CallQuestion) -> None:
    with reading(site.engine) as session:
        covered = call_coverage(session, site.active.id, period.since, period.seen_until)
        now = call_totals(session, wanted)
        if not now.calls:
            no_history("No calls are known in this period", "query_stats", what="the PBX’s calls", source="cdr")
            return
        times = call_counts(session, wanted, site.zone, period.step)
        cells = call_heat_map(session, wanted, site.zone, (*covered.gaps, (period.seen_until, period.until)))
        named = {by: call_counts(session, wanted, site.zone, by, TOP + 1) for by in ("number", "did", "disposition")}
        then = compared(session, site, period, call_coverage)
        before = call_totals(session, replace(wanted, since=then.since, until=then.until)) if then else None
    say_coverage(site, period, covered, "Recordings tell only of the calls recorded.")
    show_tiles(now, before)
    show_time(site, period, times, covered.gaps)
    show_week(site, period, cells)
    left, right = st.columns(2, gap="medium")
    with left:
        show_names(site, period, "number", "Unknown", "The numbers with the most calls", named["number"])
    with right:
        show_names(
            site, period, "did", "None", "The numbers dialled from outside", [one for one in named["did"] if one.label]
        )
        show_names(site, period, "disposition", "Not known", "How calls ended", named["disposition"])
    ui.note("Point at a bar or a square for its figures; click it for the calls behind it, listed below.")
    with drilldown_list("calls_list"):
        st.subheader("Calls", anchor=False)
        show_drilldown(site, CALLS, CallQuery(wanted), period)
    show_table(site, wanted)


ui.head("Explore", "How many calls, when, with whom, and how they went")
site = ui.site()
with holding(site.engine):
    bar = period_bar(site)
    show_figures(site, bar, question(bar, choose_direction()))
