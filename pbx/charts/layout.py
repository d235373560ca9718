"""What all charts share: the colours of light and dark mode, the layout of a figure, its axes and its texts.

The colours are those of `.streamlit/config.toml`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from urllib.parse import urlencode

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.formatting import zone_text

# A system font: a chart saved as an image is drawn without the page's fonts and must keep its measured width.
FONT = "system-ui, 'Segoe UI', sans-serif"
LINE_HEIGHT_PX = 250
BAND_ROW_PX = 34
SPARE_PX = 116  # title or legend, and an axis with its title
NOT_OBSERVED = "No data"
UNFINISHED_OPACITY = 0.45
NARROW_PX, LEGEND_ROW_PX = 380, 19  # the legend of a narrow chart: its width, and the height of a row
LETTER_PX, SYMBOL_PX = 7.5, 42  # ... and the width of a letter and of a symbol

UnobservedSpan = tuple[datetime, datetime]
MarkedMoment = tuple[datetime, str]  # with its hover text


class TraceStyle(NamedTuple):
    """The colour of a state or a line, with a hatching that distinguishes it without colour."""

    colour: str
    hatching: str = ""


class Palette(NamedTuple):
    """The colours of one mode."""

    text: str
    grid: str
    ground: str
    lines: tuple[str, ...]
    good: str
    warn: str
    bad: str
    idle: str

    def state(self, state: str) -> TraceStyle:
        """The style of a trunk's state."""
        styles = {
            "registered": TraceStyle(self.good),
            "reachable": TraceStyle(self.good),
            "unregistered": TraceStyle(self.warn, "/"),
            "rejected": TraceStyle(self.bad, "x"),
            "unreachable": TraceStyle(self.bad, "\\"),
        }
        return styles.get(state, TraceStyle(self.idle, "."))


@dataclass(frozen=True)
class TimeFrame:
    """What all charts of a period share.

    `span`: the time axis from end to end. `gaps`: the parts of it without data. `now`: when the chart is drawn; an
    interval that isn't over then is drawn as unfinished.
    """

    span: tuple[datetime, datetime]
    gaps: Sequence[UnobservedSpan]
    zone: tzinfo
    palette: Palette
    now: datetime


LIGHT = Palette(
    text="#43545c",
    grid="#e3e9eb",
    ground="#ffffff",
    lines=("#0b7a84", "#c8640a", "#5b5fc7", "#a8327d", "#6b8e23", "#3f7fbf"),
    good="#0b7a84",
    warn="#e0912f",
    bad="#a3301c",
    idle="#9aa8ae",
)
DARK = Palette(
    text="#aebcc2",
    grid="#24323a",
    ground="#0f171b",
    lines=("#43b8c0", "#ef9a45", "#a3a6f5", "#e287bf", "#a9c65f", "#82b8ec"),
    good="#2b98a1",
    warn="#f0b15c",
    bad="#d9624a",
    idle="#5d6d75",
)


def new_figure(palette: Palette, zone: tzinfo, span: tuple[datetime, datetime], height_px: int) -> go.Figure:
    """An empty figure with a time axis. One layout, because each of Plotly's `update` calls takes as long as it."""
    axis = {"gridcolor": palette.grid, "linecolor": palette.grid, "zeroline": False, "fixedrange": True}
    layout = go.Layout(
        height=height_px,
        margin={"l": 8, "r": 12, "t": 40, "b": 8},
        # Plotly keeps a plot at least 64 px high, even if its axis then covers the title; a single row is lower.
        minreducedheight=BAND_ROW_PX,
        title={
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad_t": 6,
            "pad_l": 2,
        },
        font={"family": FONT, "size": 13, "color": palette.text},
        paper_bgcolor=palette.ground,  # the page's background, also of a saved image
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"orientation": "v", "bgcolor": "rgba(0,0,0,0)", "color": palette.idle, "activecolor": palette.text},
        hovermode="x unified",
        hoverlabel={
            "bgcolor": palette.ground,
            "bordercolor": palette.grid,
            "font": {"family": FONT, "color": palette.text},
        },
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1, "title_text": ""},
        dragmode=False,
        xaxis=axis
        | {
            "type": "date",
            "range": [local_time(at, zone) for at in span],
            "title": {"text": f"Time ({zone_text(zone, span[1])})", "standoff": 8, "font": {"size": 12}},
            "showgrid": False,
            "ticks": "outside",
            "tickcolor": palette.grid,
            "hoverformat": "%-d %b %H:%M:%S",
            "tickformatstops": [
                {"dtickrange": [None, 86_399_999], "value": "%H:%M\n%-d %b"},
                {"dtickrange": [86_400_000, None], "value": "%-d %b\n%Y"},
            ],
            "automargin": True,
        },
        yaxis=axis | {"title": {"font": {"size": 12}}},
    )
    return go.Figure(layout=layout)


