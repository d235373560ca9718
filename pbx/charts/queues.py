"""Charts of queues: calls offered by hour or day, service levels, waiting times, the week, outcomes.

A point's customdata begins with the query string that selects its calls: from and until in epoch seconds, kind
(answered, abandoned or other), outcome, over and upto in seconds of waiting, weekday and hour.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import urlencode

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.analytics.formulas.queues import QueueFigures, WaitBucket
from pbx.analytics.formulas.ratio import Ratio
from pbx.analytics.queues import HeatCell, QueueInterval
from pbx.charts.layout import (
    BAND_ROW_PX,
    LINE_HEIGHT_PX,
    SPARE_PX,
    MarkedMoment,
    Palette,
    TimeFrame,
    UnobservedSpan,
    bars_so_far,
    complete_figure,
    count_along,
    is_unfinished,
    is_within,
    line_so_far,
    local_time,
    new_figure,
    so_far_hover,
    span_query,
    value_ticks,
)
from pbx.formatting import OUTCOMES, WEEKDAYS, count_text, zone_text

OUTCOME_GROUPS = {"answered": "Answered", "abandoned": "Abandoned", "other": "Other outcomes"}
SERVICE_LEVELS: dict[str, Callable[[QueueFigures], Ratio]] = {
    "Service level (answered calls)": lambda figures: figures.sl_answered,
    "Service level (answered + abandoned)": lambda figures: figures.sl_inclusive,
    "Service level (offered calls)": lambda figures: figures.sl_offered,
}
MEASURES: dict[str, tuple[str, Callable[[HeatCell], Ratio]]] = {  # of the heat map: the unit, and the value
    "Offered": ("per hour", lambda cell: Ratio(cell.figures.offered, cell.hours)),
    "Abandon rate": ("%", lambda cell: cell.figures.abandon_rate),
    "Service level (offered calls)": ("%", lambda cell: cell.figures.sl_offered),
    "Speed of answer": ("s", lambda cell: cell.figures.asa),
}
_FAINT = 0.45  # opacity of bars that aren't selected


def volume_bars(
    intervals: Sequence[QueueInterval],
    frame: TimeFrame,
    *,
    resets: Sequence[MarkedMoment] = (),
) -> go.Figure:
    """Draw calls offered by interval, stacked by answered, abandoned and other outcomes.

    Gaps are hatched, and resets of Asterisk's counters are marked. An interval that isn't over is pale.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX + 30)
    observed = _with_data(intervals, frame.gaps, frame.now)
    unfinished = [is_unfinished(item.start_at, item.end_at, frame.now) for item in observed]
    for kind, name in OUTCOME_GROUPS.items():
        figure.add_bar(
            x=[_middle(item, frame.zone) for item in observed],
            y=[_count(item.figures, kind) for item in observed],
            width=[0.86 * 1000 * (item.end_at - item.start_at).total_seconds() for item in observed],
            name=name,
            customdata=[
                [_query(item, kind=kind), so_far_hover(_volume_text(item.figures, kind), one, frame.now, frame.zone)]
                for item, one in zip(observed, unfinished, strict=True)
            ],
            hovertemplate="%{fullData.name}: %{customdata[1]}<extra></extra>",
            marker=bars_so_far((style := _style(kind, frame.palette))["marker"], unfinished, frame.palette),
            unselected=style["unselected"],
        )
    top = max((item.figures.offered for item in observed), default=0)
    figure.update_yaxes(title_text="Calls", range=[0, max(top, 1) * 1.12], **value_ticks(top, False))
    figure.update_layout(barmode="stack", title_text="Calls offered", margin_l=64, legend_traceorder="normal")
    figure.update_layout(showlegend=True)
    complete_figure(figure, frame, unfinished=any(unfinished), resets=resets)
    return figure


