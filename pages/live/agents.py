"""Agents: calls taken and missed, time logged in, and each agent's day."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import streamlit as st

from pbx import ui
from pbx.analytics.agents import (
    AgentDay,
    agent_days,
    agent_figures,
    agent_pauses,
    agent_sessions,
    pause_reasons,
)
from pbx.analytics.coverage import queue_coverage
from pbx.analytics.formulas.agents import AgentFigures, PauseFigures
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import FigureFilter
from pbx.analytics.visit_lists import answered_visits
from pbx.charts.calls import ActivitySpan, NamedValue, agent_days_chart, named_alt, named_bars
from pbx.charts.layout import NOT_OBSERVED
from pbx.export.tables import CellValue as Exported
from pbx.formatting import count_text, date_text, duration_text
from pbx.store.engine import reading, shared_reading
from pbx.ui.coverage import compared, coverage_notes
from pbx.ui.drilldown import clear_selection, drilldown_chart, drilldown_list, no_history, show_drilldown
from pbx.ui.drilldown_rows import AGENT_CALLS
from pbx.ui.pager import pager
from pbx.ui.period_bar import Period, period_bar
from pbx.ui.tiles import Better, FigureKind, FigureValue, figure_tile, figure_tiles, value_text

PAGE_ROWS = 12
MOST_DAYS = 35  # more rows would be too thin
NO_REASON = "No reason given"
COLUMNS = (
    "Agent",
    "Calls taken>",
    "Average agent talk time>",
    "Missed ring rate>",
    "Logged in>",
    "Paused>",
    "Occupancy>",
)
EXPORTED = (
    *("Agent", "Calls taken", "Agent talk time (s)", "Calls with known talk time"),
    *(
        "Missed rings",
        "Missed ring time (s)",
        "Logged in (s)",
        "Paused (s)",
        "Sessions",
        "Occupancy (%)",
        "Pauses by reason",
    ),
)
DAY_COLUMNS = ("Day", "First in>", "Last out>", "Logged in>", "Paused>")
DEFINITIONS = (
    "Missed ring rate: rings not answered ÷ all rings. Paused: while logged in. "
    "Occupancy: talk time ÷ (logged in − paused), n/a without a recorded login."
)


def share_cell(ratio: Ratio) -> ui.TableCell:
    """A share, with what it is made of below it."""
    return {"text": ratio.percent_text(), "sub": ratio.parts_text() if ratio.value is not None else ""}


def reasons_text(pauses: dict[str, PauseFigures]) -> str:
    """Pauses by reason, the longest first: Lunch 1 h 2 min (2)."""
    longest = sorted(pauses.items(), key=lambda item: -item[1].paused_s)
    return ", ".join(f"{name or NO_REASON} {duration_text(one.paused_s)} ({one.count})" for name, one in longest)


def occupancy_cell(agent: AgentFigures) -> ui.TableCell:
    occupancy = agent.occupancy
    if occupancy.value is None:
        return {"text": "n/a", "sub": "no login recorded" if agent.logged_in_s is None else ""}
    return {
        "text": occupancy.percent_text(),
        "sub": f"{duration_text(occupancy.numerator)} of {duration_text(occupancy.denominator)}",
    }


def agent_cells(agent: AgentFigures) -> list[ui.TableCell]:
    pauses = sum(one.count for one in agent.pauses.values())
    has_login = agent.logged_in_s is not None
    return [
        agent.agent,
        {"text": f"{agent.calls:,}", "sub": f"talk {duration_text(agent.talk_s)}" if agent.talks else ""},
        agent.att.duration_text(),
        share_cell(agent.non_response_rate),
        {"text": duration_text(agent.logged_in_s), "sub": count_text(agent.sessions, "session") if has_login else ""},
        {"text": duration_text(agent.paused_s), "sub": count_text(pauses, "pause") if pauses else ""},
        occupancy_cell(agent),
    ]


def exported(agents: Sequence[AgentFigures]) -> list[list[Exported]]:
    return [
        [
            *(one.agent, one.calls, one.talk_s, one.talks, one.non_response, one.missed_ring_s, one.logged_in_s),
            *(one.paused_s, one.sessions, one.occupancy.percent, reasons_text(dict(one.pauses))),
        ]
        for one in agents
    ]


def show_totals(
    now: Sequence[AgentFigures], before: Sequence[AgentFigures] | None, team: Sequence[AgentFigures] | None = None
) -> None:
    """The figures of these agents together, compared with the previous period and with the team, if given."""

    def total(agents: Sequence[AgentFigures]) -> AgentFigures:
        with_login = [one for one in agents if one.logged_in_s]
        return AgentFigures(
            "",
            sum(one.calls for one in agents),
            sum(one.talk_s for one in agents),
            sum(one.talks for one in agents),
            sum(one.non_response for one in agents),
            logged_in_s=sum(one.logged_in_s or 0.0 for one in with_login),
            paused_s=sum(one.paused_s for one in with_login),
        )

    def occupancy(agents: Sequence[AgentFigures]) -> Ratio:
        with_login = [one for one in agents if one.logged_in_s]
        return Ratio(
            sum(one.talk_s for one in with_login), sum((one.logged_in_s or 0.0) - one.paused_s for one in with_login)
        )

    def paused(agents: Sequence[AgentFigures]) -> Ratio:
        return Ratio(total(agents).paused_s, total(agents).logged_in_s or 0.0)

    def tile(
        label: str,
        value: Callable[[Sequence[AgentFigures]], FigureValue],
        kind: FigureKind,
        definition: str,
        better: Better = "",
    ) -> None:
        about = f"All agents: {value_text(value(team), kind)}" if team else ""
        then = None if before is None else value(before)
        figure_tile(label, value(now), then, kind=kind, definition=definition, better=better, about=about)

    with figure_tiles("agents"):
        if team is None:
            tile("Agents", len, "count", "Agents who were logged in, were rung or took a call.")
        tile("Calls taken", lambda agents: total(agents).calls, "count", "Queue calls that agents answered.")
        talk = "Time from an agent’s answer to the end of the call ÷ calls taken that have ended."
        tile("Average agent talk time", lambda agents: total(agents).att, "duration", talk)
        missed = "Rings that the agent didn’t answer ÷ all rings that have ended."
        tile("Missed ring rate", lambda agents: total(agents).non_response_rate, "percent", missed, "down")
        tile("Paused (of time logged in)", paused, "percent", "Time paused ÷ time logged in.")
        busy = "Talk time ÷ (time logged in − time paused), for agents with a recorded login."
        tile("Occupancy", occupancy, "percent", busy)


def show_agents(site: ui.Site, agents: Sequence[AgentFigures], selected: str) -> None:
    table_area = st.container()
    before = pager(len(agents), PAGE_ROWS, of="agents")
    rows = {one.agent: agent_cells(one) for one in agents[before:][:PAGE_ROWS]}
    with table_area:
        picked = ui.table("Agents", COLUMNS, rows, key="agents", selected=selected, pick=True)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        ui.note(f"{count_text(len(agents), 'agent')}. {DEFINITIONS}")
        ui.table_export(site, "Agents", EXPORTED, lambda: exported(agents), key="agents")
    if picked and picked != selected:
        clear_selection()
        st.query_params["agent"] = picked
        st.rerun()


def show_reasons(site: ui.Site, wanted: FigureFilter) -> None:
    with reading(site.engine) as session:
        reasons = pause_reasons(session, wanted)
    if not reasons:
        return
    bars = [
        NamedValue(
            name,
            name or NO_REASON,
            one.paused_s,
            f"{name or NO_REASON}: {duration_text(one.paused_s)} in {count_text(one.count, 'pause')}",
        )
        for name, one in reasons.items()
    ]
    title = "Pauses by reason"
    figure = named_bars(bars, title=title, unit="Time paused", palette=ui.palette(), zone=site.zone, durations=True)
    picture = ui.picture_name(f"{title} {wanted.agent or ''}", wanted.since, wanted.until, site.zone)
    ui.chart(figure, alt=named_alt(title, bars, durations=True), key="pause_reasons", picture=picture)


def activity_spans(site: ui.Site, wanted: FigureFilter) -> list[ActivitySpan]:
    """An agent's sessions, pauses and calls, and the gaps in the data."""
    with reading(site.engine) as session:
        gaps = queue_coverage(session, site.active.id, wanted.since, min(wanted.until, datetime.now(UTC))).gaps
        found = [ActivitySpan(NOT_OBSERVED, start, end) for start, end in gaps]
        found += [ActivitySpan("Logged in", one.from_at, one.until_at) for one in agent_sessions(session, wanted)]
        found += [
            ActivitySpan("Paused", one.from_at, one.until_at, one.reason) for one in agent_pauses(session, wanted)
        ]
        talks = answered_visits(session, wanted)
    for talk in talks:
        calls_joined = (talk.joined_at, talk.joined_at + timedelta(seconds=1))
        found.append(ActivitySpan("On a call", talk.start_at, talk.end_at, f"queue {talk.queue}", calls_joined))
    return found


