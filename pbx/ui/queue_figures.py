"""Queue reports: headline figures compared with the previous period, and charts that drill down to the calls."""

import streamlit as st
from sqlmodel import Session

from pbx import charts
from pbx.analytics.coverage import Coverage, queue_coverage
from pbx.analytics.formulas.queues import QueueFigures, Targets
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import (
    heat_map,
    outcome_counts,
    queue_intervals,
    queue_targets,
    queue_totals,
    visit_names,
    wait_distribution,
)
from pbx.formatting import OUTCOMES, count_text
from pbx.store.counter_resets import resets_of
from pbx.store.engine import reading
from pbx.ui.active_pbx import DATA_IMPORT_PAGE, Site
from pbx.ui.coverage import compared, coverage_notes
from pbx.ui.drilldown import drilldown_chart
from pbx.ui.filters import IN_URL
from pbx.ui.page_elements import empty, note, palette, select_one
from pbx.ui.period_bar import Period
from pbx.ui.tiles import figure_tile, figure_tiles

GOAL_PERCENT = 80
RECORDING_HINT = (
    "The worker records queue calls while it runs, and so does python -m pbx watch. Import earlier calls from the "
    "PBX’s queue_log under Settings ▸ Data import, or with python -m pbx import queue-log."
)


def show_figures(site: Site, period: Period) -> bool:
    """Draw headline figures and charts of the period; False, with a note, if it has no queue calls."""
    with reading(site.engine) as session:  # one for all, so that the period's calls are read once
        covered = queue_coverage(session, site.active.id, period.since, period.seen_until)
        if covered.begins_at is None:
            empty("No queue calls yet", RECORDING_HINT, icon="history", link=(DATA_IMPORT_PAGE, "Import data"))
            return False
        coverage_notes(site, period, covered, RECORDING_HINT)
        targets = queue_targets(session, site.active.id)
        totals = queue_totals(session, period.wanted, targets)
        if not totals.offered:
            note("No call joined a queue in this period.")
            return False
        then = compared(session, site, period, queue_coverage)
        before = queue_totals(session, then, targets) if then else None
        target = target_text(targets, [period.queue] if period.queue else visit_names(session, period.wanted, "queue"))
        _headlines(totals, before, target)
        _charts(session, site, period, covered, targets, target)
        _week(session, site, period, covered, targets)
    return True


def target_text(targets: Targets, queues: list[str]) -> str:
    """The answer target of these queues: 20 s, or "10–30 s by queue" if they differ."""
    found = sorted({targets.of(queue) for queue in queues}) or [targets.answer_s]
    return f"{found[0]:g} s" if len(found) == 1 else f"{found[0]:g}–{found[-1]:g} s by queue"


def _headlines(now: QueueFigures, then: QueueFigures | None, target: str) -> None:
    def tile(label: str, name: str, definition: str, about: str = "", better: str = "", kind: str = "count") -> None:
        value, before = getattr(now, name), getattr(then, name) if then else None
        figure_tile(label, value, before, kind=kind, definition=definition, better=better, about=about)  # type: ignore[arg-type]

    def share(ratio: Ratio) -> str:
        return f"{ratio.percent_text()} of calls offered"

    with figure_tiles("queues"):
        tile(
            "Offered",
            "offered",
            "Calls that joined a queue. A call that joins two queues counts twice.",
            "Calls that joined a queue",
        )
        tile("Answered", "answered", "Calls that an agent answered.", share(now.answer_rate))
        tile(
            "Abandoned",
            "abandoned",
            "Calls whose caller hung up before an agent answered.",
            share(now.abandon_rate),
            "down",
        )
        tile(
            *("Speed of answer", "asa", "Average speed of answer (ASA): wait of the answered calls ÷ answered calls."),
            *("Average wait of answered calls", "down", "duration"),
        )
        tile(
            *(
                "Service level (answered calls)",
                "sl_answered",
                "Answered within target ÷ all answered calls. Target: the queue’s service level, otherwise 20 s.",
            ),
            *(f"Answered within target ({target})", "up", "percent"),
        )
        tile(
            *("Service level (answered + abandoned)", "sl_inclusive"),
            "(Answered within target + abandoned within target) ÷ (answered + abandoned).",
            *("Calls abandoned before the target time count as within target", "up", "percent"),
        )
        tile(
            *("Service level (offered calls)", "sl_offered"),
            "Answered within target ÷ (calls offered − calls abandoned in less than 5 s).",
            *("Leaves out calls abandoned in under 5 s", "up", "percent"),
        )
        tile(
            *("Longest wait", "max_wait_s", "The longest time a caller waited in a queue, abandoned calls included."),
            *("Abandoned included", "down", "duration"),
        )


def _charts(session: Session, site: Site, period: Period, covered: Coverage, targets: Targets, target: str) -> None:
    found = queue_intervals(session, period.wanted, site.zone, period.step, targets)
    waits = wait_distribution(session, period.wanted, targets)
    outcomes = outcome_counts(session, period.wanted, targets)
    intervals = [item for item in found if item.start_at < period.seen_until]
    frame = period.time_frame(covered.gaps)
    counter_resets = resets_of(session, site.active.id, period.since, period.until, period.queue)
    resets = [(reset.at, reset.description) for reset in counter_resets]
    drilldown_chart(
        charts.volume_bars(intervals, frame, resets=resets),
        alt=charts.intervals_alt("Calls offered", intervals, covered.gaps),
        key="queue_volume",
        picture=period.picture("calls offered to queues"),
    )
    with (
        st.container(horizontal_alignment="right"),
        st.popover("Set service-level goal", icon=":material/tune:", key="goal_menu"),
    ):
        goal = st.number_input("Goal (%)", 1, 100, GOAL_PERCENT, key="goal", width=160, **IN_URL)
    drilldown_chart(
        charts.service_level_lines(intervals, frame, goal_percent=goal, target=target, resets=resets),
        alt=charts.intervals_alt(f"Service level, target {target}", intervals, covered.gaps),
        key="queue_service_level",
        picture=period.picture("service level of queues"),
    )
    left, right = st.columns(2, gap="medium")
    with left:
        total = sum(bucket.answered + bucket.abandoned + bucket.other for bucket in waits)
        drilldown_chart(
            charts.wait_bars(waits, zone=site.zone, palette=frame.palette),
            alt=f"How long callers waited: {count_text(total, 'call')} in {count_text(len(waits), 'bar')}.",
            key="queue_waits",
            picture=period.picture("waiting times in queues"),
        )
    with right:
        counts = ", ".join(f"{OUTCOMES[name][0].lower()} {count:,}" for name, count in outcomes.items())
        drilldown_chart(
            charts.outcome_bars(outcomes, zone=site.zone, palette=frame.palette),
            alt=f"Calls by outcome: {counts}.",
            key="queue_outcomes",
            picture=period.picture("queue calls by outcome"),
        )


def _week(session: Session, site: Site, period: Period, covered: Coverage, targets: Targets) -> None:
    measure = select_one("Week", list(charts.MEASURES), "Offered", "week", **IN_URL)
    unknown = (*covered.gaps, (period.seen_until, period.until))
    cells = heat_map(session, period.wanted, site.zone, targets, unknown)
    drilldown_chart(
        charts.week_map(cells, measure, zone=site.zone, palette=palette()),
        alt=f"{measure} by weekday and hour of the day.",
        key="queue_week",
        picture=period.picture(f"{measure} of queues by weekday and hour"),
    )
