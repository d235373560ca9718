"""Charts over time: values hold until the next snapshot, gaps stay gaps, and names are text, not markup."""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pbx.charts import DARK, LIGHT, Palette, TimeFrame, band_alt, fit_legend, line_alt, line_chart, state_bands

BERLIN = ZoneInfo("Europe/Berlin")
NINE = datetime(2026, 7, 1, 9, 0, tzinfo=UTC)  # 11:00 in Berlin


def at(minute: int) -> datetime:
    return NINE + timedelta(minutes=minute)


def clock(minute: int) -> datetime:
    """The same time as on the axis: local, without a time zone."""
    return at(minute).astimezone(BERLIN).replace(tzinfo=None)


def frame_of(span, gaps=()) -> TimeFrame:
    return TimeFrame(span, gaps, BERLIN, LIGHT, span[1])


def draw_lines(points, gaps=(), **options):
    frame = frame_of((at(0), at(60)), gaps)
    return line_chart({"support": points}, frame, title="Callers", unit="Callers", **options)


def draw_bands(points, gaps=()):
    return state_bands({"carrier": points}, frame_of((at(0), at(60)), gaps), title="Registration")


def line_points(figure):
    """The line's points as (time, value); the value is None where the line breaks."""
    values = [None if value != value else value for value in figure.data[0].y.tolist()]
    return list(zip(figure.data[0].x.tolist(), values, strict=True))


def bands(figure):
    """The time ranges of each state, in minutes after the start of the chart."""
    return {
        bar.name: [
            ((base - clock(0)).total_seconds() / 60, (base - clock(0)).total_seconds() / 60 + length / 60_000)
            for base, length in zip(bar.base, bar.x, strict=True)
        ]
        for bar in figure.data
        if bar.name != "No data"
    }


def test_a_value_holds_until_the_next_snapshot_and_the_last_until_the_end() -> None:
    drawn = line_points(draw_lines([(at(0), 1), (at(20), 3)]))
    assert drawn == [(clock(0), 1), (clock(20), 3), (clock(60), 3)]


def test_a_gap_breaks_the_line_at_its_start() -> None:
    figure = draw_lines([(at(0), 1), (at(10), 2), (at(40), 3)], [(at(10), at(40))])
    assert (clock(10), None) in line_points(figure)
    assert all(not clock(10) < moment < clock(40) for moment, _ in line_points(figure))
    assert figure.data[0].connectgaps is False


def test_a_gap_at_the_end_is_not_filled_with_the_last_value() -> None:
    assert max(moment for moment, _ in line_points(draw_lines([(at(0), 1)], [(at(5), at(60))]))) == clock(5)


def test_a_value_resumes_after_a_gap_within_one_point() -> None:
    drawn = line_points(draw_lines([(at(0), 4)], [(at(10), at(30))]))
    assert drawn == [(clock(0), 4), (clock(10), 4), (clock(10), None), (clock(30), 4), (clock(60), 4)]


def test_a_point_selects_the_time_its_value_held() -> None:
    drawn = draw_lines([(at(0), 1), (at(20), 3)], clickable=True).data[0]
    moments = [int(at(minute).timestamp()) for minute in (0, 20, 60)]
    spans = [f"from={since}&until={until}" for since, until in pairwise(moments)]
    assert drawn.customdata.tolist() == [[spans[0], "1"], [spans[1], "3"], [spans[1], "3"]]
    assert "markers" in drawn.mode


def test_adjacent_bands_of_a_state_are_joined_and_gaps_stay_empty() -> None:
    snapshots = [(at(0), "registered"), (at(10), "registered"), (at(20), "rejected"), (at(45), "registered")]
    drawn = bands(draw_bands(snapshots, [(at(30), at(45))]))
    assert drawn == {"Registered": [(0, 20), (45, 60)], "Rejected": [(20, 30)]}


