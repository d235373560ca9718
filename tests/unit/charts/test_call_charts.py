"""Charts of calls, agents' days and trunks: gaps, the query of each point, and the hover text."""

from datetime import UTC, date, datetime, timedelta
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from pbx.charts import LIGHT, TimeFrame, line_chart
from pbx.charts.calls import ActivitySpan, NamedValue, agent_days_chart, direction_bars, named_alt, named_bars
from pbx.charts.heat import week_heat
from pbx.charts.trunks import Point, load_chart, ratio_chart

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 7, 1, 6, tzinfo=UTC)  # 08:00 in Berlin
HOUR = timedelta(hours=1)
LATER = START + 24 * HOUR
SPAN = (START, START + 4 * HOUR)
GAP = (START + 2 * HOUR, START + 4 * HOUR)


FRAME = TimeFrame(SPAN, [GAP], BERLIN, LIGHT, LATER)


def query_of(point) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(point[0]).items()}


def test_bars_by_direction_select_their_calls_and_gaps_are_hatched() -> None:
    counts = [(START, START + HOUR, {"inbound": 3, "outbound": 1}), (START + HOUR, START + 2 * HOUR, {})]
    figure = direction_bars(counts, FRAME, title="Calls", step="hour")
    inbound, outbound, gap = figure.data
    assert (list(inbound.y), list(outbound.y)) == ([3], [1])
    assert query_of(outbound.customdata[0]) == {
        "from": str(int(START.timestamp())),
        "until": str(int((START + HOUR).timestamp())),
        "direction": "outbound",
    }
    assert gap.customdata[0][1] == "Wed 1 Jul 10:00 – Wed 1 Jul 12:00"
    assert gap.customdata[0][0] == ""  # not clickable
    assert figure.layout.yaxis.tickmode == "linear"  # integer steps of its own, not those of the second axis


def test_bars_by_name_have_integer_ticks() -> None:
    bars = [NamedValue("did=1", "<b>100</b>", 12_345, "said")]
    figure = named_bars(bars, title="Numbers", unit="Calls", palette=LIGHT, zone=BERLIN)
    assert figure.data[0].customdata[0][0] == "did=1"
    assert figure.layout.yaxis.ticktext == ("&lt;b&gt;100&lt;/b&gt;",)
    assert (figure.layout.xaxis.tickformat, figure.layout.xaxis.tickformatstops) == (",", ())


def test_an_hour_of_the_week_without_data_is_empty() -> None:
    values = [[None] * 24 for _ in range(7)]
    values[2][9] = 4
    hover_texts = [[f"{day} {hour}" for hour in range(24)] for day in range(7)]
    (squares,) = week_heat(values, hover_texts, title="Week", zone=BERLIN, palette=LIGHT).data
    assert [list(point) for point in squares.customdata] == [["weekday=2&hour=9", "2 9"]]


def test_a_call_in_the_day_chart_selects_the_time_it_joined() -> None:
    joined = (START, START + timedelta(seconds=1))
    talk = ActivitySpan("On a call", START + timedelta(seconds=20), START + timedelta(minutes=5), "queue 600", joined)
    night = ActivitySpan("No data", START - 10 * HOUR, START - 6 * HOUR)
    figure = agent_days_chart(
        [talk, night], [date(2026, 7, 1), date(2026, 6, 30)], title="", zone=BERLIN, palette=LIGHT
    )
    bars = {bar.name: bar for bar in figure.data}
    assert query_of(bars["On a call"].customdata[0])["from"] == str(int(START.timestamp()))
    night_bars = bars["No data"]
    assert (list(night_bars.base), list(night_bars.x)) == (
        [22.0, 0.0],
        [2.0, 2.0],
    )  # until midnight, and from midnight on


def test_trunk_lines_select_their_calls_and_keep_their_axis() -> None:
    points = [Point(START, START + HOUR, 50.0, "1 of 2"), Point(START + HOUR, START + 2 * HOUR, None, "n/a")]
    figure = ratio_chart({"ASR": points}, FRAME, title="", unit="%", top=104)
    line, gap = figure.data
    assert query_of(line.customdata[0]) == {"from": "1782885600", "until": "1782889200"}
    assert (line.yaxis, gap.yaxis) == (None, "y2")
    assert (tuple(figure.layout.yaxis.range), tuple(figure.layout.yaxis2.range)) == ((0, 104), (0, 1))
    assert figure.layout.yaxis.tickmode == "auto"


