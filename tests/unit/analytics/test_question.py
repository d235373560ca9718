"""Questions are read from JSON, checked, and become SQL; relative periods and comparisons become moments."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from pbx.analytics.question import (
    Question,
    QuestionFilter,
    QuestionPeriod,
    compared_periods,
    question_from_json,
)
from pbx.analytics.question_sql import question_sql
from pbx.errors import DataError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 12, 2, 10, 30, tzinfo=UTC)  # a Wednesday, 11:30 in Berlin
SINCE, UNTIL = datetime(2026, 11, 22, 23, tzinfo=UTC), datetime(2026, 11, 29, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "first", "end"),
    [
        (QuestionPeriod(name="today"), "2026-12-02", "2026-12-03"),
        (QuestionPeriod(name="yesterday"), "2026-12-01", "2026-12-02"),
        (QuestionPeriod(name="this_week"), "2026-11-30", "2026-12-03"),
        (QuestionPeriod(name="last_week"), "2026-11-23", "2026-11-30"),
        (QuestionPeriod(name="this_month"), "2026-12-01", "2026-12-03"),
        (QuestionPeriod(name="last_month"), "2026-11-01", "2026-12-01"),
        (QuestionPeriod(name="last_days", days=30), "2026-11-02", "2026-12-02"),
        (QuestionPeriod(name="since", first=date(2026, 1, 5)), "2026-01-05", "2026-12-03"),
        (QuestionPeriod(name="between", first=date(2026, 3, 28), last=date(2026, 3, 29)), "2026-03-28", "2026-03-30"),
        (QuestionPeriod(name="all"), None, "2026-12-03"),
    ],
)
def test_a_period_is_days_of_the_pbx(period: QuestionPeriod, first: str | None, end: str) -> None:
    since, until = period.bounds(NOW, BERLIN)
    assert until == datetime.fromisoformat(end).replace(tzinfo=BERLIN)
    assert since == (datetime.fromisoformat(first).replace(tzinfo=BERLIN) if first else None)


def test_a_question_becomes_sql() -> None:
    question = Question(
        dataset="queue_visits",
        measures=("offered", "answer_rate"),
        rows="agent",
        columns="weekday",
        filters=(
            QuestionFilter(field="queue", values=("600", "O'Neill's")),
            QuestionFilter(field="hour_of_day", values=(9, 10, 11)),
            QuestionFilter(field="wait_s", at_least=5, at_most=20.5),
            QuestionFilter(field="agent", values=("",), exclude=True),
        ),
    )
    assert question_sql(question, "pbx.example", SINCE, UNTIL) == (
        """SELECT
  agent,
  isodow(joined_local) AS weekday,
  count(*) AS offered,
  count(*) FILTER (answered) / nullif(count(*), 0) AS answer_rate,
  count(*) AS answer_rate_of,
  count(*) AS n
FROM queue_visits
WHERE pbx = 'pbx.example'
  AND joined_at >= TIMESTAMP '2026-11-22 23:00:00'
  AND joined_at < TIMESTAMP '2026-11-29 23:00:00'
  AND queue IN ('600', 'O''Neill''s')
  AND hour(joined_local) IN (9, 10, 11)
  AND wait_s >= 5 AND wait_s <= 20.5
  AND coalesce(NOT (coalesce(CAST(agent AS VARCHAR), '') = ''), true)
