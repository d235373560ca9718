"""Bar charts: zero is a bar without height, unknown days are shaded, and the hover text has the numbers."""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from pbx.charts import DARK, LIGHT, MentionCount, bars_alt, day_bars, name_bars

BERLIN = ZoneInfo("Europe/Berlin")
DAYS = [date(2026, 7, number) for number in range(1, 5)]
LATER = datetime(2026, 8, 1, tzinfo=BERLIN)
MENTIONS = {
    DAYS[0]: MentionCount(6, 3, 12),
    DAYS[1]: MentionCount(0, 0, 8),
    DAYS[3]: MentionCount(1, 1, 3),
}  # the third day has no data


def draw_days(series=None, *, share=False, palette=LIGHT, now=LATER):
    series = {"refund": MENTIONS} if series is None else series
    return day_bars(series, DAYS, title="How often", share=share, zone=BERLIN, palette=palette, now=now)


def draw_names(series, *, share=False):
    return name_bars(series, title="How often", share=share, nameless="No queue", zone=BERLIN, palette=LIGHT)


def noon(day: date) -> datetime:
    return datetime.combine(day, time(12))


def test_zero_is_drawn_and_missing_data_is_not() -> None:
    bars, no_data = draw_days().data
    assert list(zip(bars.x, bars.y, strict=True)) == [(noon(DAYS[0]), 6), (noon(DAYS[1]), 0), (noon(DAYS[3]), 1)]
    assert list(no_data.x) == [noon(DAYS[2])]
    assert "No transcribed calls" in no_data.hovertemplate


def test_a_day_without_data_is_shaded_from_midnight_to_midnight() -> None:
    (shade,) = draw_days().layout.shapes
    assert (shade.x0, shade.x1) == (datetime(2026, 7, 3), datetime(2026, 7, 4))  # noqa: DTZ001  # local time, as on the axis


def test_the_hover_text_shows_numerator_and_denominator() -> None:
    first, zero, _ = draw_days().data[0].customdata
    assert first == ["refund", "2026-07-01", "6 mentions, in 3 of 12 calls (25%)"]
    assert zero == ["refund", "2026-07-02", "0 mentions, in 0 of 8 calls (0%)"]


def test_a_share_is_of_the_transcribed_calls() -> None:
    figure = draw_days(share=True)
    assert list(figure.data[0].y)[:2] == [25.0, 0.0]
    assert figure.layout.yaxis.title.text == "Calls with a mention (%)"
    assert MentionCount(0, 0, 0).share is None


def test_each_phrase_has_a_row_with_the_same_scale() -> None:
    figure = draw_days({"a": MENTIONS, "b": {DAYS[0]: MentionCount(90, 9, 9)}, "c": {}})
    assert [bar.yaxis for bar in figure.data[:3]] == ["y", "y2", "y3"]
    axes = [figure.layout.yaxis, figure.layout.yaxis2, figure.layout.yaxis3]
    assert len({axis.range for axis in axes}) == 1
    assert axes[0].domain[0] > axes[1].domain[1] > axes[1].domain[0] > axes[2].domain[1]
    assert figure.layout.xaxis.anchor == "y3"
    assert len({bar.marker.pattern.shape for bar in figure.data[:3]}) == 3


def test_names_are_ordered_by_height_and_calls_without_a_name_have_a_label() -> None:
    (bars,) = draw_names(
        {"refund": {"600": MentionCount(2, 2, 4), "": MentionCount(9, 3, 4), "<b>": MentionCount(0, 0, 2)}}
    ).data
    assert list(bars.y) == ["&lt;b&gt;", "600", "No queue"]  # the axis starts at the bottom
    assert [data[1] for data in bars.customdata] == ["<b>", "600", ""]


def test_phrases_keep_their_order_in_bars_by_name() -> None:
    figure = draw_names({"first": {"600": MentionCount(1, 1, 1)}, "second": {"600": MentionCount(1, 1, 1)}})
    assert [bar.name for bar in figure.data] == ["second", "first"]
    assert figure.layout.legend.traceorder == "reversed"
    assert figure.data[1].marker.color == LIGHT.lines[0]


def test_without_data_the_figure_is_empty() -> None:
    assert draw_days({"refund": {}}).data[0].x in ((), None)
    assert draw_days({}, palette=DARK).data[0].name == "No transcribed calls"
    assert draw_names({"refund": {}}).data[0].y in ((), None)


def test_alt_text_has_the_total_and_the_maximum() -> None:
    assert bars_alt("By day", {"refund": MENTIONS}) == "By day: refund 7 mentions, most at 2026-07-01 with 6."
    assert bars_alt("By day", {"refund": {}}) == "By day: no data."


def test_an_unfinished_day_is_pale_and_labelled() -> None:
    bars, _, legend = draw_days(now=datetime(2026, 7, 4, 14, 5, tzinfo=BERLIN)).data
    assert bars.marker.opacity == (1, 1, 0.45)
    assert bars.customdata[2][2] == "1 mention, in 1 of 3 calls (33%)<br>So far, until 14:05"
    assert legend.name == "So far, until 14:05"
