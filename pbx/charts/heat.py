"""A heat map of the week: calls by weekday and hour."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from urllib.parse import urlencode

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.layout import Palette, new_figure
from pbx.formatting import zone_text

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HEIGHT_PX = 300


def week_heat(
    values: Sequence[Sequence[float | None]],
    hover_texts: Sequence[Sequence[str]],
    *,
    title: str,
    zone: tzinfo,
    palette: Palette,
) -> go.Figure:
    """Draw 7 lists of 24 values as squares, Monday at the top; a square is empty for None.

    A square's customdata: the query string that selects its calls (weekday, 0 = Monday, and hour), and its hover text.
    """
    now = datetime.now(zone)
    figure = new_figure(palette, zone, (now, now), HEIGHT_PX)
    cells = [(day, hour) for day in range(7) for hour in range(24) if values[day][hour] is not None]
    # Bars, because Plotly's own heat map has no clicks.
    figure.add_bar(
        x=[hour + 0.5 for _, hour in cells],
        base=[day - 0.46 for day, _ in cells],
        y=[0.92] * len(cells),
        width=0.94,
        customdata=[[urlencode({"weekday": day, "hour": hour}), hover_texts[day][hour]] for day, hour in cells],
        marker={
            "color": [values[day][hour] for day, hour in cells],
            "colorscale": [[0, palette.grid], [1, palette.good]],
            "cmin": 0,
            "cmax": max((values[day][hour] or 0 for day, hour in cells), default=0) or 1,
            "line_width": 0,
            "cornerradius": 2,
        },
        hovertemplate="%{customdata[1]}<extra></extra>",
    )
    figure.update_xaxes(
        type="linear",
        range=[0, 24],
        tickvals=[hour + 0.5 for hour in range(0, 24, 2)],
        ticktext=[f"{hour:02}" for hour in range(0, 24, 2)],
        title_text=f"Hour of the day ({zone_text(zone, now)})",
        tickformatstops=[],
        ticks="",
        nticks=0,
    )
    figure.update_yaxes(
        tickvals=list(range(7)),
        ticktext=[day[:3] for day in WEEKDAYS],
        range=[6.5, -0.5],
        showgrid=False,
        ticks="",
        ticksuffix="  ",
    )
    figure.update_layout(title_text=title, hovermode="closest", showlegend=False, margin_l=64)
    return figure
