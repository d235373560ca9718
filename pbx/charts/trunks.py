"""Charts of trunks by hour or day: ratios, averages, and load against capacity."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.analytics.formulas.intervals import IntervalStep
from pbx.charts.layout import (
    LINE_HEIGHT_PX,
    MarkedMoment,
    TimeFrame,
    bars_so_far,
    complete_figure,
    is_unfinished,
    line_so_far,
    local_time,
    new_figure,
    plain_text,
    so_far_hover,
    span_query,
    value_ticks,
)
from pbx.formatting import count_text

DASHES = ("solid", "dash", "dot", "dashdot")


class Point(NamedTuple):
    """The figure of an interval: None if its denominator is 0 or there is no data. `text`: the figure and its parts."""

    start_at: datetime
    end_at: datetime
    value: float | None
    text: str


def ratio_chart(
    series: Mapping[str, Sequence[Point]],
    frame: TimeFrame,
    *,
    title: str,
    unit: str,
    top: float | None = None,
    durations: bool = False,
) -> go.Figure:
    """Draw figures by interval, each in the middle of its interval; where there is no figure, the line has a gap.

    With `durations` the values are seconds. Gaps in the data are hatched. The point of an interval that isn't over is
    hollow, the line to it dotted.
    A point's customdata begins with its interval as a query string: from and until in epoch seconds.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX + 10)
    for (name, points), colour, dash in zip(series.items(), frame.palette.lines, DASHES, strict=False):
        line = {"width": 2, "color": colour, "dash": dash}
        _add_line(figure, points, frame, plain_text(name), line, hover="%{fullData.name}")
    found = max((point.value for points in series.values() for point in points if point.value is not None), default=0)
    ticks = value_ticks(found, True) if durations else {"nticks": 6}
    figure.update_yaxes(title_text=unit, range=[0, top or max(found, 1) * 1.12], **ticks)
    figure.update_layout(title_text=title, showlegend=len(series) > 1, margin_l=64)
    unfinished = any(_ends_unfinished(points, frame.now) and points[-1].value is not None for points in series.values())
    complete_figure(figure, frame, unfinished=unfinished)
    return figure


def load_chart(
    peaks: Sequence[Point],
    means: Sequence[Point],
    frame: TimeFrame,
    *,
    title: str,
    step: IntervalStep,
    lines: int | None,
    resets: Sequence[MarkedMoment] = (),
) -> go.Figure:
    """Draw peak concurrent calls as bars, the average (traffic in erlangs) as points, and the capacity (`lines`).

    Gaps are hatched, restarts of Asterisk marked; an interval that isn't over is pale. Customdata as in
    `ratio_chart`.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX + 30)
    unfinished = [is_unfinished(point.start_at, point.end_at, frame.now) for point in peaks]
    bars = {"color": frame.palette.lines[5], "line_width": 0, "cornerradius": 2, "opacity": 0.55}
    figure.add_bar(
        x=_middles(peaks, frame.zone),
        y=[point.value for point in peaks],
        width=[(point.end_at - point.start_at) / timedelta(milliseconds=1) * 0.8 for point in peaks],
        name="Peak concurrent calls",
        marker=bars_so_far(bars, unfinished, frame.palette),
        customdata=_customdata(peaks, frame.now, frame.zone),
        hovertemplate="Peak concurrent calls: %{customdata[1]}<extra></extra>",
    )
    traffic = {"width": 2, "color": frame.palette.lines[0]}
    _add_line(figure, means, frame, "Traffic (erlangs)", traffic, hover="Traffic")
    top = max((point.value or 0 for point in peaks), default=0)
    if lines:
        label = {"text": f"Capacity: {count_text(lines, 'line')}", "font": {"size": 12, "color": frame.palette.text}}
        line = {"color": frame.palette.warn, "width": 1.5, "dash": "dashdot"}
        figure.add_hline(y=lines, line=line, annotation=label, annotation_position="bottom left")
        top = max(top, lines)
    figure.update_yaxes(
        title_text=f"Concurrent calls, by {step}", range=[0, max(top, 1) * 1.12], **value_ticks(top, False)
    )
    figure.update_layout(title_text=title, showlegend=True, margin_l=64)
    complete_figure(figure, frame, unfinished=any(unfinished), resets=resets)
    return figure


def _add_line(
    figure: go.Figure, points: Sequence[Point], frame: TimeFrame, name: str, line: Mapping[str, object], *, hover: str
) -> None:
    """Add a line of figures. `hover`: what the hover text calls it."""
    line_so_far(
        figure,
        _middles(points, frame.zone),
        [point.value for point in points],
        _customdata(points, frame.now, frame.zone),
        unfinished=_ends_unfinished(points, frame.now),
        name=name,
        line=line,
        marker={"size": 6, "color": line["color"]},
        hovertemplate=f"{hover}: %{{customdata[1]}}<extra></extra>",
    )


def _middles(points: Sequence[Point], zone: tzinfo) -> list[datetime]:
    return [local_time(point.start_at + (point.end_at - point.start_at) / 2, zone) for point in points]


def _ends_unfinished(points: Sequence[Point], now: datetime) -> bool:
    return bool(points) and is_unfinished(points[-1].start_at, points[-1].end_at, now)


def _customdata(points: Sequence[Point], now: datetime, zone: tzinfo) -> list[list[str]]:
    """For each point: the query string that selects its calls, and its hover text."""
    return [
        [
            span_query(start, end),
            so_far_hover(text, is_unfinished(start, end, now), now, zone),
        ]
        for start, end, _, text in points
    ]


def points_alt(title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Alternative text for a chart of figures by interval."""
    lines = []
    for name, points in series.items():
        with_value = [point for point in points if point.value is not None]
        if with_value:
            low, high = (choose(with_value, key=lambda point: point.value or 0) for choose in (min, max))
            lines.append(f"{name} between {low.text} and {high.text}")
    return f"{title}: {'; '.join(lines) or 'no data'}."
