"""Trunk reports of a period: call success, load against capacity, and registration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlencode

import streamlit as st

from pbx.analytics.coverage import call_coverage
from pbx.analytics.formulas.erlang import blocking
from pbx.analytics.formulas.intervals import IntervalStep, next_edge
from pbx.analytics.formulas.ratio import NOT_APPLICABLE, Ratio
from pbx.analytics.formulas.trunks import CauseCount, TrunkFigures
from pbx.analytics.trunks import (
    TrunkInterval,
    busy_hour,
    by_trunk,
    cause_counts,
    trunk_intervals,
    trunk_totals,
)
from pbx.charts.calls import NamedValue, named_alt, named_bars
from pbx.charts.layout import UnobservedSpan, is_within
from pbx.charts.trunks import Point, load_chart, points_alt, ratio_chart
from pbx.export.tables import CellValue
from pbx.formatting import DISPOSITIONS, count_text
from pbx.model.hangup_causes import cause_text
from pbx.store.counter_resets import RESTARTED, resets_of
from pbx.store.engine import reading, writing
from pbx.store.trunk_capacities import set_trunk_capacity, trunk_capacities
from pbx.ui.active_pbx import Site
from pbx.ui.coverage import compared
from pbx.ui.drilldown import drilldown_chart, follow, no_history
from pbx.ui.exports import table_export
from pbx.ui.page_elements import note, palette, plain, select_one
from pbx.ui.period_bar import Period
from pbx.ui.table import TableCell, table
from pbx.ui.tiles import Better, FigureKind, figure_tile, figure_tiles

REGISTRATION_VIEW = "Registration"
VIEWS = (REGISTRATION_VIEW, "Calls", "Load")
MAX_LINES = 1000
ASR = "Answer-seizure ratio (ITU-T E.411): answered ÷ seizures. Seizures in progress are excluded."
NER = (
    "Network effectiveness ratio (ITU-T E.425): (answered + busy + no answer + rejected by the called user) ÷ seizures."
)
ACD = "Average call duration: billed time of the answered calls ÷ answered calls."
PDD = "Average post-dial delay of outbound calls: from dialling to ringing. Measured from live events only."
PEAK = "The highest number of concurrent calls, including calls that are ringing."
TRAFFIC = (
    "The average number of lines in use in the busiest hour: call time in that hour ÷ 3,600 s. The busiest hour is the "
    "clock hour with the most call time."
)
LINES = "The fewest lines that block at most 1% of the busy hour’s calls (Erlang B)."
EXPORT_COLUMNS = (
    *("Trunk", "Seizures", "In progress", "Answered", "Effective (NER)", "Outbound", "Billed (s)", "Billed calls"),
    *("Total post-dial delay (s)", "Calls with post-dial delay", "Peak concurrent calls", "Call time (s)"),
)


def show_totals(site: Site, period: Period, trunk: str | None) -> None:
    """The headline figures, compared with the previous period; nothing if there are no calls."""
    before = busy_hour_before = None
    with reading(site.engine) as session:
        now = trunk_totals(session, site.active.id, trunk, period.since, period.seen_until)
        if not now.seizures:
            return
        busiest = busy_hour(session, site.active.id, trunk, period.since, period.seen_until, site.zone)
        if then := compared(session, site, period, call_coverage):
            before = trunk_totals(session, site.active.id, trunk, then.since, then.until)
            busy_hour_before = busy_hour(session, site.active.id, trunk, then.since, then.until, site.zone)

    def tile(label: str, name: str, kind: FigureKind, definition: str, better: Better = "") -> None:
        previous = getattr(before, name) if before else None
        figure_tile(label, getattr(now, name), previous, kind=kind, definition=definition, better=better)

    with figure_tiles("trunks"):
        seized = f"Channels used on a trunk, {now.outbound:,} of them outbound; {now.open:,} in progress."
        tile("Call attempts (seizures)", "seizures", "count", seized)
        tile("Answer-seizure ratio (ASR)", "asr", "percent", ASR, "up")
        tile("Network effectiveness ratio (NER)", "ner", "percent", f"{NER} {_unsure_text(now)}", "up")
        tile("Average call duration (ACD)", "acd", "duration", ACD)
        tile("Post-dial delay (PDD)", "pdd", "seconds", PDD, "down")
        tile("Peak concurrent calls", "concurrency_peak", "count", PEAK)
        traffic, traffic_then = (found.traffic if found else None for found in (busiest, busy_hour_before))
        definition = f"{TRAFFIC} It began {_hour_text(site, busiest.start_at)}." if busiest else TRAFFIC
        figure_tile(
            "Busy hour traffic (erlangs)", traffic, traffic_then, kind="number", definition=definition, digits=2
        )
        lines, lines_then = (found.lines_needed if found else None for found in (busiest, busy_hour_before))
        figure_tile("Lines needed (1% blocking)", lines, lines_then, kind="count", definition=LINES)


def show_quality(site: Site, period: Period, trunk: str | None, trunks: Sequence[str]) -> bool:
    """ASR, NER, ACD and PDD by interval, hang-up causes, and a table of all trunks; False if there are no calls."""
    steps: dict[str, IntervalStep] = {"By day": "day", "By hour": "hour"}
    step = steps[select_one("Interval", list(steps), f"By {period.step}", f"trunk_{period.step}")]
    with reading(site.engine) as session:
        found = trunk_intervals(session, site.active.id, trunk, period.since, period.seen_until, site.zone, step)
        causes = cause_counts(session, site.active.id, trunk, period.since, period.until)
        figures = by_trunk(session, site.active.id, period.since, period.seen_until)
        gaps = call_coverage(session, site.active.id, period.since, period.seen_until).gaps
    if not any(item.figures.seizures for item in found):
        _no_calls()
        return False
    found = _full_intervals(found, site, step)
    shares = {
        "ASR": _points(found, lambda figures: figures.asr, "percent"),
        "NER": _points(found, lambda figures: figures.ner, "percent", _unsure_text),
    }
    _ratios(site, period, gaps, "Call success", shares, "%", "asr", top=104)
    left, right = st.columns(2, gap="medium")
    with left:
        lengths = {"ACD": _points(found, lambda figures: figures.acd, "duration")}
        _ratios(
            site, period, gaps, "Average call duration (ACD)", lengths, "Average call duration", "acd", durations=True
        )
    with right:
        delays = {"PDD": _points(found, lambda figures: figures.pdd, "seconds")}
        if any(point.value is not None for point in delays["PDD"]):
            _ratios(site, period, gaps, "Post-dial delay (PDD)", delays, "Seconds", "pdd")
        else:
            note("Post-dial delay (PDD): n/a. Only live events contain it: run the worker or python -m pbx watch.")
    _causes(site, period, causes)
    note("Hover over a bar or a point to see its figures. Click it to list its calls below.")
    _show_trunks(site, figures)
    return True


def show_load(site: Site, period: Period, trunk: str | None, trunks: Sequence[str]) -> bool:
    """Concurrent calls and traffic by hour, the busy hour, and the lines it needs; False if there are no calls."""
    step: IntervalStep = "hour" if (period.until - period.since).days <= 8 else "day"
    with reading(site.engine) as session:
        wanted = (session, site.active.id, trunk, period.since, period.seen_until)
        found = trunk_intervals(*wanted, site.zone, step)
        busiest = busy_hour(*wanted, site.zone)
        gaps = call_coverage(session, site.active.id, period.since, period.seen_until).gaps
        resets = resets_of(session, site.active.id, period.since, period.until, "")
        limits = trunk_capacities(session, site.active.id)
    if busiest is None:
        _no_calls()
        return False
    lines = lines_of(limits, [trunk] if trunk else trunks)
    _lines_menu(site, [trunk] if trunk else trunks, limits)
    seen = [item for item in found if item.figures.busy_s or not is_within(item.start_at, item.end_at, gaps)]
    seen, found = _full_intervals(seen, site, step), _full_intervals(found, site, step)
    peaks = [_point(item, item.figures.concurrency_peak, f"{item.figures.concurrency_peak:,}") for item in seen]
    means = [
        _point(item, mean.value if item in seen else None, f"{mean.value or 0:.2f} erlangs ({mean.parts_text()} s)")
        for item in found
        for mean in (item.figures.concurrency_mean,)
    ]
    title = "Concurrent calls and traffic"
    figure = load_chart(
        peaks,
        means,
        period.time_frame(gaps),
        title=title,
        step=step,
        lines=lines,
        resets=[(reset.at, reset.description) for reset in resets if reset.description == RESTARTED],
    )
    alt = points_alt(title, {"Peak concurrent calls": peaks, "Traffic": means})
    drilldown_chart(figure, alt=alt, key="trunk_load", picture=period.picture(f"trunk load {trunk or ''}"))
    traffic, peak = busiest.traffic.value or 0.0, busiest.figures.concurrency_peak
    note(
        f"Busy hour: {_hour_text(site, busiest.start_at)} with {traffic:.2f} erlangs "
        f"({busiest.figures.busy_s:,.0f} s ÷ 3,600 s), peak {count_text(peak, 'concurrent call')}. "
        f"{count_text(busiest.lines_needed, 'line')} would block at most 1% of its calls (Erlang B)."
    )
    if lines:
        most = max((item.figures.concurrency_peak for item in found), default=0)
        note(
            f"Peak use: {most:,} of {count_text(lines, 'line')} ({Ratio(most, lines).percent_text(0)}). With "
            f"{count_text(lines, 'line')}, {100 * blocking(traffic, lines):.2f}% of the busy hour’s calls are blocked."
        )
    else:
        note("Set the trunk capacity above to compare it with the load. AMI doesn’t report it.")
    return True


def lines_of(limits: Mapping[str, int], trunks: Sequence[str]) -> int | None:
    """The total capacity of these trunks in lines; None if any of them has none set."""
    return sum(limits[trunk] for trunk in trunks) if trunks and all(trunk in limits for trunk in trunks) else None


def _lines_menu(site: Site, trunks: Sequence[str], limits: Mapping[str, int]) -> None:
    """A menu to set the capacity of each trunk; it is stored in the database."""
    with (
        st.container(horizontal_alignment="right"),
        st.popover("Trunk capacity", icon=":material/tune:", key="lines_menu"),
    ):
        note("The number of lines: FreePBX’s Maximum Channels, or what your provider sells. Leave it empty if unknown.")
        for trunk in trunks:
            key = f"lines of {trunk}"

            def save(trunk: str = trunk, key: str = key) -> None:
                with writing(site.engine) as session:
                    set_trunk_capacity(session, site.active.id, trunk, st.session_state[key])

            st.number_input(plain(trunk), 1, MAX_LINES, limits.get(trunk), 1, key=key, on_change=save, width=220)


def _causes(site: Site, period: Period, causes: Sequence[CauseCount]) -> None:
    counts: dict[tuple[int, str], int] = {}
    for item in causes:
        key = (-1, item.disposition) if item.cause is None else (item.cause, "")
        counts[key] = counts.get(key, 0) + item.count
    total = sum(counts.values())
    bars = []
    for (cause, disposition), count in sorted(counts.items(), key=lambda item: -item[1]):
        name = cause_text(cause) if cause >= 0 else f"{DISPOSITIONS.get(disposition, disposition)}, cause unknown"
        share = Ratio(count, total)
        bars.append(
            NamedValue(
                _cause_query(cause, disposition), name, count, f"{name}: {share.percent_text()}, {share.parts_text()}"
            )
        )
    title = "Calls by hang-up cause (Q.850)"
    figure = named_bars(bars, title=title, unit="Calls", palette=palette(), zone=site.zone)
    drilldown_chart(
        figure,
        alt=named_alt(title, bars),
        key="trunk_causes",
        picture=period.picture("trunk calls by hang-up cause"),
    )


def _cause_query(cause: int, disposition: str) -> str:
    return urlencode({"cause": cause} if cause >= 0 else {"disposition": disposition})


def _show_trunks(site: Site, figures: dict[str, TrunkFigures]) -> None:
    rows: dict[str, list[TableCell]] = {
        name: [
            name,
            {"text": f"{one.seizures:,}", "sub": f"{one.outbound:,} outbound"},
            {"text": one.asr.percent_text(), "sub": one.asr.parts_text()},
            {"text": one.ner.percent_text(), "sub": one.ner.parts_text() + (" or more" if one.unsure else "")},
            {"text": one.acd.duration_text(), "sub": _mean_text(one.acd)},
            {"text": _seconds(one.pdd), "sub": _mean_text(one.pdd)},
            f"{one.concurrency_peak:,}",
        ]
        for name, one in figures.items()
    }
    columns = ("Trunk", "Seizures>", "ASR>", "NER>", "ACD>", "Post-dial delay>", "Peak concurrent calls>")
    chosen = table("Trunk figures", columns, rows, key="trunk_figures", pick=True)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        more = " “Or more”: some failed calls have no cause, so the called user may have rejected them."
        unsure = any(one.unsure for one in figures.values())
        note(f"The small numbers show how each figure is calculated.{more if unsure else ''}")
        exported = [_export_values(name, one) for name, one in figures.items()]
        table_export(site, "Trunks", EXPORT_COLUMNS, lambda: exported, key="trunks")
    if chosen is not None:
        follow(trunk=chosen)


def _export_values(name: str, one: TrunkFigures) -> list[CellValue]:
    counts: list[CellValue] = [name, one.seizures, one.open, one.answered, one.effective, one.outbound]
    return [*counts, one.billsec_s, one.billed, one.pdd_s, one.pdds, one.concurrency_peak, one.busy_s]


def _no_calls() -> None:
    no_history("No trunk calls in this period", "cell_tower", what="the PBX’s calls", source="cdr")


def _ratios(
    site: Site,
    period: Period,
    gaps: Sequence[UnobservedSpan],
    title: str,
    series: dict[str, list[Point]],
    unit: str,
    key: str,
    *,
    top: float | None = None,
    durations: bool = False,
) -> None:
    figure = ratio_chart(series, period.time_frame(gaps), title=title, unit=unit, top=top, durations=durations)
    alt = points_alt(title, series)
    drilldown_chart(figure, alt=alt, key=f"trunk_{key}", picture=period.picture(f"trunk {title}"))


def _unsure_text(one: TrunkFigures) -> str:
    """Why NER may be higher than shown; "" if it can't be."""
    if not one.unsure:
        return ""
    failed, most = count_text(one.unsure, "failed call"), one.ner_upper.percent_text()
    return f"{failed} without a cause (the CDR has none): if the called user rejected them all, NER is {most}."


