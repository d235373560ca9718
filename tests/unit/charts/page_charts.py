"""Reads the charts that a page draws."""

import json
import re
from typing import Any

from streamlit.testing.v1 import AppTest


def charts(app: AppTest) -> dict[str, dict[str, Any]]:
    """The Plotly figures of a page, by their keys."""
    found = {}
    for chart in app.get("plotly_chart"):
        key = re.sub(r"^.*-(?=[a-z])|_\d+$", "", chart.proto.id)
        found[key] = json.loads(chart.proto.spec)
    return found


def points(app: AppTest, key: str) -> list[str]:
    """The queries in a chart's points, without those of gaps."""
    traces = charts(app)[key]["data"]
    return [point[0] for trace in traces for point in trace.get("customdata", []) if point[0]]
