"""Bar charts of how often phrases were mentioned, by day or by name. No bar means no data, not zero."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple, TypeGuard

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.layout import (
    BAND_ROW_PX,
    LINE_HEIGHT_PX,
    SPARE_PX,
    Palette,
    TraceStyle,
    bars_so_far,
    explain_so_far,
    new_figure,
    plain_text,
    so_far_hover,
    value_ticks,
)
from pbx.formatting import count_text, zone_text

BARS_ROW_PX = 112


class MentionCount(NamedTuple):
    """How often a phrase was mentioned: mentions, calls with a mention, and transcribed calls searched."""

    hits: int
    calls: int
    calls_total: int

    @property
    def share(self) -> float | None:
        """The percentage of transcribed calls with a mention; None if there were no transcribed calls."""
        return 100 * self.calls / self.calls_total if self.calls_total else None


def day_bars(
    series: Mapping[str, Mapping[date, MentionCount]],
    days: Sequence[date],
    *,
    title: str,
    share: bool,
    zone: tzinfo,
    palette: Palette,
    now: datetime,
) -> go.Figure:
    """Draw a bar per day, each phrase in its own row: mentions, or with `share` the percentage of transcribed calls.

    The day that isn't over at `now` is pale; days without transcribed calls are shaded. A point's customdata begins
    with phrase and day.
    """
    noons = {day: datetime.combine(day, time(12)) for day in days}
    half_day = timedelta(hours=12)
    span = (noons[days[0]] - half_day, noons[days[-1]] + half_day)
    rows, today = max(len(series), 1), now.astimezone(zone).date()
    height_px = LINE_HEIGHT_PX + 20 if rows == 1 else SPARE_PX + BARS_ROW_PX * rows
    figure = new_figure(palette, zone, (span[0].replace(tzinfo=zone), span[1].replace(tzinfo=zone)), height_px)
    for row, ((name, counts), style) in enumerate(zip(series.items(), _bar_styles(palette), strict=False)):
        counted = [(day, count) for day in days if _has_calls(count := counts.get(day))]
        figure.add_bar(
            x=[noons[day] for day, _ in counted],
            y=[count.share if share else count.hits for _, count in counted],
            customdata=[
                [name, day.isoformat(), so_far_hover(_count_text(count), day == today, now, zone)]
                for day, count in counted
            ],
            yaxis=f"y{row + 1}" if row else "y",
            width=0.72 * 86_400_000,  # of a day in ms; Plotly would draw a single bar as thin as a hair
            **(bar := _bar(name, style, palette, several=rows > 1))
            | {"marker": bars_so_far(bar["marker"], [day == today for day, _ in counted], palette)},
        )
    unknown = [day for day in days if not any(_has_calls(counts.get(day)) for counts in series.values())]
    _shade(figure, [noons[day] for day in unknown], palette)
    top = max((bar for trace in figure.data for bar in trace.y if bar), default=0)
    _stack_rows(figure, rows, _bar_axis(top, share))
    figure.update_xaxes(
        title_text=f"Day ({zone_text(zone, span[1].replace(tzinfo=zone))})",
        hoverformat="%a %-d %b %Y",
        anchor=f"y{rows}" if rows > 1 else "y",
        **({"dtick": 86_400_000, "tick0": noons[days[0]]} if len(days) <= 10 else {}),
        tickformatstops=[{"dtickrange": [None, None], "value": "%-d %b"}],
    )
    figure.update_layout(title_text=title, margin_l=64, showlegend=rows > 1 or bool(unknown))
    if any(_has_calls(counts.get(today)) for counts in series.values()) and today in noons:
        explain_so_far(figure, now, zone, palette)
    return figure


def name_bars(
    series: Mapping[str, Mapping[str, MentionCount]],
    *,
    title: str,
    share: bool,
    nameless: str,
    zone: tzinfo,
    palette: Palette,
) -> go.Figure:
    """Draw bars per queue or agent, the highest first; `share` and customdata as in `day_bars`.

    `nameless`: the label of the empty name.
    """
    totals: dict[str, float] = {}
    for counts in series.values():
        for label, count in counts.items():
            totals[label] = totals.get(label, 0) + ((count.share or 0) if share else count.hits)
    labels = sorted(totals, key=lambda label: (totals[label], label))
    height_px = SPARE_PX + max(len(labels), 1) * max(BAND_ROW_PX, 20 * len(series))
    now = datetime.now(zone)
    figure = new_figure(palette, zone, (now, now), height_px)
    styles = zip(series.items(), _bar_styles(palette), strict=False)
    for (name, counts), style in reversed(list(styles)):  # Plotly draws the last one at the top
        counted = [(label, counts[label]) for label in labels if _has_calls(counts.get(label))]
        figure.add_bar(
            orientation="h",
            y=[plain_text(label or nameless) for label, _ in counted],
            x=[count.share if share else count.hits for _, count in counted],
            customdata=[[name, label, _count_text(count)] for label, count in counted],
            **_bar(name, style, palette, several=len(series) > 1),
        )
    top = max((bar for trace in figure.data for bar in trace.x if bar), default=0)
    figure.update_xaxes(type="linear", tickformatstops=[], showgrid=True, ticks="", **_bar_axis(top, share))
    figure.update_yaxes(type="category", automargin=True, showgrid=False, ticks="", ticksuffix="  ")
    figure.update_layout(
        title_text=title,
        hovermode="y unified",
        barmode="group",
        bargap=0.3,
        showlegend=len(series) > 1,
        legend_traceorder="reversed",
    )
    return figure


def bars_alt(what: str, series: Mapping[str, Mapping[Any, MentionCount]]) -> str:
    """Alternative text for `day_bars` and `name_bars`."""
    phrases = []
    for name, counts in series.items():
        counted = {label: count for label, count in counts.items() if _has_calls(count)}
        if counted:
            top = max(counted, key=lambda label: counted[label].hits)
            total = sum(count.hits for count in counted.values())
            phrases.append(f"{name} {count_text(total, 'mention')}, most at {top or 'none'} with {counted[top].hits:,}")
    return f"{what}: {'; '.join(phrases) or 'no data'}."


def _has_calls(count: MentionCount | None) -> TypeGuard[MentionCount]:
    return count is not None and count.calls_total > 0


def _count_text(count: MentionCount) -> str:
    return (
        f"{count_text(count.hits, 'mention')}, in {count.calls:,} of "
        f"{count_text(count.calls_total, 'call')} ({count.share or 0:.0f}%)"
    )


def _bar_styles(palette: Palette) -> Iterator[TraceStyle]:
    for colour, hatching in zip(palette.lines, ("", "/", ".", "x", "\\", "+"), strict=True):
        yield TraceStyle(colour, hatching)


def _bar(name: str, style: TraceStyle, palette: Palette, *, several: bool) -> dict[str, Any]:
    pattern = {"shape": style.hatching, "fillmode": "overlay", "fgcolor": palette.ground, "fgopacity": 0.5, "size": 6}
    return {
        "name": plain_text(name),
        "marker": {"color": style.colour, "line_width": 0, "cornerradius": 2, "pattern": pattern},
        "hovertemplate": ("%{fullData.name}: " if several else "") + "%{customdata[2]}<extra></extra>",
    }


def _bar_axis(top: float, share: bool) -> dict[str, Any]:
    title = {"title_text": "Calls with a mention (%)" if share else "Mentions", "title_font_size": 12}
    return title | {"range": [0, max(top, 1) * 1.12], **({"nticks": 6} if share else value_ticks(top, False))}


def _stack_rows(figure: go.Figure, rows: int, axis: Mapping[str, Any]) -> None:
    """Give each phrase a row of its own, with the same days and scale, so that no bar gets too thin."""
    figure.update_yaxes(axis)
    if rows == 1:
        return
    first = figure.layout.yaxis.to_plotly_json()
    for row in range(rows):
        low = (rows - 1 - row) / rows
        figure.layout[f"yaxis{row + 1}" if row else "yaxis"] = first | {
            "domain": [low, low + 1 / rows - 0.05],
            "anchor": "x",
            "nticks": 3,
            "title": {},
        }
    figure.layout.yaxis.title = first["title"]


def _shade(figure: go.Figure, unknown: Sequence[datetime], palette: Palette) -> None:
    """Shade days without transcribed calls, with a hover text that says so."""
    if not unknown:
        return
    half_day = timedelta(hours=12)
    box = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "below", "line_width": 0}
    for noon in unknown:
        figure.add_shape(x0=noon - half_day, x1=noon + half_day, fillcolor=palette.idle, opacity=0.16, **box)
    figure.add_scatter(
        x=unknown,
        y=[0] * len(unknown),
        name="No transcribed calls",
        mode="markers",
        marker={"symbol": "square", "size": 10, "color": palette.idle, "opacity": 0.35},
        hovertemplate="No transcribed calls<extra></extra>",
    )
