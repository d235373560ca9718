"""Charts of calls by hour or day, by name, and over an agent's day."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.analytics.formulas.intervals import IntervalStep
from pbx.charts.layout import (
    BAND_ROW_PX,
    LINE_HEIGHT_PX,
    NOT_OBSERVED,
    SPARE_PX,
    Palette,
    TimeFrame,
    TraceStyle,
    bars_so_far,
    complete_figure,
    count_along,
    is_unfinished,
    local_time,
    new_figure,
    plain_text,
    so_far_hover,
    span_query,
    value_ticks,
)
from pbx.formatting import DIRECTIONS, date_text, duration_text

BAR_SHARE = 0.8  # of its interval
DIRECTION_ORDER = ("inbound", "outbound", "internal", "unknown")
DAY_HOURS = 24


class NamedValue(NamedTuple):
    """A bar: the query string that selects its calls (`key`), its label, its length and its hover text."""

    key: str
    label: str
    value: float
    hover_text: str


class ActivitySpan(NamedTuple):
    """Part of an agent's day: logged in, paused (with the reason in `about`), on a call, or without data.

    `calls_joined`: when the calls that a click lists joined their queue; None: within the span itself.
    """

    kind: str
    start_at: datetime
    end_at: datetime
    about: str = ""
    calls_joined: tuple[datetime, datetime] | None = None


def direction_bars(
    counts: Sequence[tuple[datetime, datetime, Mapping[str, int]]],
    frame: TimeFrame,
    *,
    title: str,
    step: IntervalStep,
) -> go.Figure:
    """Draw calls per hour or day, stacked by direction. `counts`: from, until, calls of each direction.

    The bar of an interval that isn't over is pale. A bar's customdata begins with the query string that selects its
    calls: from and until in epoch seconds, direction.
    """
    figure = new_figure(frame.palette, frame.zone, frame.span, LINE_HEIGHT_PX + 20)
    shown = [way for way in DIRECTION_ORDER if any(ways.get(way) for _, _, ways in counts)]
    colours = dict(zip(DIRECTION_ORDER, (*frame.palette.lines[:3], frame.palette.idle), strict=True))
    for way, hatching in zip(DIRECTION_ORDER, ("", "/", ".", "x"), strict=True):
        of_way = [item for item in counts if item[2].get(way)]
        if way not in shown:
            continue
        unfinished = [is_unfinished(start, end, frame.now) for start, end, _ in of_way]
        figure.add_bar(
            x=[local_time(start + (end - start) / 2, frame.zone) for start, end, _ in of_way],
            y=[ways[way] for _, _, ways in of_way],
            width=[(end - start).total_seconds() * 1000 * BAR_SHARE for start, end, _ in of_way],
            name=DIRECTIONS[way],
            marker=bars_so_far(_marker(TraceStyle(colours[way], hatching), frame.palette), unfinished, frame.palette),
            customdata=[
                [
                    span_query(start, end, direction=way),
                    so_far_hover(_interval_text(start, end, step, frame.zone), one, frame.now, frame.zone),
                ]
                for (start, end, _), one in zip(of_way, unfinished, strict=True)
            ],
            hovertemplate="%{customdata[1]}<br>%{fullData.name}: %{y:,}<extra></extra>",
        )
    top = max((sum(ways.values()) for _, _, ways in counts), default=0)
    figure.update_yaxes(title_text="Calls", range=[0, max(top, 1) * 1.12], **value_ticks(top, False))
    figure.update_layout(barmode="stack", hovermode="closest", showlegend=True, title_text=title, margin_l=64)
    figure.update_layout(legend_traceorder="normal")
    any_unfinished = any(is_unfinished(start, end, frame.now) for start, end, ways in counts if any(ways.values()))
    complete_figure(figure, frame, unfinished=any_unfinished)
    return figure


def named_bars(
    bars: Sequence[NamedValue], *, title: str, unit: str, palette: Palette, zone: tzinfo, durations: bool = False
) -> go.Figure:
    """Draw a horizontal bar for each name, the first at the top; a bar's customdata begins with its key.

    Two bars may have the same label.
    """
    now = datetime.now(zone)
    figure = new_figure(palette, zone, (now, now), SPARE_PX + max(len(bars), 1) * BAND_ROW_PX)
    figure.add_bar(
        orientation="h",
        y=list(range(len(bars))),
        x=[bar.value for bar in bars],
        customdata=[[bar.key, plain_text(bar.hover_text)] for bar in bars],
        text=[duration_text(bar.value) if durations else f"{bar.value:,.0f}" for bar in bars],
        textposition="outside",
        cliponaxis=False,
        width=0.62,
        marker=_marker(TraceStyle(palette.lines[0]), palette),
        hovertemplate="%{customdata[1]}<extra></extra>",
    )
    top = max((bar.value for bar in bars), default=0)
    count_along(figure)
    figure.update_xaxes(title_text=unit, range=[0, max(top, 1) * 1.12], tickangle=0, **value_ticks(top, durations, 3))
    figure.update_yaxes(
        tickvals=list(range(len(bars))),
        ticktext=[plain_text(bar.label) for bar in bars],
        range=[max(len(bars), 1) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
        ticks="",
        ticksuffix="  ",
    )
    figure.update_layout(title_text=title, hovermode="closest", showlegend=False, margin_r=76)
    return figure


def named_alt(title: str, bars: Sequence[NamedValue], *, durations: bool = False) -> str:
    """Alternative text for `named_bars`; with `durations` the values are seconds."""
    values = ", ".join(
        f"{bar.label} {duration_text(bar.value) if durations else f'{bar.value:,.0f}'}" for bar in bars[:5]
    )
    return f"{title}: {values or 'no data'}."


def direction_alt(title: str, counts: Sequence[tuple[datetime, datetime, Mapping[str, int]]], zone: tzinfo) -> str:
    """Alternative text for `direction_bars`."""
    total = sum(sum(ways.values()) for _, _, ways in counts)
    if not total:
        return f"{title}: no calls."
    start, _, most = max(counts, key=lambda item: sum(item[2].values()))
    busiest = date_text(start.astimezone(zone), "%-d %b %H:%M")
    return f"{title}: {total:,} in all, most with {sum(most.values()):,} at {busiest}."


def agent_days_chart(
    spans: Sequence[ActivitySpan], days: Sequence[date], *, title: str, zone: tzinfo, palette: Palette
) -> go.Figure:
    """Draw each day as a row of 24 hours in `zone`: time logged in, with pauses and calls on top of it.

    A bar's customdata begins with the query string that selects its calls: from and until in epoch seconds.
    """
    now = datetime.now(zone)
    figure = new_figure(palette, zone, (now, now), SPARE_PX + max(len(days), 1) * BAND_ROW_PX)
    styles = {
        NOT_OBSERVED: (0.92, TraceStyle(palette.idle, "/"), 0.28),
        "Logged in": (0.74, TraceStyle(palette.idle), 0.38),
        "Paused": (0.74, TraceStyle(palette.warn, "/"), 1.0),
        "On a call": (0.4, TraceStyle(palette.good), 1.0),
    }
    rows = {day: row for row, day in enumerate(days)}
    for kind, (width, style, opacity) in styles.items():
        parts = [part for item in spans if item.kind == kind for part in _by_day(item, zone) if part[0] in rows]
        figure.add_bar(
            orientation="h",
            name=kind,
            y=[rows[day] for day, *_ in parts],
            base=[start_h for _, start_h, *_ in parts],
            x=[end_h - start_h for _, start_h, end_h, *_ in parts],
            width=width,
            marker=_marker(style, palette) | {"opacity": opacity, "cornerradius": 0},
            customdata=[[query, text] for *_, query, text in parts],
            hovertemplate="%{customdata[1]}<extra></extra>",
        )
    figure.update_xaxes(
        type="linear",
        range=[0, DAY_HOURS],
        tickvals=list(range(0, DAY_HOURS + 1, 3)),
        ticktext=[f"{hour:02}:00" for hour in range(0, DAY_HOURS + 1, 3)],
        tickformatstops=[],
        showgrid=True,
    )
    figure.update_yaxes(
        tickvals=list(rows.values()),
        ticktext=[f"{day:%a} {day.day} {day:%b}" + (" so far" if day == now.date() else "") for day in days],
        range=[max(len(days), 1) - 0.4, -0.6],
        automargin=True,
        showgrid=False,
        ticks="",
        ticksuffix="  ",
    )
    figure.update_layout(barmode="overlay", hovermode="closest", showlegend=True, title_text=title)
    return figure


def _by_day(item: ActivitySpan, zone: tzinfo) -> list[tuple[date, float, float, str, str]]:
    """A span cut at local midnights: day, first and last hour, and the query string and hover text of all of it."""
    start, end = item.start_at.astimezone(zone), item.end_at.astimezone(zone)
    length = duration_text((item.end_at - item.start_at).total_seconds())
    about = f" ({plain_text(item.about)})" if item.about else ""
    text = f"{item.kind}{about}<br>{_clock(start)} – {_clock(end)} ({length})"
    query = span_query(*(item.calls_joined or (item.start_at, item.end_at)))
    found, day = [], start.date()
    while day <= end.date():
        from_h = _hour(start) if day == start.date() else 0.0
        until_h = _hour(end) if day == end.date() else float(DAY_HOURS)
        if until_h > from_h:  # false where the clocks go back in between
            found.append((day, from_h, until_h, query, text))
        day += timedelta(days=1)
    return found


def _hour(at: datetime) -> float:
    return at.hour + at.minute / 60 + at.second / 3600


def _clock(at: datetime) -> str:
    return f"{at:%a} {at.day} {at:%b %H:%M}"


def _interval_text(start: datetime, end: datetime, step: IntervalStep, zone: tzinfo) -> str:
    first, last = start.astimezone(zone), end.astimezone(zone)
    day = f"{first:%a} {first.day} {first:%b %Y}"
    return day if step == "day" else f"{day}, {first:%H:%M} – {last:%H:%M}"


def _marker(style: TraceStyle, palette: Palette) -> dict[str, object]:
    pattern = {"shape": style.hatching, "fillmode": "overlay", "fgcolor": palette.ground, "fgopacity": 0.5, "size": 6}
    return {"color": style.colour, "line_width": 0, "cornerradius": 2, "pattern": pattern}