def value_ticks(top: float, durations: bool, most: int = 6) -> dict[str, object]:
    """Axis ticks at integers, or at durations in one unit (s, min or h); about `most` of them."""
    if not durations:
        return {"dtick": 1} if top <= min(most, 6) else {"nticks": most, "tickformat": ","}
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 172_800, 345_600)
    week = 7 * 86_400
    step = next((step for step in steps if top / step <= most), week * math.ceil(top / week / most) or week)
    values = list(range(0, int(top * 1.12) + step, step))
    unit_s, unit = (1, "s") if step < 60 else (60, "min") if step < 3600 else (3600, "h")
    return {"tickvals": values, "ticktext": [f"{value // unit_s} {unit}" for value in values]}


def is_within(start: datetime, end: datetime, gaps: Sequence[UnobservedSpan]) -> bool:
    """Whether a gap covers an interval completely."""
    return any(gap_start <= start and end <= gap_end for gap_start, gap_end in gaps)


def is_unfinished(start: datetime, end: datetime, now: datetime) -> bool:
    """Whether an interval isn't over at `now`, so that its figures can still change."""
    return start < now <= end


def so_far_text(now: datetime, zone: tzinfo) -> str:
    """The label of an interval that isn't over: So far, until 14:40."""
    return f"So far, until {now.astimezone(zone):%H:%M}"


def so_far_hover(text: str, unfinished: bool, now: datetime, zone: tzinfo) -> str:
    """The hover text of an interval, with a line that says if it isn't over."""
    return f"{text}<br>{so_far_text(now, zone)}" if unfinished else text


def bars_so_far(marker: Mapping[str, Any], unfinished: Sequence[bool], palette: Palette) -> dict[str, Any]:
    """A marker for bars in which those of unfinished intervals are pale with an outline."""
    if not any(unfinished):
        return dict(marker)
    opacity = marker.get("opacity", 1)
    return {name: value for name, value in marker.items() if name != "line_width"} | {
        "opacity": [opacity * UNFINISHED_OPACITY if one else opacity for one in unfinished],
        "line": {"width": [1.5 if one else 0 for one in unfinished], "color": palette.text},
    }


def line_so_far(
    figure: go.Figure,
    x: Sequence[datetime],
    y: Sequence[float | None],
    customdata: Sequence[Sequence[str]],
    *,
    unfinished: bool,
    line: Mapping[str, Any],
    marker: Mapping[str, Any],
    **trace: Any,
) -> None:
    """Add a line with points; with `unfinished` its last point is hollow and the line to it dotted."""
    if unfinished and x:
        x, y, customdata = [*x[:-1], x[-1], x[-1]], [*y[:-1], None, y[-1]], [*customdata[:-1], ["", ""], customdata[-1]]
        marker = dict(marker) | {"symbol": ["circle"] * (len(x) - 1) + ["circle-open"]}
    figure.add_scatter(
        x=x, y=y, customdata=customdata, mode="lines+markers", connectgaps=False, line=line, marker=marker, **trace
    )
    if unfinished and len(x) > 2 and None not in (y[-3], y[-1]):
        figure.add_scatter(
            x=[x[-3], x[-1]],
            y=[y[-3], y[-1]],
            mode="lines",
            line=dict(line) | {"dash": "1px,4px", "width": 2},
            hoverinfo="skip",
            showlegend=False,
        )


def explain_so_far(figure: go.Figure, now: datetime, zone: tzinfo, palette: Palette) -> None:
    """Add an entry to the legend that explains pale bars and hollow points."""
    if not figure.layout.showlegend:
        figure.update_traces(showlegend=False)
    figure.add_scatter(
        x=[None],
        y=[None],
        name=so_far_text(now, zone),
        mode="markers",
        marker={"symbol": "square-open", "size": 10, "color": palette.text, "line": {"width": 1.5}},
    )
    figure.update_layout(showlegend=True)


def complete_figure(
    figure: go.Figure, frame: TimeFrame, *, unfinished: bool = False, resets: Sequence[MarkedMoment] = ()
) -> None:
    """Add what every chart of a period ends with: the legend of unfinished intervals, the gaps and the resets.

    Call it after `update_yaxes`, which would also change the axis that the gaps and resets are drawn on.
    """
    if unfinished:
        explain_so_far(figure, frame.now, frame.zone, frame.palette)
    _shade_gaps(figure, frame)
    _mark_moments(figure, resets, frame)


def span_query(start: datetime, end: datetime, **more: str) -> str:
    """The query string that selects the calls of a time range, as the URL holds it."""
    span = f"from={int(start.timestamp())}&until={int(end.timestamp())}"
    return f"{span}&{urlencode(more)}" if more else span


