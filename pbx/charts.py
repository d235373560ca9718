"""Rows to Plotly figures. Pure: times come in UTC, are drawn in the PBX's zone, and what wasn't observed is a gap.

The colours are those of `.streamlit/config.toml`. States differ in hue, lightness and hatching, and are always named.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Generic, NamedTuple, TypeVar

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.wording import count_text, duration_text, moment_text, zone_text

Gap = tuple[datetime, datetime]  # the last look before it and the first after it
Series = Mapping[str, Sequence[tuple[datetime, float]]]
T = TypeVar("T")
FONT = "'Source Sans', 'Segoe UI', sans-serif"
LINE_HEIGHT_PX = 250
BAND_ROW_PX = 34
SPARE_PX = 82  # legend and time axis


class Piece(NamedTuple, Generic[T]):
    """A value that held from one moment to another."""

    start: datetime
    end: datetime
    value: T


class Look(NamedTuple):
    """A colour for each state, with the hatching that tells it apart without colour."""

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

    def state(self, state: str) -> Look:
        """The look of a trunk's state."""
        looks = {
            "registered": Look(self.good),
            "reachable": Look(self.good),
            "unregistered": Look(self.warn, "/"),
            "rejected": Look(self.bad, "x"),
            "unreachable": Look(self.bad, "\\"),
        }
        return looks.get(state, Look(self.idle, "."))


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


def line_chart(
    series: Series,
    gaps: Sequence[Gap],
    *,
    title: str,
    unit: str,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
    durations: bool = False,
) -> go.Figure:
    """Draw one step line per name: a value holds until the next look, and ends at a gap.

    `title` says what is measured, `unit` names the value axis; with `durations` the values are seconds, read as 1:23.
    """
    figure = _figure(palette, zone, span, LINE_HEIGHT_PX)
    for (name, points), colour in zip(series.items(), _cycle(palette.lines), strict=False):
        held = list(_line(_pieces(points, gaps, span[1])))
        said = [None if value is None else duration_text(value) if durations else f"{value:g}" for _, value in held]
        figure.add_scatter(
            x=[_local(at, zone) for at, _ in held],
            y=[value for _, value in held],
            name=_plain(name),
            customdata=said,
            mode="lines",
            line={"shape": "hv", "width": 2, "color": colour},
            connectgaps=False,
            hovertemplate="%{customdata}<extra></extra>"
            if len(series) == 1
            else "%{fullData.name}: %{customdata}<extra></extra>",
        )
    top = max((value for points in series.values() for _, value in points), default=0)
    figure.update_yaxes(title_text=unit, range=[0, max(top, 1) * 1.12], **_ticks(top, durations))
    # The same margin for all, so that charts below one another share their time.
    figure.update_layout(showlegend=len(series) > 1, title_text=title, margin_l=64)
    return figure


def state_bands(
    histories: Mapping[str, Sequence[tuple[datetime, str]]],
    gaps: Sequence[Gap],
    *,
    title: str,
    span: tuple[datetime, datetime],
    zone: tzinfo,
    palette: Palette,
) -> go.Figure:
    """Draw a band per name, coloured and hatched by state, where it was looked at; gaps stay empty."""
    figure = _figure(palette, zone, span, SPARE_PX + BAND_ROW_PX * max(len(histories), 1))
    bands = [(name, *b) for name, points in histories.items() for b in _bands(_pieces(points, gaps, span[1]))]
    for state in sorted({band[3] for band in bands}):
        look = palette.state(state)
        mine = [band for band in bands if band[3] == state]
        figure.add_bar(
            orientation="h",
            base=[_local(start, zone) for _, start, _, _ in mine],
            x=[(end - start).total_seconds() * 1000 for _, start, end, _ in mine],
            y=[_plain(name) for name, *_ in mine],
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
            customdata=[
                [_clock(start, zone, span[1]), _clock(end, zone, span[1]), duration_text((end - start).total_seconds())]
                for _, start, end, _ in mine
            ],
            hovertemplate=f"%{{y}}: {state}<br>%{{customdata[0]}} – %{{customdata[1]}} (%{{customdata[2]}})"
            "<extra></extra>",
        )
    figure.update_layout(barmode="overlay", hovermode="closest", showlegend=True, title_text=title)
    figure.update_yaxes(
        automargin=True,
        categoryorder="array",
        categoryarray=[_plain(n) for n in reversed(list(histories))],
        showgrid=False,
        ticks="",
    )
    return figure