def days_of(period: Period) -> list[date]:
    """The local days of the period so far, the newest first."""
    last = (period.seen_until - timedelta(seconds=1)).astimezone(period.zone).date()
    first = period.since.astimezone(period.zone).date()
    return [last - timedelta(days=back) for back in range((last - first).days + 1)]


def show_days(site: ui.Site, days: Sequence[AgentDay]) -> None:
    if not days:
        ui.note("No login of this agent was recorded in this period.")
        return
    rows: dict[str, list[ui.TableCell]] = {
        day.day_at.isoformat(): [
            date_text(day.day_at.astimezone(site.zone), "%a %-d %b"),
            f"{day.first_in_at.astimezone(site.zone):%H:%M}",
            f"{day.last_out_at.astimezone(site.zone):%H:%M}",
            duration_text(day.logged_in_s),
            duration_text(day.paused_s),
        ]
        for day in reversed(days)
    }
    ui.table("Days", DAY_COLUMNS, rows, key="agent_days")
    names = ("Day", "First in", "Last out", "Logged in (s)", "Paused (s)")
    values: list[list[Exported]] = [
        [day.day_at, day.first_in_at, day.last_out_at, day.logged_in_s, day.paused_s] for day in days
    ]
    ui.table_export(site, f"Days of {days[0].agent}", names, lambda: values, key="agent_days")


