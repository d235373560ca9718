"""How trunks did by hour or day: shares and means with what they are made of, and how full they were."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.frame import (
    LINE_HEIGHT_PX,
    Gap,
    Moment,
    Palette,
    local_time,
    mark_moments,
    new_figure,
    plain_text,
    shade_gaps,
    span_query,
    whole_ticks,
)
from pbx.metrics.intervals import Step

DASHES = ("solid", "dash", "dot", "dashdot")


class Point(NamedTuple):
    """A figure of an interval: None where its denominator is 0 or nobody looked; `said`: with what it is made of."""

    start_at: datetime
    end_at: datetime
    value: float | None
    said: str


def ratio_chart(
    series: Mapping[str, Sequence[Point]],
    gaps: Sequence[Gap],
    *,
    title: str,
    unit: str,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
    top: float | None = None,
    durations: bool = False,
) -> go.Figure:
    """Draw figures by interval, in its middle; a figure over nothing is not drawn, and the line ends there.

    With `durations` the values are seconds, read as 1:23. Gaps are hatched.
    A point's customdata begins with its interval, as a query: from and until in epoch seconds.
    """
    figure = new_figure(palette, zone, span, LINE_HEIGHT_PX + 10)
    for (name, points), colour, dash in zip(series.items(), palette.lines, DASHES, strict=False):
        figure.add_scatter(
            x=[local_time(point.start_at + (point.end_at - point.start_at) / 2, zone) for point in points],
            y=[point.value for point in points],
            name=plain_text(name),
            mode="lines+markers",
            connectgaps=False,
            line={"width": 2, "color": colour, "dash": dash},
            marker={"size": 6, "color": colour},
            customdata=[[span_query(point.start_at, point.end_at), point.said] for point in points],
            hovertemplate="%{fullData.name}: %{customdata[1]}<extra></extra>",
        )
    found = max((point.value for points in series.values() for point in points if point.value is not None), default=0)
    ticks = whole_ticks(found, True) if durations else {"nticks": 6}
    figure.update_yaxes(title_text=unit, range=[0, top or max(found, 1) * 1.12], **ticks)
    figure.update_layout(title_text=title, showlegend=len(series) > 1, margin_l=64)
    shade_gaps(figure, gaps, zone, palette)
    return figure


def load_chart(
    peaks: Sequence[Point],
    means: Sequence[Point],
    gaps: Sequence[Gap],
    *,
    title: str,
    step: Step,
    lines: int | None,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
    resets: Sequence[Moment] = (),
) -> go.Figure:
    """Draw the most calls at once as bars, the mean (the traffic in erlang) as points, and the lines there are.

    Gaps are hatched, restarts of Asterisk marked. A bar's customdata as in `ratio_chart`.
    """
    figure = new_figure(palette, zone, span, LINE_HEIGHT_PX + 30)
    middle = [local_time(point.start_at + (point.end_at - point.start_at) / 2, zone) for point in peaks]
    data = [[span_query(point.start_at, point.end_at), point.said] for point in peaks]
    figure.add_bar(
        x=middle,
        y=[point.value for point in peaks],
        width=[(point.end_at - point.start_at) / timedelta(milliseconds=1) * 0.8 for point in peaks],
        name="Most calls at once",
        marker={"color": palette.lines[5], "line_width": 0, "cornerradius": 2, "opacity": 0.55},
        customdata=data,
        hovertemplate="Most at once: %{customdata[1]}<extra></extra>",
    )
    figure.add_scatter(
        x=middle,
        y=[point.value for point in means],
        name="Traffic (erlang)",
        mode="lines+markers",
        connectgaps=False,
        line={"width": 2, "color": palette.lines[0]},
        marker={"size": 6, "color": palette.lines[0]},
        customdata=[[span_query(point.start_at, point.end_at), point.said] for point in means],
        hovertemplate="Traffic: %{customdata[1]}<extra></extra>",
    )
    top = max((point.value or 0 for point in peaks), default=0)
    if lines:
        figure.add_hline(
            y=lines,
            line={"color": palette.warn, "width": 1.5, "dash": "dashdot"},
            annotation={"text": f"{lines} lines", "font": {"size": 12, "color": palette.text}},
            annotation_position="bottom left",
        )
        top = max(top, lines)
    figure.update_yaxes(
        title_text=f"Calls at once, by {step}", range=[0, max(top, 1) * 1.12], **whole_ticks(top, False)
    )
    figure.update_layout(title_text=title, showlegend=True, margin_l=64)
    shade_gaps(figure, gaps, zone, palette)
    mark_moments(figure, resets, zone, palette)
    return figure


def points_alt(title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Say in words what figures by interval show."""
    said = []
    for name, points in series.items():
        known = [point for point in points if point.value is not None]
        if known:
            low, high = (choose(known, key=lambda point: point.value or 0) for choose in (min, max))
            said.append(f"{name} between {low.said} and {high.said}")
    return f"{title}: {'; '.join(said) or 'nothing known'}."