def test_the_load_chart_shows_capacity_and_restarts() -> None:
    points = [Point(START, START + HOUR, 3, "3")]
    figure = load_chart(
        *(points, points, FRAME), title="", step="hour", lines=30, resets=[(START + HOUR, "Asterisk restarted")]
    )
    limit, restart = figure.layout.shapes
    assert (limit.y0, limit.y1, restart.x0) == (30, 30, datetime(2026, 7, 1, 9))  # noqa: DTZ001  # local
    assert figure.layout.annotations[0].text == "Capacity: 30 lines"
    assert figure.layout.yaxis.range[1] > 30


def test_snapshots_show_resets_and_gaps_too() -> None:
    figure = line_chart(
        {"Calls": [(START, 1.0)]},
        FRAME,
        title="",
        unit="Calls",
        resets=[(START + HOUR, "The counters of 600 were reset")],
    )
    assert [trace.customdata[0][1] for trace in figure.data[1:]] == [
        "Wed 1 Jul 10:00 – Wed 1 Jul 12:00",
        "The counters of 600 were reset, Wed 1 Jul 09:00",
    ]


def test_alt_text_shows_durations_with_units() -> None:
    assert named_alt("Pauses", [NamedValue("", "Lunch", 5400.0, "")], durations=True) == "Pauses: Lunch 1 h 30 min."


NOON = datetime(2026, 7, 1, 10, tzinfo=UTC)  # noon in Berlin
SO_FAR = "So far, until 12:00"


def two_days() -> list[tuple[datetime, datetime]]:
    """Yesterday and today, each from midnight to midnight in Berlin. At noon today is unfinished."""
    midnight = datetime(2026, 6, 30, 22, tzinfo=UTC)
    return [(midnight - 24 * HOUR, midnight), (midnight, midnight + 24 * HOUR)]


def two_days_frame(now: datetime) -> TimeFrame:
    (start, _), (_, end) = two_days()
    return TimeFrame((start, end), [], BERLIN, LIGHT, now)


def test_the_bar_of_an_unfinished_day_is_pale_and_labelled() -> None:
    past, today = two_days()
    counts = [(*past, {"inbound": 9}), (*today, {"inbound": 4})]
    figure = direction_bars(counts, two_days_frame(NOON), title="Calls", step="day")
    bars, legend = figure.data
    assert bars.marker.opacity[0] == 1 > bars.marker.opacity[1]
    assert bars.marker.line.width == (0, 1.5)
    assert SO_FAR not in bars.customdata[0][1]
    assert bars.customdata[1][1] == f"Wed 1 Jul 2026<br>{SO_FAR}"
    assert (legend.name, legend.x) == (SO_FAR, (None,))


def test_a_period_that_is_over_has_no_unfinished_day() -> None:
    past, today = two_days()
    counts = [(*past, {"inbound": 9}), (*today, {"inbound": 4})]
    (bars,) = direction_bars(counts, two_days_frame(NOON + 24 * HOUR), title="Calls", step="day").data
    assert bars.marker.opacity is None
    assert "So far" not in str(bars.customdata)


def test_an_unfinished_day_is_a_hollow_point_on_a_dotted_line() -> None:
    past, today = two_days()
    points = [Point(*past, 50.0, "1 of 2"), Point(*today, 100.0, "1 of 1")]
    figure = ratio_chart({"ASR": points}, two_days_frame(NOON), title="", unit="%")
    line, segment, legend = figure.data
    assert line.y == (50, None, 100)  # no solid line leads to today
    assert line.marker.symbol[-1] == "circle-open"
    assert line.customdata[2][1] == f"1 of 1<br>{SO_FAR}"
    assert (segment.y, segment.line.dash, segment.hoverinfo) == ((50, 100), "1px,4px", "skip")
    assert legend.name == SO_FAR


def test_an_unfinished_hour_is_pale_in_the_load_chart() -> None:
    points = [Point(START, START + HOUR, 3, "3"), Point(START + HOUR, START + 2 * HOUR, 1, "1")]
    frame = TimeFrame(SPAN, [], BERLIN, LIGHT, START + HOUR + timedelta(minutes=5))
    figure = load_chart(points, points, frame, title="", step="hour", lines=None)
    bars = figure.data[0]
    assert bars.marker.opacity[1] < bars.marker.opacity[0]
    assert bars.customdata[1][1] == "1<br>So far, until 09:05"