def _shade_gaps(figure: go.Figure, frame: TimeFrame) -> None:
    """Hatch the gaps in the data below everything else, with a hover text that gives their time range."""
    gaps, zone, palette = frame.gaps, frame.zone, frame.palette
    if not gaps:
        return
    _add_background_axis(figure)
    figure.add_bar(
        x=[local_time(start, zone) + local_length(start, end, zone) / 2 for start, end in gaps],
        y=[1] * len(gaps),
        width=[local_length(start, end, zone) / timedelta(milliseconds=1) for start, end in gaps],
        name=NOT_OBSERVED,
        yaxis="y2",
        marker={
            "color": palette.idle,
            "opacity": 0.28,
            "line_width": 0,
            "pattern": {"shape": "/", "fillmode": "replace", "fgcolor": palette.idle, "size": 7, "solidity": 0.22},
        },
        unselected={"marker": {"opacity": 0.28}},
        customdata=[["", _span_text(start, end, zone)] for start, end in gaps],
        hovertemplate=f"{NOT_OBSERVED}: %{{customdata[1]}}<extra></extra>",
        showlegend=False,
    )


def _mark_moments(figure: go.Figure, moments: Sequence[MarkedMoment], frame: TimeFrame) -> None:
    """Draw a thin line at each moment, with a hover text on its head."""
    zone, palette = frame.zone, frame.palette
    if not moments:
        return
    _add_background_axis(figure)
    for at, _ in moments:
        x = local_time(at, zone)
        line = {"color": palette.text, "width": 1, "dash": "dot"}
        figure.add_shape(type="line", xref="x", yref="paper", x0=x, x1=x, y0=0, y1=1, line=line, opacity=0.7)
    figure.add_scatter(
        x=[local_time(at, zone) for at, _ in moments],
        y=[0.97] * len(moments),
        yaxis="y2",
        mode="markers",
        marker={"symbol": "triangle-down", "size": 10, "color": palette.text},
        unselected={"marker": {"opacity": 1}},
        customdata=[["", f"{plain_text(text)}, {_clock_text(at, zone)}"] for at, text in moments],
        hovertemplate="%{customdata[1]}<extra></extra>",
        showlegend=False,
    )


def _add_background_axis(figure: go.Figure) -> None:
    """Add an axis from 0 to 1 below the figure's own, for shapes of the figure's full height."""
    own = figure.layout.yaxis
    # Set explicitly, or the axis on top takes its ticks from the axis below.
    own.tickmode = "array" if own.tickvals is not None else "linear" if own.dtick is not None else "auto"
    figure.update_layout(yaxis2={"range": [0, 1], "visible": False, "fixedrange": True}, yaxis_overlaying="y2")


def _span_text(start: datetime, end: datetime, zone: tzinfo) -> str:
    return f"{_clock_text(start, zone)} – {_clock_text(end, zone)}"


def _clock_text(at: datetime, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%a} {local.day} {local:%b %H:%M}"


def fit_legend(figure: go.Figure) -> None:
    """Give the legend its own rows below the title, as many as a narrow chart needs."""
    if not figure.layout.showlegend or figure.layout.legend.yanchor == "top":
        return
    names = [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    widest = max((len(name) for name in names), default=0) * LETTER_PX + SYMBOL_PX
    rows = math.ceil(len(names) / max(int(NARROW_PX / widest), 1)) if names else 0  # all columns have the same width
    figure.update_layout(
        height=figure.layout.height + LEGEND_ROW_PX * rows, margin_t=figure.layout.margin.t + LEGEND_ROW_PX * rows - 8
    )


def count_along(figure: go.Figure) -> None:
    """Turn the time axis into one of numbers. An update can't remove its time formats, an assignment can."""
    figure.update_xaxes(type="linear", showgrid=True, ticks="")
    figure.layout.xaxis.tickformatstops = None


def local_time(at: datetime, zone: tzinfo) -> datetime:
    """A local time without a zone: Plotly has no zones and draws it unchanged."""
    return at.astimezone(zone).replace(tzinfo=None)


def local_length(start: datetime, end: datetime, zone: tzinfo) -> timedelta:
    """The length of a time range on an axis of local time, on which days of 23 and 25 hours end at midnight too.

    A range that would end before it starts, because the clocks go back in it, keeps its real length.
    """
    length = local_time(end, zone) - local_time(start, zone)
    return length if length > timedelta() else end - start


def plain_text(name: str) -> str:
    """A name with its HTML escaped, as Plotly interprets some HTML in texts."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cycle(colours: Sequence[str]) -> Iterator[str]:
    """The colours, over and over."""
    while True:
        yield from colours
