"""Questions: what an analyst wants to know of a dataset of the catalog, as data.

A question is kept as JSON and fits into a URL. pbx.analytics.question_sql writes the SQL that answers it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from pbx.analytics.catalog import CATALOG, CatalogEntry, CatalogName, Measure, spread_measures
from pbx.errors import DataError

VERSION: Final = 1
MAX_ROWS = 10_000
ROWS = "n"  # the column with the number of rows that a figure is of
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
    "last_days": "Last N days",
    "since": "Since a date",
    "between": "Between two dates",
    "all": "All time",
}
SPREADS: tuple[Chart, ...] = ("histogram", "box")  # charts of a number's values, instead of measures
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

    `field` is a dimension or a column of numbers of the catalog. Both ends of the range are included; `below` is an
    upper end that isn't. Intervals are written as 2026-11-24 or 2026-11-24T09:00.
    """

    field: str
    values: tuple[str | int | bool, ...] = Field(default=(), max_length=1000)
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    below: FiniteFloat | None = None
    exclude: bool = False


class Question(_Data):
    """A question about a dataset: measures by up to two dimensions (`rows`, `columns`) and a split.

    `number`: a column of numbers of which a histogram or a box plot shows how it is spread; these have no measures.
    `sort`: a measure or a dimension, the largest first unless `ascending`; "" sorts intervals and ranges in their
    order, and names by the first measure.
    """

    version: Literal[1] = VERSION
    dataset: CatalogName
    measures: tuple[str, ...] = Field(default=(), max_length=12)
    number: str = ""
    rows: str = ""
    columns: str = ""
    split: str = ""
    filters: tuple[QuestionFilter, ...] = Field(default=(), max_length=50)
    period: QuestionPeriod = QuestionPeriod()
    comparison: Comparison = ""
    sort: str = ""
    ascending: bool = False
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)
    chart: Chart = "table"

    @model_validator(mode="after")
    def _check(self) -> "Question":
        entry = self.entry
        _check_names("measure", self.measures, entry.measures)
        _check_names("dimension", self.dimensions, entry.dimensions)
        _check_names("filter", (one.field for one in self.filters), {**entry.dimensions, **entry.numbers})
        if self.chart in SPREADS:
            _check_names("number", (self.number,), entry.numbers)
        elif not self.measures:
            raise ValueError("a question needs one measure or more, unless its chart is histogram or box")
        sortable = (*self.figures, *self.dimensions)
        if self.sort and self.chart == "histogram":
            raise ValueError("a histogram is in the order of its bins, so it has no sort")
        if self.sort and self.sort not in sortable:
            raise ValueError(f"sort has to be a measure or a dimension of the question: {', '.join(sortable)}")
        for one in self.filters:
            _check_filter(one, entry)
        if len({*self.dimensions}) < len(self.dimensions):
            raise ValueError("a dimension can be used only once")
        return self

    @property
    def entry(self) -> CatalogEntry:
        """What the catalog says about the dataset."""
        return CATALOG[self.dataset]

    @property
    def figures(self) -> Mapping[str, Measure]:
        """The measures of the answer: those chosen or, for a box plot, those that draw it. A histogram has none."""
        if self.chart in SPREADS:
            return spread_measures(self.number) if self.chart == "box" else {}
        return {name: self.entry.measures[name] for name in self.measures}

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


def _check_filter(chosen: QuestionFilter, entry: CatalogEntry) -> None:
    dimension = entry.dimensions.get(chosen.field)
    if dimension is None:
        if not all(type(value) is int for value in chosen.values):
            raise ValueError(f"{chosen.field} takes integers as values, or at_least, at_most and below")
        return
    if not all(end is None for end in (chosen.at_least, chosen.at_most, chosen.below)):
        raise ValueError(f"at_least, at_most and below work only with numbers: {', '.join(entry.numbers)}")
    if dimension.kind == "moment":
        wrong = [value for value in chosen.values if value != "" and not _is_moment(value)]
        takes = "moments of the PBX's clock such as 2026-11-24 or 2026-11-24T09:00"
    elif dimension.kind in ("cycle", "range"):
        wrong = [value for value in chosen.values if value != "" and value not in dimension.labels]
        takes = ", ".join(f"{value} ({label})" for value, label in dimension.labels.items())
    else:
        return
    if wrong:
        raise ValueError(f"{chosen.field} takes {takes}, not {wrong[0]!r}")


def _is_moment(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is None
    except ValueError:
        return False


def _reason(error: Mapping[str, Any]) -> str:
    """Why a value is refused, in words that need no knowledge of the checks."""
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if str(error["type"]).startswith("date"):
        return "write a date as 2026-11-24"
    return str(error["msg"]).removeprefix("Value error, ")