def line_alt(what: str, series: Series, gaps: Sequence[Gap], *, durations: bool = False) -> str:
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


def band_alt(histories: Mapping[str, Sequence[tuple[datetime, str]]], gaps: Sequence[Gap]) -> str:
    """Say in words what the state bands show."""
    last = [f"{name} is {points[-1][1]}" for name, points in histories.items() if points]
    return f"State of each trunk over time: {', '.join(last) or 'nothing observed'}. {count_text(len(gaps), 'gap')}."


def _pieces(points: Sequence[tuple[datetime, T]], gaps: Sequence[Gap], until: datetime) -> Iterator[Piece[T]]:
    """How long each value held: to the next look, at most to the beginning of a gap, and again from its end."""
    gaps = sorted(gaps)
    ends = [at for at, _ in points[1:]] + [until]
    for (start, value), end in zip(points, ends, strict=False):
        for gap_start, gap_end in gaps:
            if start <= gap_start < end:
                yield Piece(start, gap_start, value)
                start = gap_end
        if start < end:
            yield Piece(start, end, value)


def _line(pieces: Iterable[Piece[float]]) -> Iterator[tuple[datetime, float | None]]:
    """The corners of a step line; an empty point breaks it where a piece does not follow at once."""
    last: datetime | None = None
    for start, end, value in pieces:
        if last is not None and start > last:
            yield last, None
        yield start, value
        yield end, value
        last = end


def _bands(pieces: Iterable[Piece[str]]) -> Iterator[Piece[str]]:
    """Pieces of one state that follow one another, made one."""
    whole: Piece[str] | None = None
    for piece in pieces:
        if whole and whole.end == piece.start and whole.value == piece.value:
            whole = whole._replace(end=piece.end)
            continue
        if whole:
            yield whole
        whole = piece
    if whole:
        yield whole


def _figure(palette: Palette, zone: tzinfo, span: tuple[datetime, datetime], height_px: int) -> go.Figure:
    axis = {"gridcolor": palette.grid, "linecolor": palette.grid, "zeroline": False, "fixedrange": True}
    figure = go.Figure()
    figure.update_layout(
        height=height_px,
        margin={"l": 8, "r": 12, "t": 40, "b": 8},
        title={
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad_t": 6,
        },
        font={"family": FONT, "size": 13, "color": palette.text},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        hoverlabel={
            "bgcolor": palette.ground,
            "bordercolor": palette.grid,
            "font": {"family": FONT, "color": palette.text},
        },
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "xanchor": "right", "x": 1, "title_text": ""},
        dragmode=False,
    )
    figure.update_xaxes(
        type="date",
        range=[_local(at, zone) for at in span],
        title={"text": f"Time ({zone_text(zone, span[1])})", "standoff": 8, "font_size": 12},
        showgrid=False,
        ticks="outside",
        tickcolor=palette.grid,
        nticks=8,
        hoverformat="%-d %b %H:%M:%S",
        tickformatstops=[
            {"dtickrange": [None, 86_399_999], "value": "%H:%M\n%-d %b"},
            {"dtickrange": [86_400_000, None], "value": "%-d %b\n%Y"},
        ],
        automargin=True,
        **axis,
    )
    figure.update_yaxes(title_font_size=12, **axis)
    return figure


def _ticks(top: float, durations: bool) -> dict[str, object]:
    """Whole numbers only, and durations as they are said."""
    if not durations:
        return {"dtick": 1} if top <= 6 else {"nticks": 6}
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
    step = next((step for step in steps if top / step <= 6), 7 * 86_400)
    values = list(range(0, int(top * 1.12) + step, step))
    return {"tickvals": values, "ticktext": [duration_text(value) for value in values]}


def _local(at: datetime, zone: tzinfo) -> datetime:
    """Plotly knows no zones: a local time without one is drawn as it is."""
    return at.astimezone(zone).replace(tzinfo=None)


def _clock(at: datetime, zone: tzinfo, now: datetime) -> str:
    return moment_text(at, zone, now, seconds=True)


def _plain(name: str) -> str:
    """Plotly reads a little HTML in its texts; a name must stay what it is."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cycle(colours: Sequence[str]) -> Iterator[str]:
    while True:
        yield from colours