def test_states_differ_by_pattern_as_well_as_colour() -> None:
    snapshots = [(at(0), "registered"), (at(10), "unregistered"), (at(20), "rejected"), (at(30), "unreachable")]
    figure = draw_bands(snapshots)
    assert len({bar.marker.pattern.shape for bar in figure.data}) == 4
    assert figure.layout.showlegend
    assert {bar.name for bar in figure.data} == {"Registered", "Unregistered", "Rejected", "Unreachable"}


def test_without_snapshots_the_figure_is_empty() -> None:
    assert len(draw_lines([]).data[0].x) == 0
    assert draw_bands([]).data == ()


def test_names_are_text_not_markup() -> None:
    frame = replace(frame_of((at(0), at(60))), palette=DARK)
    figure = line_chart({"<b>x</b>": [(at(0), 1)]}, frame, title="", unit="")
    assert figure.data[0].name == "&lt;b&gt;x&lt;/b&gt;"


def test_axes_name_unit_and_zone() -> None:
    figure = draw_lines([(at(0), 90)], durations=True)
    assert figure.layout.yaxis.title.text == "Callers"
    assert figure.layout.xaxis.title.text == "Time (Europe/Berlin)"
    assert "60 s" in figure.layout.yaxis.ticktext


def test_alt_text_describes_the_chart() -> None:
    series = {"support": [(at(0), 30), (at(1), 90)]}
    assert line_alt("Longest wait", series, [(at(2), at(9))], durations=True) == (
        "Longest wait: support between 30 s and 1 min 30 s, last 1 min 30 s. 1 gap in the data."
    )
    assert band_alt({"carrier": [(at(0), "rejected")]}, []).startswith(
        "State of each trunk over time: carrier is rejected"
    )


@pytest.mark.parametrize(("mode", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_charts_and_theme_share_their_colours(mode: str, palette: Palette) -> None:
    theme = tomllib.loads(Path(".streamlit/config.toml").read_text())["theme"][mode]
    assert tuple(theme["chartCategoricalColors"]) == palette.lines
    assert theme["backgroundColor"] == palette.ground


@pytest.mark.parametrize("first", [datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)])
def test_bands_and_gaps_end_at_local_time_on_days_of_23_or_25_hours(first: datetime) -> None:
    last = (first + timedelta(hours=36)).astimezone(BERLIN).replace(hour=0).astimezone(UTC)  # the next midnight
    half = timedelta(hours=6)
    frame = frame_of((first - half, last + half), [(first, last)])
    figure = state_bands({"carrier": [(first - half, "registered")]}, frame, title="Registration")
    midnights = [moment.astimezone(BERLIN).replace(tzinfo=None) for moment in (first, last)]
    registered, gap = figure.data
    assert [registered.base[0] + timedelta(milliseconds=registered.x[0]), registered.base[1]] == midnights
    reach = timedelta(milliseconds=gap.width[0]) / 2
    assert [gap.x[0] - reach, gap.x[0] + reach] == midnights


def test_a_band_in_the_repeated_hour_keeps_its_length() -> None:
    start = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)  # 02:50, and 20 minutes later it is 02:10
    end = start + timedelta(minutes=20)
    span = (start - timedelta(hours=3), end)
    snapshots = {"carrier": [(start, "rejected")]}
    figure = state_bands(snapshots, frame_of(span), title="Registration")
    assert figure.data[0].x == (20 * 60_000,)


def test_a_legend_has_rows_below_the_title_that_fit_a_narrow_chart() -> None:
    one_state = draw_bands([(at(0), "registered")])
    before = one_state.layout.height, one_state.layout.margin.t
    fit_legend(one_state)
    assert (one_state.layout.height - before[0], one_state.layout.margin.t > before[1]) == (19, True)
    four_states = draw_bands(
        [(at(n), name) for n, name in enumerate(("registered", "rejected", "unreachable", "unregistered"))]
    )
    before = four_states.layout.height, four_states.layout.margin.t
    fit_legend(four_states)
    assert four_states.layout.height - before[0] == 38  # two by two


def test_a_chart_of_one_row_keeps_room_for_its_axis() -> None:
    figure = draw_bands([(at(0), "registered")])
    plot_px = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    assert plot_px - figure.layout.minreducedheight >= 60  # two lines of labels, and the axis title
