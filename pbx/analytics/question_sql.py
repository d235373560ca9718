"""Writes the SQL that answers a question of the catalog.

It is SQL about the documented views (docs/queries.md), so the analyst can read, change and run it. A question gives the
same SQL for the same period.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pbx.analytics.catalog import CatalogEntry, Dimension
from pbx.analytics.engine import text_literal
from pbx.analytics.question import ROWS, Question, QuestionFilter
from pbx.analytics.rows_to_columns import number_key

BIN = "bin_from"  # the column with the lower end of a histogram's bin
BIN_END = "bin_to"  # ... and with its upper end, NULL for the last bin, which has all that is above
_BINS = 40
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 86_400)


def question_sql(question: Question, pbx: str, since: datetime | None, until: datetime) -> str:
    """The statement that answers a question about a PBX (its name) and a period.

    Its columns are the dimensions, the measures, for each ratio its denominator as `<measure>_of`, and `n`: how many
    rows (calls, visits, rings) each line is about. Of a histogram: the dimensions, the ends of each bin, and `n`.
    """
    conditions = _conditions(question, pbx, since, until)
    if question.chart == "histogram":
        return _histogram_sql(question, conditions)
    entry = question.entry
    if question.chart == "box":
        conditions.append(f"{question.number} IS NOT NULL")
    columns = [_named(_shown(entry, name), name) for name in question.dimensions]
    for name, measure in question.figures.items():
        columns.append(f"{measure.sql} AS {name}")
        if measure.per:
            columns.append(f"{measure.per} AS {name}_of")
    columns.append(f"count(*) AS {ROWS}")
    lines = ["SELECT", _listed(columns), f"FROM {question.dataset}", _where(conditions)]
    if question.dimensions:
        lines.append(f"GROUP BY {', '.join(_group(entry.dimensions[name]) for name in question.dimensions)}")
        lines.append(f"ORDER BY {', '.join(_order(question))}")
    return "\n".join([*lines, f"LIMIT {question.limit}"])


def _histogram_sql(question: Question, conditions: Sequence[str]) -> str:
    """Bins of a round width; 99% of the values are in all but the last one."""
    entry, number = question.entry, question.number
    groups = [_named(_shown(entry, name, each_row=True), name) for name in question.dimensions]
    names = "".join(f"  {name},\n" for name in question.dimensions)
    widths = f"[{', '.join(map(str, _WIDTHS))}]"
    width = f"list_filter({widths}, lambda width: width * {_BINS - 1} > top)[1]"
    end = f"CASE WHEN value < {_BINS - 1} * width THEN (floor(value / width) + 1) * width END"
    return f"""WITH chosen AS (
  SELECT {", ".join([f"{number} AS value", *groups])}
  FROM {question.dataset}
  {_where([*conditions, f"{number} IS NOT NULL"])}
), bins AS (
  SELECT coalesce({width}, {_WIDTHS[-1]}) AS width
  FROM (SELECT quantile_cont(value, 0.99) AS top FROM chosen)
)
SELECT
{names}  floor(least(value / width, {_BINS - 1})) * width AS {BIN},
  {end} AS {BIN_END},
  count(*) AS {ROWS}
FROM chosen, bins
GROUP BY ALL
ORDER BY {", ".join([*question.dimensions, BIN])}
LIMIT {question.limit}"""


def _conditions(question: Question, pbx: str, since: datetime | None, until: datetime) -> list[str]:
    entry = question.entry
    bounds = [f"{entry.at} >= {_moment(since)}"] if since else []
    found = [f"pbx = {text_literal(pbx)}", *bounds, f"{entry.at} < {_moment(until)}"]
    return found + [_condition(entry, one) for one in question.filters]


def _shown(entry: CatalogEntry, name: str, *, each_row: bool = False) -> str:
    """The SQL of a dimension's value, of a group or of `each_row`. A telephone number has its first notation."""
    dimension = entry.dimensions[name]
    if not dimension.number_key:
        return dimension.sql
    over = f" OVER (PARTITION BY {dimension.number_key})" if each_row else ""
    return f"coalesce(arg_min({dimension.sql}, {entry.at}) FILTER ({dimension.number_key} <> 0){over}, '')"


def _named(sql: str, name: str) -> str:
    return sql if sql == name else f"{sql} AS {name}"


def _group(dimension: Dimension) -> str:
    return dimension.number_key or dimension.sql


def _order(question: Question) -> Iterable[str]:
    """Intervals and ranges in their order, names by a measure, ties by name."""
    entry, figures = question.entry, list(question.figures)
    if question.sort:
        return [f"{question.sort} {'ASC' if question.ascending else 'DESC'} NULLS LAST", *question.dimensions]
    named = [name for name in question.dimensions if entry.dimensions[name].kind == "name"]
    in_order = [name for name in question.dimensions if name not in named]
    first = ROWS if question.chart == "box" else figures[0]
    return [*in_order, *([f"{first} DESC NULLS LAST"] if named else []), *named]


def _condition(entry: CatalogEntry, chosen: QuestionFilter) -> str:
    dimension = entry.dimensions.get(chosen.field) or Dimension(chosen.field, chosen.field)  # or a column of numbers
    parts = [_one_of(dimension, chosen.values)] if chosen.values else []
    for sign, end in ((">=", chosen.at_least), ("<=", chosen.at_most), ("<", chosen.below)):
        parts += [f"{dimension.sql} {sign} {end:.15g}"] if end is not None else []
    found = " AND ".join(parts) or "true"
    return f"coalesce(NOT ({found}), true)" if chosen.exclude else found


def _one_of(dimension: Dimension, values: Sequence[str | int | bool]) -> str:
    """The condition that a dimension has one of some values; "" stands for all that are unknown."""
    if dimension.number_key:
        return f"{dimension.number_key} IN ({', '.join(str(number_key(str(value))) for value in values)})"
    known = [value for value in values if value != ""]
    literal = _moment_literal if dimension.kind == "moment" else _literal
    found = [f"{dimension.sql} IN ({', '.join(map(literal, known))})"] if known else []
    if len(known) < len(values):
        found.append(f"coalesce(CAST({dimension.sql} AS VARCHAR), '') = ''")
    return f"({' OR '.join(found)})" if len(found) > 1 else found[0]


def _where(conditions: Sequence[str]) -> str:
    return "WHERE " + "\n  AND ".join(conditions)


def _listed(columns: Sequence[str]) -> str:
    return ",\n".join(f"  {column}" for column in columns)


def _literal(value: str | int | bool) -> str:
    return text_literal(value) if isinstance(value, str) else str(value)


def _moment_literal(value: str | int | bool) -> str:
    return f"TIMESTAMP '{datetime.fromisoformat(str(value)):%Y-%m-%d %H:%M:%S}'"


def _moment(at: datetime) -> str:
    return f"TIMESTAMP '{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}'"
