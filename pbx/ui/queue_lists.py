"""The lists below the queue charts: calls, abandoned calls, queues, numbers called, agents, repeat callers."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import streamlit as st

from pbx.analytics.agents import agent_figures
from pbx.analytics.formulas.agents import AgentFigures
from pbx.analytics.formulas.queues import QueueFigures
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import FigureFilter, Selection, VisitDimension, figures_by, queue_targets
from pbx.analytics.visit_lists import (
    AbandonedCall,
    abandoned_calls,
    answering_call,
    callbacks,
    repeated_callers,
    transfer_targets,
)
from pbx.charts.queues import SERVICE_LEVELS
from pbx.export.tables import CellValue
from pbx.formatting import NOTHING, ago_text, count_text, duration_text
from pbx.store.engine import reading
from pbx.ui.active_pbx import Site
from pbx.ui.drilldown import drilldown_from_url, follow, list_heading, open_call, scroll_to, was_clicked
from pbx.ui.drilldown_rows import VISITS, caller_cell, transfer_text
from pbx.ui.exports import MAX_EXPORTED_ROWS, table_export
from pbx.ui.filters import IN_URL
from pbx.ui.links import CALL_PAGE, go_to_page
from pbx.ui.page_elements import note, show_errors
from pbx.ui.pager import pager
from pbx.ui.period_bar import Period
from pbx.ui.table import TableCell, table
from pbx.ui.tiles import figure_tile, figure_tiles

CALLS = "Calls"
MAX_ROWS = 50
PAGE_ROWS = 12
CALLBACK_PREFIX = "back "  # before the id of a picked row: open the call that called the caller back, not the row's own


@st.fragment  # so that a change of list or page doesn't redraw the charts
@show_errors
def show_lists(site: Site, period: Period) -> None:
    """The lists as tabs, each of the selected calls; a click on a chart opens the first."""
    lists: dict[str, Callable[[Site, FigureFilter, str], None]] = {
        CALLS: VISITS.show,
        "Abandoned": show_abandoned,
        "By queue": partial(_show_by, by="queue", label="Queue"),
        "By number called": partial(_show_by, by="did", label="Number called"),
        "Agents": show_agents,
        "Repeat callers": show_repeated,
        "Transfers": show_transfers,
    }
    clicked = was_clicked()
    if clicked:
        st.session_state["list"] = CALLS
    query, selection = VISITS.select(period.wanted, period)
    with st.container(key="queue_lists"):
        for tab, show in zip(
            st.tabs(list(lists), key="list", on_change="rerun", **IN_URL), lists.values(), strict=True
        ):
            if tab.open:
                with tab:
                    show(site, query, selection)
    if clicked:
        scroll_to("queue_lists")


def _of(ratio: Ratio, text: str | None = None) -> TableCell:
    return {"text": text or ratio.percent_text(), "sub": ratio.parts_text() if ratio.denominator else ""}


def _show_by(site: Site, query: FigureFilter, selection: str, by: VisitDimension, label: str) -> None:
    with reading(site.engine) as session:
        targets = queue_targets(session, site.active.id)
        found = figures_by(session, query, by, targets)
    columns = [label, "Offered>", "Answered>", "Abandoned>", *(f"{name}>" for name in SERVICE_LEVELS)]
    columns += ["Speed of answer>", "Average agent talk time>", "Longest wait>"]
    rows: dict[str, list[TableCell]] = {
        name or " ": [
            {"text": name or "Unknown", "sub": f"target {targets.of(name):g} s" if by == "queue" else ""},
            f"{of.offered:,}",
            {"text": f"{of.answered:,}", "sub": of.answer_rate.percent_text()},
            {"text": f"{of.abandoned:,}", "sub": of.abandon_rate.percent_text()},
            *(_of(of.sl_answered), _of(of.sl_inclusive), _of(of.sl_offered)),
            of.asa.duration_text(),
            of.att.duration_text(),
            duration_text(of.max_wait_s),
        ]
        for name, of in list(found.items())[:MAX_ROWS]
    }
    exported = [
        *(label, "Offered", "Answered", "Abandoned", "Answered within target"),
        *(f"{name} (%)" for name in SERVICE_LEVELS),
        *("Speed of answer (s)", "Average agent talk time (s)", "Longest wait (s)"),
    ]
    with list_heading(f"{count_text(len(found), label.lower())}, most calls first", selection):
        table_export(site, f"Queues by {by}", exported, lambda: [_figures(*item) for item in found.items()], key="by")
    picked = table(f"By {label.lower()}", columns, rows, key=f"by_{by}", pick=True)
    if picked is not None:
        follow(drilldown_from_url(), **{by: picked.strip()})


def _figures(name: str, of: QueueFigures) -> Sequence[CellValue]:
    return (
        *(name, of.offered, of.answered, of.abandoned, of.answered_within_t, of.sl_answered.percent),
        *(of.sl_inclusive.percent, of.sl_offered.percent, of.asa.value, of.att.value, of.max_wait_s),
    )


def show_agents(site: Site, query: FigureFilter, selection: str) -> None:
    """The agents of the selected calls: calls taken and missed, talk, time logged in."""
    with reading(site.engine) as session:
        found = agent_figures(session, query)
    if not found:
        with list_heading("No agent was logged in, was rung or took a call", selection):
            return
    columns = ["Agent", "Calls taken>", "Agent talk time>", "Average agent talk time>", "Missed rings>"]
    columns += ["Logged in>", "Paused>", "Occupancy>"]
    exported = ["Agent", "Calls taken", "Agent talk time (s)", "Average agent talk time (s)", "Missed rings"]
    exported += ["Logged in (s)", "Paused (s)", "Occupancy (%)"]
    with list_heading(f"{count_text(len(found), 'agent')}, most calls first", selection):
        table_export(
            *(site, "Queue agents", exported),
            lambda: [_agent_values(a) for a in found],
            key="agents",
        )
    if query.chosen != Selection():
        note("Missed rings, times logged in and pauses are not limited to the selected calls.")
    picked = table(
        "Agents", columns, {agent.agent: _agent_cells(agent) for agent in found[:MAX_ROWS]}, key="agents", pick=True
    )
    if picked is not None:
        follow(drilldown_from_url(), agent=picked)


def _agent_cells(agent: AgentFigures) -> list[TableCell]:
    return [
        agent.agent,
        f"{agent.calls:,}",
        duration_text(agent.talk_s),
        agent.att.duration_text(),
        {"text": f"{agent.non_response:,}", "sub": agent.non_response_rate.percent_text()},
        duration_text(agent.logged_in_s),
        duration_text(agent.paused_s),
        agent.occupancy.percent_text(),
    ]


def _agent_values(agent: AgentFigures) -> Sequence[CellValue]:
    return (
        *(agent.agent, agent.calls, agent.talk_s, agent.att.value, agent.non_response),
        *(agent.logged_in_s, agent.paused_s, agent.occupancy.percent),
    )


def show_abandoned(site: Site, query: FigureFilter, selection: str) -> None:
    """Abandoned calls, and whether their callers have been called back."""
    owed_only = st.toggle("Only callbacks owed", key="owed", **IN_URL)
    with reading(site.engine) as session:
        owed = callbacks(session, query)
    if not owed.abandoned:
        with list_heading("No abandoned calls", selection):
            return
    with figure_tiles("callbacks"):
        figure_tile(
            "Abandoned calls",
            owed.abandoned,
            kind="count",
            definition="Calls whose caller hung up before an agent answered.",
        )
        figure_tile(
            "Callers who abandoned",
            owed.callers,
            kind="count",
            definition="Different caller numbers of abandoned calls.",
        )
        figure_tile(
            *("Callbacks owed", owed.owed),
            kind="count",
            definition="Callers with no answered call from or to their number since their last abandoned call.",
            about=f"{owed.owed_share.percent_text()} of callers who abandoned",
        )
        figure_tile(
            *("Time to call back", owed.time_to_call_back),
            kind="duration",
            definition="Average time from an abandoned call to the next answered call from or to the same number.",
        )
    total = owed.abandoned
    with reading(site.engine) as session:
        if owed_only:
            total = len(abandoned_calls(session, query, offset=0, limit=MAX_EXPORTED_ROWS, owed_only=True))
        with list_heading(f"{count_text(total, 'abandoned call')}, newest first", selection):
            columns = (
                *("Joined", "Caller", "Caller name", "Queue", "Wait time (s)"),
                *("Called back", "Called back after (s)"),
            )
            made = partial(_abandoned_values, site, query, owed_only)
            table_export(site, "Abandoned calls", columns, made, key="abandoned", total=total)
        table_area = st.container()
        offset = pager(total, PAGE_ROWS, of=f"{query} abandoned {owed_only}")
        found = abandoned_calls(session, query, offset=offset, limit=PAGE_ROWS, owed_only=owed_only)
    by_id = {str(item.visit.visit_id): item for item in found}
    rows = {visit: _abandoned_cells(site, item) for visit, item in by_id.items()}
    with table_area:
        picked = table(
            "Abandoned calls",
            ("Joined|", "Caller", "Queue|", "Wait time>", "Callback"),
            rows,
            key="abandoned",
            pick=True,
        )
    if picked and picked.startswith(CALLBACK_PREFIX):
        with reading(site.engine) as session:
            open_call(answering_call(session, site.active.id, by_id[picked.removeprefix(CALLBACK_PREFIX)]))
    elif picked:
        open_call(by_id[picked].visit.call_id)


def _abandoned_cells(site: Site, item: AbandonedCall) -> list[TableCell]:
    back: TableCell
    if item.reached_at is not None:
        back = {
            "text": f"Called back after {duration_text(item.time_to_call_back_s or 0)}",
            "tone": "good",
            "sub": site.local(item.reached_at),
            "pick": f"{CALLBACK_PREFIX}{item.visit.visit_id}",
        }
    elif item.can_be_called:
        since = ago_text(item.visit.joined_at, datetime.now(UTC))
        back = {"text": "Owed", "tone": "bad", "sub": f"abandoned {since}"}
    else:
        back = {"text": "No number to call", "tone": "idle"}
    return [
        site.local(item.visit.joined_at, seconds=True),
        caller_cell(item.visit),
        item.visit.queue,
        duration_text(item.visit.wait_s),
        back,
    ]


def _abandoned_values(site: Site, query: FigureFilter, owed_only: bool) -> list[Sequence[CellValue]]:
    with reading(site.engine) as session:
        found = abandoned_calls(session, query, offset=0, limit=MAX_EXPORTED_ROWS, owed_only=owed_only)
    return [
        (
            *(item.visit.joined_at, item.visit.caller, item.visit.caller_name, item.visit.queue, item.visit.wait_s),
            *(item.reached_at, item.time_to_call_back_s),
        )
        for item in found
    ]


def show_repeated(site: Site, query: FigureFilter, selection: str) -> None:
    """Callers with two or more calls."""
    with reading(site.engine) as session:
        found = repeated_callers(session, query, MAX_ROWS)
    if not found:
        with list_heading("No caller called more than once in this period", selection):
            return
    rows: dict[str, list[TableCell]] = {
        item.caller: [
            {"text": item.caller_name or item.caller, "sub": item.caller if item.caller_name else ""},
            f"{item.visits:,}",
            f"{item.answered:,}",
            f"{item.abandoned:,}",
            site.local(item.first_at),
            site.local(item.last_at),
        ]
        for item in found
    }
    columns = ("Caller", "Calls>", "Answered>", "Abandoned>", "First call|", "Last call|")
    counted = f"{count_text(len(found), 'number')} with two or more calls, most calls first"
    with list_heading(f"Top {counted}" if len(found) == MAX_ROWS else counted, selection):
        values: list[Sequence[CellValue]] = [
            (item.caller, item.caller_name, item.visits, item.answered, item.abandoned, item.first_at, item.last_at)
            for item in found
        ]
        names = ("Caller", "Caller name", "Calls", "Answered", "Abandoned", "First call", "Last call")
        table_export(site, "Repeat callers", names, lambda: values, key="repeated")
    if picked := table("Repeat callers", columns, rows, key="repeated", pick=True):
        go_to_page(CALL_PAGE, {"number": picked})


def show_transfers(site: Site, query: FigureFilter, selection: str) -> None:
    """Where agents transferred calls to."""
    with reading(site.engine) as session:
        found = transfer_targets(session, query, MAX_ROWS)
    if not found:
        with list_heading("No transferred calls", selection):
            return
    total = sum(count for _, count in found)
    rows: Mapping[str, list[TableCell]] = {
        str(number): [transfer_text(target) or NOTHING, f"{count:,}", Ratio(count, total).percent_text()]
        for number, (target, count) in enumerate(found)
    }
    exported = [(transfer_text(target), count) for target, count in found]
    with list_heading(f"{count_text(total, 'transfer')} to {count_text(len(found), 'target')}", selection):
        table_export(site, "Transfers", ("Transferred to", "Calls"), lambda: exported, key="transfers")
    if picked := table("Transfers", ("Transferred to", "Calls>", "Share>"), rows, key="transfers", pick=True):
        follow(drilldown_from_url(), outcome="transferred", target=found[int(picked)][0])