def _full_intervals(found: Sequence[TrunkInterval], site: Site, step: IntervalStep) -> list[TrunkInterval]:
    """The same intervals, the last one at full length even if it isn't over, so that all are drawn alike."""
    return [replace(item, end_at=next_edge(item.start_at, site.zone, step)) for item in found]


def _points(
    found: Sequence[TrunkInterval],
    ratio_of: Callable[[TrunkFigures], Ratio],
    kind: str,
    comment: Callable[[TrunkFigures], str] = lambda figures: "",
) -> list[Point]:
    points = []
    for item in found:
        ratio = ratio_of(item.figures)
        text, value = {
            "percent": (f"{ratio.percent_text()} ({ratio.parts_text()})", ratio.percent),
            "duration": (f"{ratio.duration_text()} ({_mean_text(ratio)})", ratio.value),
            "seconds": (f"{_seconds(ratio)} ({_mean_text(ratio)})", ratio.value),
        }[kind]
        points.append(_point(item, value, f"{text}. {more}" if (more := comment(item.figures)) else text))
    return points


def _point(item: TrunkInterval, value: float | None, text: str) -> Point:
    return Point(item.start_at, item.end_at, value, text)


def _seconds(ratio: Ratio) -> str:
    return NOT_APPLICABLE if ratio.value is None else f"{ratio.value:.1f} s"


def _mean_text(ratio: Ratio) -> str:
    return f"{ratio.numerator:,.0f} s ÷ {ratio.denominator:,.0f}" if ratio.denominator else ""


def _hour_text(site: Site, start: datetime) -> str:
    local = start.astimezone(site.zone)
    return f"{local:%a} {local.day} {local:%b %H:%M}"