GROUP BY agent, isodow(joined_local)
ORDER BY weekday, offered DESC NULLS LAST, agent
LIMIT 10000"""
    )


def test_a_question_survives_json() -> None:
    question = Question(
        dataset="calls",
        measures=("calls",),
        rows="day",
        filters=(QuestionFilter(field="recorded", values=(True,)), QuestionFilter(field="talk_s", at_least=600)),
        period=QuestionPeriod(name="between", first=date(2026, 1, 1), last=date(2026, 1, 31)),
        comparison="mean_of_weeks",
        chart="lines",
    )
    assert question_from_json(question.model_dump_json()) == question
    assert question_from_json(question.model_dump_json(exclude_defaults=True)) == question


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "The question can't be read: Invalid JSON"),
        ("[]", "The question can't be read: Input should be an object"),
        ('{"version": 2, "dataset": "calls", "measures": ["calls"]}', "saved by a newer version"),
        ('{"dataset": "people", "measures": ["calls"]}', "dataset: Input should be 'calls', 'queue_visits'"),
        ('{"dataset": "calls", "measures": ["cals"]}', "'cals' is no measure of this dataset; did you mean calls."),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "weekday", "values": ["Monday"]}]}',
            "weekday takes 1 (Mon), 2 (Tue), 3 (Wed), 4 (Thu), 5 (Fri), 6 (Sat), 7 (Sun), not 'Monday'",
        ),
        (
            '{"dataset": "calls", "measures": ["calls"], "period": {"name": "since", "first": "24.11.2026"}}',
            "period.first: write a date as 2026-11-24",
        ),
        (
            '{"dataset": "calls", "measures": []}',
            "a question needs one measure or more, unless its chart is histogram or box",
        ),
        ('{"dataset": "calls", "chart": "box", "number": "weight"}', "'weight' is no number of this dataset"),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "day", "values": ["Monday"]}]}',
            "day takes moments of the PBX's clock such as 2026-11-24 or 2026-11-24T09:00, not 'Monday'",
        ),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "day", "values": ["2026-11-24T09Z"]}]}',
            "day takes moments of the PBX's clock such as",
        ),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "queue", "at_least": 600}]}',
            "at_least, at_most and below work only with numbers: wait_s, talk_s, duration_s, rating",
        ),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "wait_s", "values": ["long"]}]}',
            "wait_s takes integers as values, or at_least, at_most and below",
        ),
        (
            '{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "wait_s", "at_least": NaN}]}',
            "filters.0.at_least: Input should be a finite number",
        ),
        (
            '{"dataset": "calls", "chart": "histogram", "number": "wait_s", "sort": "n"}',
            "a histogram is in the order of its bins, so it has no sort",
        ),
        ('{"dataset": "calls", "measures": ["asr"]}', "'asr' is no measure of this dataset; it has calls, inbound"),
        ('{"dataset": "calls", "measures": ["calls"], "rows": "1; DROP TABLE"}', "is no dimension of this dataset"),
        (
            '{"dataset": "calls", "measures": ["calls"], "sort": "talk"}',
            "sort has to be a measure or a dimension of the question: calls",
        ),
        ('{"dataset": "calls", "measures": ["calls"], "rows": "day", "split": "day"}', "can be used only once"),
        ('{"dataset": "calls", "measures": ["calls"], "filters": [{"field": "password"}]}', "'password' is no filter"),
        ('{"dataset": "calls", "measures": ["calls"], "limit": 1000000}', "limit: Input should be less than or equal"),
        ('{"dataset": "calls", "measures": ["calls"], "colour": 1}', "colour: there is no such field"),
        ('{"dataset": "calls", "measures": ["calls"], "period": {"name": "since"}}', "period: the period needs"),
        (
            '{"dataset": "calls", "measures": ["calls"], "period":'
            ' {"name": "between", "first": "2026-02-01", "last": "2026-01-01"}}',
            "must be on or after its first day",
        ),
    ],
)
def test_a_broken_question_gets_a_clear_message(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        question_from_json(text)
    assert message in str(error.value)
    assert error.value.fix


@pytest.mark.parametrize(
    ("comparison", "firsts", "ends"),
    [
        ("period_before", ["2026-11-27"], ["2026-11-29 11:30"]),
        ("week_before", ["2026-11-23"], ["2026-11-25 11:30"]),
        ("year_before", ["2025-12-01"], ["2025-12-03 11:30"]),
        (
            "mean_of_weeks",
            ["2026-11-23", "2026-11-16", "2026-11-09", "2026-11-02"],
            ["2026-11-25 11:30", "2026-11-18 11:30", "2026-11-11 11:30", "2026-11-04 11:30"],
        ),
    ],
)
def test_an_unfinished_period_is_compared_up_to_the_same_point(
    comparison: str, firsts: list[str], ends: list[str]
) -> None:
    question = Question.model_validate({"dataset": "calls", "measures": ["calls"], "comparison": comparison})
    monday = datetime(2026, 11, 30, tzinfo=BERLIN).astimezone(UTC)
    found = compared_periods(question, monday, datetime(2026, 12, 3, tzinfo=BERLIN), NOW, BERLIN)
    local = [tuple(at.astimezone(BERLIN).replace(tzinfo=None) for at in period) for period in found]
    assert [first for first, _ in local] == [datetime.fromisoformat(first) for first in firsts]
    assert [end for _, end in local] == [datetime.fromisoformat(end) for end in ends]


def test_all_time_is_compared_with_nothing() -> None:
    question = Question(dataset="calls", measures=("calls",), comparison="period_before")
    assert compared_periods(question, None, UNTIL, NOW, BERLIN) == []