def close_agent() -> None:
    st.query_params.pop("agent", None)
    clear_selection()


def show_name(name: str) -> None:
    """The agent's name with a button that goes back to all agents."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(ui.plain(name), anchor=False, width="content")
        st.button("All agents", icon=":material/arrow_back:", type="tertiary", on_click=close_agent, key="close_agent")


def show_agent(site: ui.Site, period: Period, agent: AgentFigures) -> None:
    """The days of one agent, and the calls they took."""
    wanted = FigureFilter(period.connection_id, period.since, period.until, period.queue, agent.agent)
    days = days_of(period)
    if len(days) > MOST_DAYS:
        ui.note(f"The last {MOST_DAYS} days are shown. Choose another period to see earlier days.")
    spans = activity_spans(site, wanted)
    title = f"Days of {agent.agent} ({site.zone_name})"
    figure = agent_days_chart(
        spans, days[:MOST_DAYS], title="Activity by time of day", zone=site.zone, palette=ui.palette()
    )
    counts = f"{count_text(agent.sessions, 'session')}, {count_text(agent.calls, 'call')}"
    alt = f"{title}: {counts} over {count_text(len(days), 'day')}."
    drilldown_chart(figure, alt=alt, key="agent_timeline", picture=period.picture(f"days of {agent.agent}"))
    ui.note("Click a call, a pause or a session to list the calls taken in that time.")
    left, right = st.columns(2, gap="medium")
    with left, reading(site.engine) as session:
        show_days(site, agent_days(session, wanted, site.zone))
        show_reasons(site, wanted)
    with right, drilldown_list("agent_calls_list"):
        st.subheader("Calls taken", anchor=False)
        show_drilldown(site, AGENT_CALLS, wanted, period)


ui.head("Agents", "Calls taken and missed, time logged in, and each agent’s day")
site = ui.site()
with shared_reading(site.engine):
    bar = period_bar(site)
    with reading(site.engine) as reader:
        figures = agent_figures(reader, bar.wanted)
        covered = queue_coverage(reader, bar.connection_id, bar.since, bar.seen_until)
        before = compared(reader, site, bar, queue_coverage) if figures else None
        figures_before = agent_figures(reader, before) if before else None
    if figures:
        coverage_notes(site, bar, covered)
        selected = st.query_params.get("agent", "")
        chosen = next((one for one in figures if one.agent == selected), None)
        if selected:
            show_name(selected)
        if chosen:
            of_before = None if figures_before is None else [one for one in figures_before if one.agent == selected]
            show_totals([chosen], of_before, figures)
            show_agent(site, bar, chosen)
            st.subheader("All agents", anchor=False)
        elif selected:
            ui.note("This agent has no calls, rings or logins in this period and queue.")
            st.subheader("All agents", anchor=False)
        if not chosen:
            show_totals(figures, figures_before)
        show_agents(site, figures, selected)
        if not selected:
            ui.note("Click an agent to see their days and calls.")
            show_reasons(site, bar.wanted)
    else:
        no_history("No agent was seen in this period", "support_agent", what="what agents did", source="queue-log")
