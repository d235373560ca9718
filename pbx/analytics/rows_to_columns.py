"""Reads rows of a dataset from the cache's tables as columns (Arrow)."""

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
from sqlalchemy import func, select
from sqlmodel import Session

from pbx.analytics.datasets import Dataset, epoch_seconds

DAY_S = 86_400
NEVER = 2**31 - 1  # later than any day in the database
_CHUNK = 20_000  # rows that are in memory as Python objects at a time
_KEY_DIGITS = 9  # enough to be unique; prefixes, country codes and outside-line digits differ by notation
ARROW_TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "number_key": pa.int64(),
}
_T = TypeVar("_T")


def number_key(number: str) -> int:
    """A key that is equal for all notations of a telephone number, from its last nine digits; 0 without digits.

    `+49 30 1234567`, `0301234567` and `00049301234567` (dialled with a 0 for an outside line) have the same key. A
    number with fewer than nine digits, including its area code, needs the same prefix to have the same key.
    """
    digits = re.sub(r"\D", "", number)
    return int("1" + digits[-_KEY_DIGITS:]) if digits else 0


def schema_of(dataset: Dataset, columns: Collection[str]) -> pa.Schema:
    """The Arrow types of some columns of a dataset, and of `day`: the UTC day, as days since 1970-01-01."""
    types = [(name, ARROW_TYPES[type_]) for name, type_ in dataset.types.items() if name in columns]
    return pa.schema([*types, ("day", pa.int32())])


def read_rows(
    session: Session, dataset: Dataset, connection_id: int, days: Iterable[int], columns: Collection[str]
) -> pa.Table:
    """The rows of some days (in order), with `columns` and `day`, by time and id."""
    schema = schema_of(dataset, columns)
    parts = [_read_run(session, dataset, connection_id, start, end, schema) for start, end in _runs(days)]
    return pa.concat_tables([schema.empty_table(), *parts])


def first_day(session: Session, dataset: Dataset, connection_id: int) -> int:
    """The day of the oldest row of a PBX; `NEVER` without any row."""
    mine = dataset.connection_id == connection_id
    query = dataset.first(connection_id) if dataset.first else select(func.min(epoch_seconds(dataset.at))).where(mine)
    first = session.connection().execute(query).scalar()
    return int(first) // DAY_S if first is not None else NEVER


def cached_in_session(session: Session, key: Hashable, load: Callable[[], _T]) -> _T:
    """The result of `load`, kept by key for the rest of a reading session; a writing session loads it every time.

    A reading session always sees the same state of the cache.
    """
    memory: dict[Hashable, Any] = {} if _writes(session) else session.info.setdefault("figures", {})
    if key not in memory:
        memory[key] = load()
    found: _T = memory[key]
    return found


def _runs(days: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive days as (first, last + 1)."""
    start = end = -1
    for day in days:
        if day != end:
            if end > start:
                yield start, end
            start = day
        end = day + 1
    if end > start:
        yield start, end


def _read_run(
    session: Session, dataset: Dataset, connection_id: int, first: int, last: int, schema: pa.Schema
) -> pa.Table:
    at = epoch_seconds(dataset.at)
    chosen = [column for column in dataset.rows.selected_columns if column.key in schema.names]
    query = dataset.rows.with_only_columns(*chosen, (at // DAY_S).label("day"), maintain_column_froms=True)
    query = query.where(dataset.connection_id == connection_id, at >= first * DAY_S, at < last * DAY_S)
    result = session.connection().execute(query, execution_options={"yield_per": _CHUNK})
    parts = [_table(dataset, schema, rows) for rows in result.partitions()]
    order = [name for name in ("at_s", schema.names[0]) if name in schema.names]
    return pa.concat_tables([schema.empty_table(), *parts]).sort_by([(name, "ascending") for name in order])


def _table(dataset: Dataset, schema: pa.Schema, rows: Sequence[Any]) -> pa.Table:
    columns = zip(schema, zip(*rows, strict=True), strict=True)
    return pa.table([_array(field.type, dataset.types.get(field.name), values) for field, values in columns], schema)


def _array(type_: pa.DataType, kind: str | None, values: Iterable[Any]) -> pa.Array:
    if kind == "number_key":
        return pa.array([number_key(value) for value in values], type_)
    if kind == "flag":
        return pa.array([bool(value) for value in values], type_)
    return pa.array(values, type_)


def _writes(session: Session) -> bool:
    return bool(session.connection().get_execution_options().get("pbx_writes", False))
