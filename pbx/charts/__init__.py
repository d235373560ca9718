"""Plotly figures from rows. Pure functions: times come in UTC and are drawn in the PBX's zone; missing data is a gap.

States and lines differ in hue, lightness and hatching, and always have a name.
"""

from pbx.charts.bars import MentionCount, bars_alt, day_bars, name_bars
from pbx.charts.layout import DARK, LIGHT, Palette, TimeFrame, fit_legend
from pbx.charts.lines import band_alt, line_alt, line_chart, state_bands
from pbx.charts.queues import (
    MEASURES,
    intervals_alt,
    outcome_bars,
    service_level_lines,
    volume_bars,
    wait_bars,
    week_map,
)

__all__ = [
    "DARK",
    "LIGHT",
    "MEASURES",
    "MentionCount",
    "Palette",
    "TimeFrame",
    "band_alt",
    "bars_alt",
    "day_bars",
    "fit_legend",
    "intervals_alt",
    "line_alt",
    "line_chart",
    "name_bars",
    "outcome_bars",
    "service_level_lines",
    "state_bands",
    "volume_bars",
    "wait_bars",
    "week_map",
]