def service_level_lines(
    intervals: Sequence[QueueInterval],
    frame: TimeFrame,
    *,
    goal_percent: float,
    target: str,
    resets: Sequence[MarkedMoment] = (),
) -> go.Figure:
    """Draw the three service levels by interval; where a denominator is 0, its line has a gap.

    `target`: the answer target in words. The point of an interval that isn't over is hollow, the line to it dotted.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX + 30)
    covered = {item.start_at for item in _with_data(intervals, frame.gaps, frame.now)}
    unfinished = [is_unfinished(item.start_at, item.end_at, frame.now) for item in intervals]
    for (name, ratio_of), colour, dash in zip(
        SERVICE_LEVELS.items(), frame.palette.lines, ("solid", "dash", "dot"), strict=False
    ):
        ratios = [ratio_of(item.figures) if item.start_at in covered else Ratio(0, 0) for item in intervals]
        line_so_far(
            figure,
            [_middle(item, frame.zone) for item in intervals],
            [ratio.percent for ratio in ratios],
            [
                [
                    _query(item),
                    f"{ratio.percent_text()} ({ratio.parts_text()})",
                    so_far_hover(_interval_text(item, frame.zone), one, frame.now, frame.zone),
                ]
                for item, ratio, one in zip(intervals, ratios, unfinished, strict=True)
            ],
            unfinished=any(unfinished),
            name=name,
            line={"width": 2, "color": colour, "dash": dash},
            marker={"size": 7, "color": colour},
            hovertemplate="%{customdata[2]}<br>%{fullData.name}: %{customdata[1]}<extra></extra>",
        )
    figure.add_hline(
        y=goal_percent,
        line={"color": frame.palette.warn, "width": 1.5, "dash": "dashdot"},
        annotation={"text": f"Goal {goal_percent:g}%", "font": {"size": 12, "color": frame.palette.text}},
        annotation_position="bottom left",
    )
    figure.update_yaxes(title_text="Within target (%)", range=[0, 104], nticks=6)
    # So that a click selects one point, not all that share its time.
    figure.update_layout(
        title_text=f"Service level (target {target})", margin_l=64, hovermode="closest", showlegend=True
    )
    complete_figure(figure, frame, unfinished=any(unfinished), resets=resets)
    return figure


def wait_bars(buckets: Sequence[WaitBucket], *, zone: tzinfo, palette: Palette) -> go.Figure:
    """Draw how many callers waited how long, stacked by outcome."""
    now = datetime.now(UTC)
    figure = new_figure(palette, zone, (now, now), LINE_HEIGHT_PX + 50)
    names = [_bucket_text(bucket) for bucket in buckets]
    total = sum(bucket.answered + bucket.abandoned + bucket.other for bucket in buckets)
    for kind, name in OUTCOME_GROUPS.items():
        counts = [int(getattr(bucket, kind)) for bucket in buckets]
        figure.add_bar(
            x=names,
            y=counts,
            name=name,
            customdata=[
                [
                    urlencode({"kind": kind, "over": bucket.over_s, "upto": bucket.up_to_s or ""}),
                    f"{Ratio(count, total).parts_text()} ({Ratio(count, total).percent_text()})",
                ]
                for bucket, count in zip(buckets, counts, strict=True)
            ],
            hovertemplate="%{fullData.name}: %{customdata[1]}<extra></extra>",
            **_style(kind, palette),
        )
    top = max((bucket.answered + bucket.abandoned + bucket.other for bucket in buckets), default=0)
    figure.update_xaxes(type="category", tickformatstops=[], range=None, nticks=0, tickangle=0, tickfont_size=11)
    figure.update_xaxes(title_text="Waited up to (seconds)")
    figure.update_yaxes(title_text="Calls", range=[0, max(top, 1) * 1.12], **value_ticks(top, False))
    figure.update_layout(barmode="stack", title_text="How long callers waited", bargap=0.18, margin_l=64)
    # The bars on the right are low, so there is room; a narrow screen has none beside the title.
    figure.update_layout(legend={"traceorder": "normal", "yanchor": "top", "y": 0.98})
    return figure


def outcome_bars(counts: Mapping[str, int], *, zone: tzinfo, palette: Palette) -> go.Figure:
    """Draw how many calls had each outcome, the most frequent first."""
    now, total = datetime.now(UTC), sum(counts.values())
    ordered = sorted(counts, key=lambda name: counts[name])
    figure = new_figure(palette, zone, (now, now), SPARE_PX + BAND_ROW_PX * max(len(counts), 1))
    styles = [_style(_kind(name), palette)["marker"] for name in ordered]
    figure.add_bar(
        orientation="h",
        y=[OUTCOMES[name][0] for name in ordered],
        x=[counts[name] for name in ordered],
        text=[f"{counts[name]:,}  ({Ratio(counts[name], total).percent_text()})" for name in ordered],
        textposition="outside",
        cliponaxis=False,
        marker={
            "color": [style["color"] for style in styles],
            "cornerradius": 2,
            "pattern": styles[0]["pattern"] | {"shape": [style["pattern"]["shape"] for style in styles]}
            if styles
            else None,
        },
        customdata=[
            [urlencode({"outcome": name}), Ratio(counts[name], total).parts_text(), OUTCOMES[name][2]]
            for name in ordered
        ],
        hovertemplate="%{customdata[1]}: %{customdata[2]}<extra></extra>",
        selected={"marker": {"opacity": 1}, "textfont": {"color": palette.text}},
        unselected={"marker": {"opacity": _FAINT}, "textfont": {"color": palette.text}},
    )
    top = max(counts.values(), default=0)
    count_along(figure)
    figure.update_xaxes(title_text="Calls", range=[0, max(top, 1) * 1.35], tickangle=0, **value_ticks(top, False, 3))
    figure.update_yaxes(type="category", automargin=True, showgrid=False, ticks="", ticksuffix="  ")
    figure.update_layout(title_text="Calls by outcome", hovermode="closest", bargap=0.3, showlegend=False)
    return figure


def week_map(cells: Sequence[Sequence[HeatCell]], measure: str, *, zone: tzinfo, palette: Palette) -> go.Figure:
    """Draw the week as a cell per hour, coloured by one of MEASURES; a cell is empty where its denominator is 0.

    The cells are bars, because Plotly's heat map has no clicks.
    """
    now = datetime.now(UTC)
    unit, ratio_of = MEASURES[measure]
    figure = new_figure(palette, zone, (now, now), SPARE_PX + 7 * BAND_ROW_PX)
    found = [(day, hour, cell, ratio_of(cell)) for day, row in enumerate(cells) for hour, cell in enumerate(row)]
    coloured = [(day, hour, cell, ratio) for day, hour, cell, ratio in found if ratio.value is not None]
    values = [(ratio.percent if unit == "%" else ratio.value) or 0.0 for *_, ratio in coloured]
    low, high = palette.ground, palette.bad if measure in ("Abandon rate", "Speed of answer") else palette.good
    figure.add_bar(
        x=[hour + 0.5 for _, hour, *_ in coloured],
        base=[6 - day + 0.04 for day, *_ in coloured],
        y=[0.92] * len(coloured),
        width=0.94,
        marker={
            "color": values,
            "cmin": 0,
            "cmax": 100 if measure.startswith("Service level") else max([*values, 1e-9]),
            "colorscale": [[0, _mix(low, palette.text, 0.06)], [0.001, _mix(low, high, 0.16)], [1, high]],
            "colorbar": {"thickness": 10, "outlinewidth": 0, "title": {"text": unit}, "nticks": 5},
            "cornerradius": 2,
        },
        customdata=[
            [urlencode({"weekday": day, "hour": hour}), _cell_text(day, hour, cell, ratio, measure)]
            for day, hour, cell, ratio in coloured
        ],
        hovertemplate="%{customdata[1]}<extra></extra>",
        unselected={"marker": {"opacity": _FAINT}},
    )
    figure.update_xaxes(
        type="linear",
        tickformatstops=[],
        range=[0, 24],
        tickvals=[hour + 0.5 for hour in range(0, 24, 2)],
        ticktext=[f"{hour:02}" for hour in range(0, 24, 2)],
        title_text=f"Hour of the day ({zone_text(zone, now)})",
        ticks="",
        nticks=0,
    )
    figure.update_yaxes(
        range=[0, 7], tickvals=[6.5 - day for day in range(7)], ticktext=[*WEEKDAYS], showgrid=False, ticksuffix="  "
    )
    figure.update_layout(
        title_text=f"{'Calls offered' if measure == 'Offered' else measure} by weekday and hour",
        hovermode="closest",
        margin_l=64,
    )
    return figure


def intervals_alt(what: str, intervals: Sequence[QueueInterval], gaps: Sequence[UnobservedSpan]) -> str:
    """Alternative text for the charts by interval."""
    offered, answered, abandoned = (
        sum(getattr(item.figures, name) for item in intervals) for name in ("offered", "answered", "abandoned")
    )
    counts = f"{offered:,} offered, {answered:,} answered, {abandoned:,} abandoned"
    return f"{what}: {counts} in {count_text(len(intervals), 'interval')}. {count_text(len(gaps), 'gap')}."


def _with_data(
    intervals: Sequence[QueueInterval], gaps: Sequence[UnobservedSpan], now: datetime
) -> list[QueueInterval]:
    """The intervals with data: those with calls, and those without that no gap covers up to now."""
    return [
        item for item in intervals if item.figures.offered or not is_within(item.start_at, min(item.end_at, now), gaps)
    ]


def _middle(item: QueueInterval, zone: tzinfo) -> datetime:
    """In local time without a zone, as Plotly has no zones."""
    return local_time(item.start_at, zone) + (item.end_at - item.start_at) / 2


def _interval_text(item: QueueInterval, zone: tzinfo) -> str:
    start, end = item.start_at.astimezone(zone), item.end_at.astimezone(zone)
    day = f"{start:%a} {start.day} {start:%b}"
    return f"{day} {start:%H:%M}–{end:%H:%M}" if start.date() == end.date() else day


def _query(item: QueueInterval, **more: str) -> str:
    return span_query(item.start_at, item.end_at, **more)


def _count(figures: QueueFigures, kind: str) -> int:
    return int(getattr(figures, kind))


def _volume_text(figures: QueueFigures, kind: str) -> str:
    share = Ratio(_count(figures, kind), figures.offered)
    return f"{share.parts_text()} ({share.percent_text()})"


def _kind(outcome: str) -> str:
    return {"answered": "answered", "transferred": "answered", "abandoned": "abandoned"}.get(outcome, "other")


def _style(kind: str, palette: Palette) -> dict[str, Any]:
    colour, hatching = {"answered": (palette.good, ""), "abandoned": (palette.bad, "/")}.get(kind, (palette.idle, "."))
    pattern = {"shape": hatching, "fillmode": "overlay", "fgcolor": palette.ground, "fgopacity": 0.45, "size": 6}
    faint = {"marker": {"opacity": _FAINT}}
    return {"marker": {"color": colour, "line_width": 0, "pattern": pattern}, "unselected": faint}


def _bucket_text(bucket: WaitBucket) -> str:
    if bucket.up_to_s is None:
        return "longer"
    return f"{bucket.up_to_s:g}"


def _cell_text(day: int, hour: int, cell: HeatCell, ratio: Ratio, measure: str) -> str:
    unit = MEASURES[measure][0]
    value = {"%": ratio.percent_text(), "s": ratio.duration_text()}.get(unit, f"{ratio.value or 0:,.1f} per hour")
    parts = {"%": f" ({ratio.parts_text()})", "s": f" ({ratio.numerator:,.0f} s ÷ {ratio.denominator:,.0f})"}
    return (
        f"{WEEKDAYS[day]} {hour:02}:00–{(hour + 1) % 24:02}:00<br>{measure}: {value}{parts.get(unit, '')}"
        f"<br>{count_text(cell.figures.offered, 'call')} in {count_text(cell.hours, 'hour')} of data"
    )


def _mix(one: str, other: str, share: float) -> str:
    """The colour between two at a share from 0 to 1, all as #rrggbb."""
    parts = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in parts)
