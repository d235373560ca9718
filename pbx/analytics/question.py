"""Questions: what an analyst asks of a dataset of the catalog, as data, and the SQL that answers it.

A question is kept as JSON, fits into a URL, and gives the same SQL for the same period. The SQL is that of the
documented views (docs/queries.md), so it can be read, changed and run by the analyst.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pbx.analytics.catalog import CATALOG, CatalogEntry, CatalogName, Dimension
from pbx.analytics.engine import text_literal
from pbx.errors import DataError

VERSION: Final = 1
MAX_ROWS = 10_000
PeriodName = Literal[
    "today",
    "yesterday",
    "this_week",
    "last_week",
    "this_month",
    "last_month",
    "last_days",
    "since",
    "between",
    "all",
]
Comparison = Literal["", "period_before", "week_before", "year_before", "mean_of_weeks"]
Chart = Literal["table", "bars", "lines", "area", "heat_map", "histogram", "scatter", "box"]
PERIOD_LABELS: dict[PeriodName, str] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "this_week": "This week",
    "last_week": "Last week",
    "this_month": "This month",
    "last_month": "Last month",
    "last_days": "Last days",
    "since": "Since a date",
    "between": "Between two dates",
    "all": "All time",
}
COMPARISON_LABELS: dict[Comparison, str] = {
    "": "No comparison",
    "period_before": "Period before",
    "week_before": "Same days, week before",
    "year_before": "Same days, year before",
    "mean_of_weeks": "Average of the four weeks before",
}
_WEEKS = 4  # of `mean_of_weeks`
_YEAR = timedelta(days=364)  # 52 weeks, so that each day is compared with the same weekday


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuestionPeriod(_Data):
    """The days a question is about, in the PBX's time zone. Both dates of "between" are included.

    "last_days" are the last `days` complete days before today.
    """

    name: PeriodName = "last_days"
    days: int = Field(default=7, ge=1, le=3660)
    first: date | None = None  # of "since" and "between"
    last: date | None = None  # of "between"

    @model_validator(mode="after")
    def _check(self) -> "QuestionPeriod":
        if self.name in ("since", "between") and self.first is None:
            raise ValueError("the period needs its first day")
        if self.name == "between" and (self.last is None or (self.first and self.last < self.first)):
            raise ValueError("the period's last day must be on or after its first day")
        return self

    def bounds(self, now: datetime, zone: tzinfo) -> tuple[datetime | None, datetime]:
        """The period as moments in UTC, the end not included; no start for all time."""
        today = now.astimezone(zone).date()
        tomorrow, month = today + timedelta(days=1), today.replace(day=1)
        monday = today - timedelta(days=today.weekday())
        first, end = {
            "today": (today, tomorrow),
            "yesterday": (today - timedelta(days=1), today),
            "this_week": (monday, tomorrow),
            "last_week": (monday - timedelta(days=7), monday),
            "this_month": (month, tomorrow),
            "last_month": ((month - timedelta(days=1)).replace(day=1), month),
            "last_days": (today - timedelta(days=self.days), today),
            "since": (self.first, tomorrow),
            "between": (self.first, self.last and self.last + timedelta(days=1)),
            "all": (None, tomorrow),
        }[self.name]
        return (_midnight(first, zone) if first else None), _midnight(end or tomorrow, zone)


class QuestionFilter(_Data):
    """Rows whose dimension has one of the values, or whose number is in a range; `exclude`: all other rows.

    `field` is a dimension or a column of numbers of the catalog. Both ends of the range are included.
    """

    field: str
    values: tuple[str | int | bool, ...] = Field(default=(), max_length=1000)
    at_least: float | None = None
    at_most: float | None = None
    exclude: bool = False


class Question(_Data):
    """A question about a dataset: measures by up to two dimensions (`rows`, `columns`) and a split.

    `sort`: a measure; "" sorts intervals and ranges in their order, and names by the first measure.
    """

    version: Literal[1] = VERSION
    dataset: CatalogName
    measures: tuple[str, ...] = Field(min_length=1, max_length=12)
    rows: str = ""
    columns: str = ""
    split: str = ""
    filters: tuple[QuestionFilter, ...] = Field(default=(), max_length=50)
    period: QuestionPeriod = QuestionPeriod()
    comparison: Comparison = ""
    sort: str = ""
    limit: int = Field(default=1000, ge=1, le=MAX_ROWS)
    chart: Chart = "table"

    @model_validator(mode="after")
    def _check(self) -> "Question":
        entry = self.entry
        _check_names("measure", self.measures, entry.measures)
        _check_names("dimension", self.dimensions, entry.dimensions)
        _check_names("filter", (one.field for one in self.filters), {**entry.dimensions, **entry.numbers})
        if self.sort and self.sort not in self.measures:
            raise ValueError(f"sort has to be one of the question's measures: {', '.join(self.measures)}")
        for one in self.filters:
            _check_values(one, entry.dimensions.get(one.field))
        if len({*self.dimensions}) < len(self.dimensions):
            raise ValueError("a dimension can be used only once")
        return self

    @property
    def entry(self) -> CatalogEntry:
        """What the catalog says about the dataset."""
        return CATALOG[self.dataset]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions of the answer: rows, columns, split."""
        return tuple(name for name in (self.rows, self.columns, self.split) if name)


