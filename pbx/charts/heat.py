"""How busy the hours of a week are: weekday by hour, the darker the more."""

from collections.abc import Sequence
from datetime import datetime, tzinfo

import plotly.graph_objects as go  # type: ignore[import-untyped]  # plotly ships no types

from pbx.charts.frame import DARK, Palette, new_figure

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HEIGHT_PX = 300


def week_heat(
    values: Sequence[Sequence[float | None]],
    said: Sequence[Sequence[str]],
    *,
    title: str,
    zone: tzinfo,
    palette: Palette,
) -> go.Figure:
    """Draw 7 lists of 24 values as squares, Monday at the top; None stays empty. `said` is shown when pointed at.

    A square's customdata: weekday (0 = Monday), hour, what is said.
    """
    now = datetime.now(zone)
    figure = new_figure(palette, zone, (now, now), HEIGHT_PX)
    low = "#16252b" if palette is DARK else "#eef4f5"
    cells = [(day, hour) for day in range(7) for hour in range(24) if values[day][hour] is not None]
    # Bars, as Plotly lets nobody choose a square of its own heat map.
    figure.add_bar(
        x=[hour for _, hour in cells],
        base=[day - 0.46 for day, _ in cells],
        y=[0.92] * len(cells),
        width=0.92,
        customdata=[[day, hour, said[day][hour]] for day, hour in cells],
        marker={
            "color": [values[day][hour] for day, hour in cells],
            "colorscale": [[0, low], [1, palette.lines[0]]],
            "cmin": 0,
            "cmax": max((values[day][hour] or 0 for day, hour in cells), default=0) or 1,
            "line_width": 0,
            "cornerradius": 2,
        },
        hovertemplate="%{customdata[2]}<extra></extra>",
    )
    figure.update_xaxes(
        type="linear",
        range=[-0.5, 23.5],
        tickvals=list(range(0, 24, 2)),
        ticktext=[f"{hour:02}:00" for hour in range(0, 24, 2)],
        tickformatstops=[],
        ticks="",
    )
    figure.update_yaxes(
        tickvals=list(range(7)), ticktext=[day[:3] for day in WEEKDAYS], range=[6.5, -0.5], showgrid=False, ticks=""
    )
    figure.update_layout(title_text=title, hovermode="closest", showlegend=False, margin_l=44)
    return figure
