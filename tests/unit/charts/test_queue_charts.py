"""Charts of queues: bars and lines, gaps, hover text, and the query of each point."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest

from pbx import charts
from pbx.analytics.formulas.intervals import Interval
from pbx.analytics.formulas.queues import QueueFigures, WaitBucket
from pbx.analytics.queues import HeatCell, QueueInterval

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 7, 1, 6, tzinfo=UTC)  # 08:00 in Berlin
HOUR = timedelta(hours=1)
LATER = START + 24 * HOUR
SOME = QueueFigures(offered=10, answered=6, abandoned=3, answered_within_t=3, abandoned_within_t=1, short_abandons=2)
NONE = QueueFigures()
LATE = QueueFigures(offered=1, abandoned=1)


def hours(*figures: QueueFigures) -> list[QueueInterval]:
    return [
        Interval(START + HOUR * n, START + HOUR * (n + 1), interval_figures)
        for n, interval_figures in enumerate(figures)
    ]


def frame_of(gaps=(), now=LATER) -> charts.TimeFrame:
    return charts.TimeFrame((START, START + HOUR * 4), gaps, BERLIN, charts.LIGHT, now)


def volume(figures, gaps=(), now=LATER, **options):
    return charts.volume_bars(hours(*figures), frame_of(gaps, now), **options)


def levels(figures, now=LATER, **options):
    return charts.service_level_lines(hours(*figures), frame_of(now=now), goal_percent=80, target="20 s", **options)


def test_bars_of_outcomes_add_up_to_calls_offered() -> None:
    answered, abandoned, other = volume([SOME, NONE]).data
    assert [tuple(bar.y) for bar in (answered, abandoned, other)] == [(6, 0), (3, 0), (1, 0)]
    assert answered.x[0] == datetime(2026, 7, 1, 8, 30)  # noqa: DTZ001  # local time, as on the axis
    assert abandoned.customdata[0][1] == "3 of 10 (30.0%)"
    assert abandoned.customdata[1][1] == "0 of 0 (n/a)"


def test_a_bar_selects_its_calls() -> None:
    query = parse_qs(volume([SOME, NONE]).data[1].customdata[0][0])
    assert query == {
        "from": [str(int(START.timestamp()))],
        "until": [str(int((START + HOUR).timestamp()))],
        "kind": ["abandoned"],
    }


def test_gaps_are_hatched_and_have_bars_only_for_known_calls() -> None:
    gap = (START + HOUR, START + HOUR * 3)
    figure = volume([SOME, NONE, LATE, NONE], [gap])
    assert [at.hour for at in figure.data[0].x] == [8, 10, 11]
    shade = figure.data[-1]
    assert (shade.x[0].hour, shade.width[0]) == (10, 2 * 3_600_000)  # its middle and its duration
    assert shade.customdata[0][1] == "Wed 1 Jul 09:00 – Wed 1 Jul 11:00"
    assert "No data" in shade.hovertemplate
    assert (shade.yaxis, figure.layout.yaxis.overlaying) == ("y2", "y2")  # drawn below the bars


def test_counter_resets_are_marked_and_labelled() -> None:
    at = START + timedelta(minutes=30)
    resets = [(at, "Asterisk restarted <b>")]
    figure = volume([SOME], resets=resets)
    (line,) = figure.layout.shapes
    assert (line.x0, line.x1) == (datetime(2026, 7, 1, 8, 30), datetime(2026, 7, 1, 8, 30))  # noqa: DTZ001
    assert figure.data[-1].customdata[0][1] == "Asterisk restarted &lt;b&gt;, Wed 1 Jul 08:30"
    lines = levels([SOME], resets=resets)
    assert len(lines.layout.shapes) == 2  # the reset and the target
    assert list(lines.layout.yaxis.range) == [0, 104]


def test_service_levels_are_drawn_with_the_target_and_not_over_zero() -> None:
    figure = levels([SOME, NONE, LATE])
    answered, inclusive, offered = figure.data
    assert [round(y, 1) if y is not None else None for y in answered.y] == [50.0, None, None]
    assert [round(y, 1) if y is not None else None for y in inclusive.y] == [44.4, None, 0.0]  # 4 of 9
    assert [round(y, 1) if y is not None else None for y in offered.y] == [37.5, None, 0.0]  # 3 of 10 - 2
    assert answered.connectgaps is False
    assert answered.customdata[0][1] == "50.0% (3 of 6)"
    assert [shape.y0 for shape in figure.layout.shapes] == [80]
    assert "target 20 s" in figure.layout.title.text


def test_bars_of_waits_show_their_share_and_select_their_calls() -> None:
    figure = charts.wait_bars(
        [WaitBucket(0, 5, 3, 1, 0), WaitBucket(600, None, 0, 0, 1)], zone=BERLIN, palette=charts.LIGHT
    )
    assert list(figure.data[0].x) == ["5", "longer"]
    assert figure.data[0].customdata[0][1] == "3 of 5 (60.0%)"
    assert parse_qs(figure.data[2].customdata[1][0]) == {"kind": ["other"], "over": ["600"]}


def test_outcomes_are_ordered_by_frequency() -> None:
    figure = charts.outcome_bars({"abandoned": 1, "answered": 3}, zone=BERLIN, palette=charts.LIGHT)
    (bars,) = figure.data
    assert list(bars.y) == ["Abandoned", "Answered"]  # Plotly draws the last at the top
    assert list(bars.text) == ["1  (25.0%)", "3  (75.0%)"]
    assert bars.customdata[0][0] == "outcome=abandoned"
    assert len(set(bars.marker.pattern.shape)) == 2
    assert not charts.outcome_bars({}, zone=BERLIN, palette=charts.LIGHT).data[0].y


@pytest.mark.parametrize(
    ("measure", "value"), [("Offered", 5.0), ("Abandon rate", 30.0), ("Service level (offered calls)", 37.5)]
)
def test_a_cell_of_the_week_is_coloured_by_its_measure(measure: str, value: float) -> None:
    cells = [[HeatCell(NONE, 0)] * 24 for _ in range(7)]
    cells[2][9] = HeatCell(SOME, 2)
    (bars,) = charts.week_map(cells, measure, zone=BERLIN, palette=charts.LIGHT).data
    assert list(bars.marker.color) == [value]  # cells without a denominator are not drawn
    assert (bars.x[0], round(bars.base[0])) == (9.5, 4)
    query, hover_text = bars.customdata[0]
    assert query == "weekday=2&hour=9"
    assert "Wed 09:00–10:00" in hover_text
    assert "10 calls in 2 hours of data" in hover_text


def test_the_week_can_be_drawn_without_a_call() -> None:
    cells = [[HeatCell(NONE, 1)] * 24 for _ in range(7)]
    for measure in charts.MEASURES:
        assert len(charts.week_map(cells, measure, zone=BERLIN, palette=charts.DARK).data[0].x) == (
            168 if measure == "Offered" else 0
        )


def test_alt_text_has_the_counts() -> None:
    alt = charts.intervals_alt("Calls offered", hours(SOME, LATE), [(START, START + HOUR)])
    assert alt == "Calls offered: 11 offered, 6 answered, 4 abandoned in 2 intervals. 1 gap."


def test_an_unfinished_interval_is_a_pale_bar_and_a_hollow_point() -> None:
    now = START + HOUR + timedelta(minutes=30)  # 09:30 in Berlin
    bars = volume([SOME, LATE], now=now).data[1]
    assert bars.marker.opacity == (1, 0.45)
    assert bars.customdata[1][1] == "1 of 1 (100.0%)<br>So far, until 09:30"
    line, segment = levels([SOME, LATE], now=now).data[1:3]  # of the second line: the first has no denominator
    assert line.marker.symbol[-1] == "circle-open"
    assert segment.y == (line.y[0], line.y[-1])
    assert line.customdata[2][2].endswith("So far, until 09:30")


def test_an_unfinished_interval_without_data_is_not_zero() -> None:
    now = START + HOUR + timedelta(minutes=30)
    assert len(volume([SOME, NONE], [(START + HOUR, now)], now=now).data[0].x) == 1