def question_from_json(text: str) -> Question:
    """Read a kept question. Raises DataError if it is damaged, of a newer version, or asks for unknown things."""
    try:
        return Question.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if where == "version":
            raise DataError(
                "This question was saved by a newer version of PBX Notebook.", "Update the app, then open it again."
            ) from None
        raise DataError(
            f"The question can't be read: {f'{where}: ' if where else ''}{_reason(first).rstrip('.?')}.",
            "docs/questions.md describes the fields.",
        ) from None


def question_sql(question: Question, pbx: str, since: datetime | None, until: datetime) -> str:
    """The statement that answers a question for a PBX (its name) and a period.

    Its columns are the dimensions, the measures, and for each ratio its denominator as `<measure>_of`.
    """
    entry = question.entry
    columns = [f"{entry.dimensions[name].sql} AS {name}" for name in question.dimensions]
    for name in question.measures:
        measure = entry.measures[name]
        columns.append(f"{measure.sql} AS {name}")
        if measure.per:
            columns.append(f"{measure.per} AS {name}_of")
    bounds = [f"{entry.at} >= {_moment(since)}"] if since else []
    conditions = [f"pbx = {text_literal(pbx)}", *bounds, f"{entry.at} < {_moment(until)}"]
    conditions += [_condition(entry, one) for one in question.filters]
    lines = ["SELECT", ",\n".join(f"  {column}" for column in columns), f"FROM {question.dataset}"]
    lines.append("WHERE " + "\n  AND ".join(conditions))
    if question.dimensions:
        lines += ["GROUP BY ALL", f"ORDER BY {', '.join(_order(question))}"]
    return "\n".join([*lines, f"LIMIT {question.limit}"])


def compared_periods(
    question: Question, since: datetime | None, until: datetime, now: datetime, zone: tzinfo
) -> list[tuple[datetime, datetime]]:
    """The periods that a question's period is compared with; several for an average.

    A period that isn't over is compared up to the same point: today until ten with the Monday before until ten.
    """
    if since is None or not question.comparison:
        return []
    reached = min(until, now)
    days = (until.astimezone(zone).date() - since.astimezone(zone).date()).days
    shifts = {
        "period_before": [timedelta(days=days)],
        "week_before": [timedelta(days=7)],
        "year_before": [_YEAR],
        "mean_of_weeks": [timedelta(days=7 * week) for week in range(1, _WEEKS + 1)],
    }[question.comparison]
    return [(_moved(since, shift, zone), _moved(reached, shift, zone)) for shift in shifts]


def _order(question: Question) -> Iterable[str]:
    """Intervals and ranges in their order, names by a measure, ties by name."""
    entry = question.entry
    if question.sort:
        return [f"{question.sort} DESC NULLS LAST", *question.dimensions]
    named = [name for name in question.dimensions if entry.dimensions[name].kind == "name"]
    in_order = [name for name in question.dimensions if name not in named]
    return [*in_order, *([f"{question.measures[0]} DESC NULLS LAST"] if named else []), *named]


def _condition(entry: CatalogEntry, chosen: QuestionFilter) -> str:
    dimension: Dimension | None = entry.dimensions.get(chosen.field)
    sql = dimension.sql if dimension else chosen.field
    parts = []
    if chosen.values:
        known = [value for value in chosen.values if value != ""]
        found = [f"{sql} IN ({', '.join(map(_literal, known))})"] if known else []
        if len(known) < len(chosen.values):
            found.append(f"coalesce(CAST({sql} AS VARCHAR), '') = ''")
        parts.append(f"({' OR '.join(found)})" if len(found) > 1 else found[0])
    parts += [f"{sql} >= {chosen.at_least:g}"] if chosen.at_least is not None else []
    parts += [f"{sql} <= {chosen.at_most:g}"] if chosen.at_most is not None else []
    found_sql = " AND ".join(parts) or "true"
    return f"coalesce(NOT ({found_sql}), true)" if chosen.exclude else found_sql


def _literal(value: str | int | bool) -> str:
    return text_literal(value) if isinstance(value, str) else str(value)


def _moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _moved(at: datetime, by: timedelta, zone: tzinfo) -> datetime:
    return (at.astimezone(zone).replace(tzinfo=None) - by).replace(tzinfo=zone).astimezone(UTC)


def _check_names(what: str, names: Iterable[str], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise ValueError(f"{name!r} is no {what} of this dataset; {hint}")


def _check_values(chosen: QuestionFilter, dimension: Dimension | None) -> None:
    if dimension is None or dimension.kind not in ("cycle", "range"):
        return
    wrong = [value for value in chosen.values if value != "" and value not in dimension.labels]
    if wrong:
        takes = ", ".join(f"{value} ({label})" for value, label in dimension.labels.items())
        raise ValueError(f"{chosen.field} takes {takes}, not {wrong[0]!r}")


def _reason(error: Mapping[str, Any]) -> str:
    """Why a value is refused, in words that need no knowledge of the checks."""
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if str(error["type"]).startswith("date"):
        return "write a date as 2026-11-24"
    return str(error["msg"]).removeprefix("Value error, ")
