"""Values and states over time: they hold until the next look, and what wasn't observed is a gap."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.frame import (
    BAND_ROW_PX,
    LINE_HEIGHT_PX,
    SPARE_PX,
    MarkedMoment,
    Palette,
    UnobservedSpan,
    cycle,
    local_length,
    local_time,
    mark_moments,
    new_figure,
    plain_text,
    shade_gaps,
    span_query,
    whole_ticks,
)
from pbx.formatting import count_text, duration_text, moment_text

Series = Mapping[str, Sequence[tuple[datetime, float]]]
T = TypeVar("T")


class HeldValue(NamedTuple, Generic[T]):
    """A value that held from one moment to another."""

    start: datetime
    end: datetime
    value: T


def line_chart(
    series: Series,
    gaps: Sequence[UnobservedSpan],
    *,
    title: str,
    unit: str,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
    durations: bool = False,
    resets: Sequence[MarkedMoment] = (),
    leads: bool = False,
) -> go.Figure:
    """Draw one step line per name: a value holds until the next look, and ends at a gap.

    `title` says what is measured, `unit` names the value axis; with `durations` the values are seconds, read as 1:23.
    A gap is the last look before it and the first after it.
    With `leads` a point's customdata begins with how long its value held, as a query: from and until in epoch seconds.
    """
    figure = new_figure(palette, zone, span, LINE_HEIGHT_PX)
    for (name, points), colour in zip(series.items(), cycle(palette.lines), strict=False):
        corners = list(_corners(_pieces(points, gaps, span[1])))
        # Arrays, as Plotly looks at each element of a list, and copies it, some times.
        figure.add_scatter(
            x=np.array([local_time(at, zone) for at, _ in corners], "datetime64[s]"),
            y=np.array([piece.value if piece else np.nan for _, piece in corners], np.float64),
            name=plain_text(name),
            customdata=np.array([_told(piece, durations, leads) for _, piece in corners], np.str_),
            mode="lines+markers" if leads else "lines",  # only markers can be clicked on
            marker={"size": 10, "opacity": 0},
            selected={"marker": {"opacity": 0.9}},
            unselected={"marker": {"opacity": 0}},
            line={"shape": "hv", "width": 2, "color": colour},
            connectgaps=False,
            hovertemplate="%{customdata[1]}<extra></extra>"
            if len(series) == 1
            else "%{fullData.name}: %{customdata[1]}<extra></extra>",
        )
    top = max((value for points in series.values() for _, value in points), default=0)
    figure.update_yaxes(title_text=unit, range=[0, max(top, 1) * 1.12], **whole_ticks(top, durations))
    shade_gaps(figure, gaps, zone, palette)
    mark_moments(figure, resets, zone, palette)
    # The same margin for all, so that charts below one another share their time.
    figure.update_layout(showlegend=len(series) > 1, title_text=title, margin_l=64)
    return figure


def state_bands(
    histories: Mapping[str, Sequence[tuple[datetime, str]]],
    gaps: Sequence[UnobservedSpan],
    *,
    title: str,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
) -> go.Figure:
    """Draw a band per name, coloured and hatched by state, where it was looked at; gaps are hatched."""
    figure = new_figure(palette, zone, span, SPARE_PX + BAND_ROW_PX * max(len(histories), 1))
    bands = [(name, *b) for name, points in histories.items() for b in _bands(_pieces(points, gaps, span[1]))]
    for state in sorted({band[3] for band in bands}):
        look = palette.state(state)
        mine = [band for band in bands if band[3] == state]
        figure.add_bar(
            orientation="h",
            base=[local_time(start, zone) for _, start, _, _ in mine],
            x=[local_length(start, end, zone).total_seconds() * 1000 for _, start, end, _ in mine],
            y=[plain_text(name) for name, *_ in mine],
            name=state.capitalize(),
            width=0.62,
            marker={
                "color": look.colour,
                "line_width": 0,
                "pattern": {
                    "shape": look.hatching,
                    "fillmode": "overlay",
                    "fgcolor": palette.ground,
                    "fgopacity": 0.5,
                    "size": 6,
                },
            },
            customdata=[_stretch_text(start, end, zone, span[1]) for _, start, end, _ in mine],
            hovertemplate=f"%{{y}}: {state}<br>%{{customdata}}<extra></extra>",
        )
    figure.update_layout(barmode="overlay", hovermode="closest", showlegend=True, title_text=title)
    figure.update_yaxes(
        automargin=True,
        categoryorder="array",
        categoryarray=[plain_text(n) for n in reversed(list(histories))],
        showgrid=False,
        ticks="",
    )
    shade_gaps(figure, gaps, zone, palette)
    return figure


def line_alt(what: str, series: Series, gaps: Sequence[UnobservedSpan], *, durations: bool = False) -> str:
    """Say in words what a line chart shows."""
    said = []
    for name, points in series.items():
        values = [value for _, value in points]
        if values:
            low, high, last = (
                duration_text(v) if durations else f"{v:g}" for v in (min(values), max(values), values[-1])
            )
            said.append(f"{name} between {low} and {high}, last {last}")
    return f"{what}: {'; '.join(said) or 'nothing observed'}. {count_text(len(gaps), 'gap')} in what was observed."


def band_alt(histories: Mapping[str, Sequence[tuple[datetime, str]]], gaps: Sequence[UnobservedSpan]) -> str:
    """Say in words what the state bands show."""
    last = [f"{name} is {points[-1][1]}" for name, points in histories.items() if points]
    return f"State of each trunk over time: {', '.join(last) or 'nothing observed'}. {count_text(len(gaps), 'gap')}."


def _pieces(
    points: Sequence[tuple[datetime, T]], gaps: Sequence[UnobservedSpan], until: datetime
) -> Iterator[HeldValue[T]]:
    """How long each value held: to the next look, at most to the beginning of a gap, and again from its end."""
    gaps = sorted(gaps)
    ends = [at for at, _ in points[1:]] + [until]
    starts = [gap_start for gap_start, _ in gaps]
    for (start, value), end in zip(points, ends, strict=False):
        for gap_start, gap_end in gaps[bisect_left(starts, start) : bisect_left(starts, end)]:
            yield HeldValue(start, gap_start, value)
            start = gap_end
        if start < end:
            yield HeldValue(start, end, value)


def _told(piece: HeldValue[float] | None, durations: bool, leads: bool) -> tuple[str, str]:
    """What a corner leads to, and what it says."""
    if piece is None:
        return "", ""
    said = duration_text(piece.value) if durations else f"{piece.value:g}"
    return span_query(piece.start, piece.end) if leads else "", said


def _corners(pieces: Iterable[HeldValue[float]]) -> Iterator[tuple[datetime, HeldValue[float] | None]]:
    """Where a step line begins a piece, or ends without another; an empty point breaks it at a gap."""
    last: HeldValue[float] | None = None
    for piece in pieces:
        if last is not None and piece.start > last.end:
            yield last.end, last
            yield last.end, None
        yield piece.start, piece
        last = piece
    if last is not None:
        yield last.end, last


def _bands(pieces: Iterable[HeldValue[str]]) -> Iterator[HeldValue[str]]:
    """Pieces of one state that follow one another, made one."""
    whole: HeldValue[str] | None = None
    for piece in pieces:
        if whole and whole.end == piece.start and whole.value == piece.value:
            whole = whole._replace(end=piece.end)
            continue
        if whole:
            yield whole
        whole = piece
    if whole:
        yield whole


def _stretch_text(start: datetime, end: datetime, zone: tzinfo, now: datetime) -> str:
    first, last = (moment_text(at, zone, now, seconds=True) for at in (start, end))
    return f"{first} – {last} ({duration_text((end - start).total_seconds())})"
