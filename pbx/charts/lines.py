"""Charts of snapshots over time: a value or state holds until the next snapshot; a gap has no data."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.layout import (
    BAND_ROW_PX,
    LINE_HEIGHT_PX,
    SPARE_PX,
    MarkedMoment,
    TimeFrame,
    UnobservedSpan,
    complete_figure,
    cycle,
    local_length,
    local_time,
    new_figure,
    plain_text,
    span_query,
    value_ticks,
)
from pbx.formatting import count_text, duration_text, moment_text

Series = Mapping[str, Sequence[tuple[datetime, float]]]
_T = TypeVar("_T")


class HeldValue(NamedTuple, Generic[_T]):
    """A value that held from one moment to another."""

    start: datetime
    end: datetime
    value: _T


def line_chart(
    series: Series,
    frame: TimeFrame,
    *,
    title: str,
    unit: str,
    durations: bool = False,
    resets: Sequence[MarkedMoment] = (),
    clickable: bool = False,
) -> go.Figure:
    """Draw one step line per name: a value holds until the next snapshot, and ends at a gap.

    `title`: what is measured; `unit`: the value axis; with `durations` the values are seconds. A gap reaches from the
    last snapshot before it to the first after it. With `clickable` a point's customdata begins with the time range in
    which its value held, as a query string: from and until in epoch seconds.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX)
    for (name, points), colour in zip(series.items(), cycle(frame.palette.lines), strict=False):
        corners = list(_corners(_pieces(points, frame)))
        # Arrays, because Plotly inspects and copies each element of a list several times.
        figure.add_scatter(
            x=np.array([local_time(at, frame.zone) for at, _ in corners], "datetime64[s]"),
            y=np.array([piece.value if piece else np.nan for _, piece in corners], np.float64),
            name=plain_text(name),
            customdata=np.array([_customdata(piece, durations, clickable) for _, piece in corners], np.str_),
            mode="lines+markers" if clickable else "lines",  # only markers can be clicked on
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
    figure.update_yaxes(title_text=unit, range=[0, max(top, 1) * 1.12], **value_ticks(top, durations))
    complete_figure(figure, frame, resets=resets)
    # The same margin for all, so that charts below one another share their time.
    figure.update_layout(showlegend=len(series) > 1, title_text=title, margin_l=64)
    return figure


def state_bands(
    histories: Mapping[str, Sequence[tuple[datetime, str]]],
    frame: TimeFrame,
    *,
    title: str,
) -> go.Figure:
    """Draw a band per name, coloured and hatched by state; gaps in the data are hatched."""
    figure = new_figure(frame.palette, frame.zone, frame.span, SPARE_PX + BAND_ROW_PX * max(len(histories), 1))
    bands = [(name, *b) for name, points in histories.items() for b in _bands(_pieces(points, frame))]
    for state in sorted({band[3] for band in bands}):
        style = frame.palette.state(state)
        of_state = [band for band in bands if band[3] == state]
        figure.add_bar(
            orientation="h",
            base=[local_time(start, frame.zone) for _, start, _, _ in of_state],
            x=[local_length(start, end, frame.zone).total_seconds() * 1000 for _, start, end, _ in of_state],
            y=[plain_text(name) for name, *_ in of_state],
            name=state.capitalize(),
            width=0.62,
            marker={
                "color": style.colour,
                "line_width": 0,
                "pattern": {
                    "shape": style.hatching,
                    "fillmode": "overlay",
                    "fgcolor": frame.palette.ground,
                    "fgopacity": 0.5,
                    "size": 6,
                },
            },
            customdata=[_span_text(start, end, frame.zone, frame.span[1]) for _, start, end, _ in of_state],
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
    complete_figure(figure, frame)
    return figure


def line_alt(what: str, series: Series, gaps: Sequence[UnobservedSpan], *, durations: bool = False) -> str:
    """Alternative text for `line_chart`."""
    lines = []
    for name, points in series.items():
        values = [value for _, value in points]
        if values:
            low, high, last = (
                duration_text(v) if durations else f"{v:g}" for v in (min(values), max(values), values[-1])
            )
            lines.append(f"{name} between {low} and {high}, last {last}")
    return f"{what}: {'; '.join(lines) or 'no data'}. {count_text(len(gaps), 'gap')} in the data."


def band_alt(histories: Mapping[str, Sequence[tuple[datetime, str]]], gaps: Sequence[UnobservedSpan]) -> str:
    """Alternative text for `state_bands`."""
    last = [f"{name} is {points[-1][1]}" for name, points in histories.items() if points]
    return f"State of each trunk over time: {', '.join(last) or 'no data'}. {count_text(len(gaps), 'gap')}."


def _pieces(points: Sequence[tuple[datetime, _T]], frame: TimeFrame) -> Iterator[HeldValue[_T]]:
    """How long each value held: until the next snapshot, with any gaps cut out."""
    gaps = sorted(frame.gaps)
    ends = [at for at, _ in points[1:]] + [frame.span[1]]
    starts = [gap_start for gap_start, _ in gaps]
    for (start, value), end in zip(points, ends, strict=False):
        for gap_start, gap_end in gaps[bisect_left(starts, start) : bisect_left(starts, end)]:
            yield HeldValue(start, gap_start, value)
            start = gap_end
        if start < end:
            yield HeldValue(start, end, value)


def _customdata(piece: HeldValue[float] | None, durations: bool, clickable: bool) -> tuple[str, str]:
    """For a corner: the query string that selects its calls, and its hover text."""
    if piece is None:
        return "", ""
    text = duration_text(piece.value) if durations else f"{piece.value:g}"
    return span_query(piece.start, piece.end) if clickable else "", text


def _corners(pieces: Iterable[HeldValue[float]]) -> Iterator[tuple[datetime, HeldValue[float] | None]]:
    """The corners of a step line: where a value begins, and where it ends at a gap; an empty point breaks the line."""
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
    """Adjacent pieces of the same state, joined."""
    joined: HeldValue[str] | None = None
    for piece in pieces:
        if joined and joined.end == piece.start and joined.value == piece.value:
            joined = joined._replace(end=piece.end)
            continue
        if joined:
            yield joined
        joined = piece
    if joined:
        yield joined


def _span_text(start: datetime, end: datetime, zone: tzinfo, now: datetime) -> str:
    first, last = (moment_text(at, zone, now, seconds=True) for at in (start, end))
    return f"{first} – {last} ({duration_text((end - start).total_seconds())})"
