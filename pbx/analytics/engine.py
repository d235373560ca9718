"""Answers questions with DuckDB, in memory, from sealed days (Parquet) and the rows of days that are not sealed.

DuckDB reads the state of the cache that the session sees. So all answers within a reading session agree.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from sqlmodel import Session

from pbx.analytics.columns import Columns, columns_of_arrow
from pbx.analytics.datasets import DATASETS, DatasetName
from pbx.analytics.rows_to_columns import DAY_S, cached_in_session, first_day, read_rows
from pbx.analytics.sealing import delete_damaged, sealed_files
from pbx.errors import DataError
from pbx.store.agent_names import agent_names
from pbx.store.engine import columns_dir

Parameters = Mapping[str, Any]
_T = TypeVar("_T")
_MEMORY = "1GB"  # beyond it, DuckDB uses the disk
_MOST_THREADS = 4
_OF_MEMBERS: tuple[DatasetName, ...] = ("queue_visits", "agent_rings", "agent_events")


def rows_of(
    session: Session,
    dataset: DatasetName,
    connection_id: int,
    columns: Collection[str],
    since: datetime | None = None,
    until: datetime | None = None,
) -> str:
    """SQL of a table with `columns` of a dataset's rows from `since` up to `until`, for `query`.

    Agents have their names: see pbx.store.agent_names.
    """
    bounds = tuple(None if at is None else int(at.timestamp()) for at in (since, until))
    wanted = tuple(sorted({*columns, "at_s"}))
    key = ("rows", dataset, connection_id, wanted, bounds)
    return cached_in_session(session, key, lambda: _rows_of(session, dataset, connection_id, wanted, *bounds))


def query(session: Session, sql: str, parameters: Parameters | None = None) -> list[tuple[Any, ...]]:
    """The rows of a statement about tables of `rows_of`. `parameters` are the values of `$name`."""
    return _run(session, sql, parameters, lambda found: found.fetchall())


def query_columns(session: Session, sql: str, parameters: Parameters | None = None) -> Columns:
    """The columns of a statement's result."""
    return columns_of_arrow(query_arrow(session, sql, parameters))


def query_arrow(session: Session, sql: str, parameters: Parameters | None = None) -> pa.Table:
    """A statement's result as an Arrow table, for columns of lists."""
    return _run(session, sql, parameters, lambda found: found.to_arrow_table())


def result_table(session: Session, key: Hashable, sql: Callable[[], str]) -> str:
    """The name of a table with a statement's result, which other statements of the session can use.

    The statement is run once per session and key. Its result is in memory, so it must be much smaller than its rows.
    """

    def run() -> str:
        return _registered(session, _run(session, sql(), None, lambda found: found.to_arrow_table()))

    return cached_in_session(session, ("result", key), run)


def local_s(at_s: str, zone: tzinfo, since: datetime, until: datetime) -> str:
    """SQL of a moment's seconds since 1970 on the clocks of a zone. `at_s`: SQL of a moment within the period.

    Dividing it by 3600 or 86400 gives the local hour or day. When clocks go back, two moments have the same result.
    """
    first, *changes = clock_changes(zone, since, until)
    if not changes:
        return f"({at_s} + {first[1]})"
    later = "".join(f" WHEN {at_s} >= {start} THEN {offset}" for start, offset in reversed(changes))
    return f"({at_s} + CASE{later} ELSE {first[1]} END)"


def bucket_s(zone: tzinfo, since: datetime, until: datetime) -> int:
    """The longest time, up to an hour, of which all local hours and days of a zone in a period are multiples.

    `at_s // bucket_s` is then the same for moments that no hour or day of the zone divides.
    """
    return math.gcd(3600, *(offset_s for _, offset_s in clock_changes(zone, since, until)))


def clock_changes(zone: tzinfo, since: datetime, until: datetime) -> list[tuple[int, int]]:
    """Each clock change of a zone in a period, after the period's start: (seconds since 1970, seconds ahead of UTC)."""

    def offset(at_s: int) -> int:
        return int((datetime.fromtimestamp(at_s, zone).utcoffset() or timedelta()).total_seconds())

    at, end = int(since.timestamp()), int(until.timestamp())
    found = [(at, offset(at))]
    while at < end:
        following = min(at + 7 * DAY_S, end)  # no zone changes its clocks forward and back within a week
        if offset(following) != offset(at):
            early, late = at, following
            while late - early > 1:
                middle = (early + late) // 2
                early, late = (middle, late) if offset(middle) == offset(at) else (early, middle)
            found.append((late, offset(late)))
        at = following
    return found


def _rows_of(
    session: Session,
    dataset: DatasetName,
    connection_id: int,
    columns: Sequence[str],
    since_s: int | None,
    until_s: int | None,
) -> str:
    described = DATASETS[dataset]
    oldest = first_day(session, described, connection_id)
    first = oldest if since_s is None else max(oldest, since_s // DAY_S - described.earlier_days)
    last = int(datetime.now(UTC).timestamp()) // DAY_S + 2 if until_s is None else -(-until_s // DAY_S)
    files = sealed_files(session, dataset, connection_id, first, last)
    sealed = {day for days in files.values() for day in days}
    unsealed = [day for day in range(first, last) if day not in sealed]
    rows = read_rows(session, described, connection_id, unsealed, columns)
    names = ", ".join(columns)
    parts = _of_files(files, names, unsealed, first, last)
    parts += [f"SELECT {names} FROM {_registered(session, rows)}"] if len(rows) or not files else []
    bounds = [f"at_s >= {since_s}"] if since_s is not None else []
    bounds += [f"at_s < {until_s}"] if until_s is not None else []
    found = f"({' UNION ALL '.join(parts)})"
    if bounds:
        found = f"(SELECT * FROM {found} WHERE {' AND '.join(bounds)})"
    return _with_agent_names(session, dataset, connection_id, columns, found)


def _of_files(
    files: Mapping[Path, Sequence[int]], names: str, unsealed: Collection[int], first: int, last: int
) -> list[str]:
    """The SQL of the rows of sealed days. A file can also have rows of days that have changed since."""
    months = Counter(file.name[:7] for file in files)  # two workers can each have sealed days of one month
    alone = [file for file in files if months[file.name[:7]] == 1]
    parts = []
    if alone:
        paths = ", ".join(text_literal(str(file)) for file in alone)
        sealed = f"day >= {first} AND day < {last}"
        if unsealed:
            sealed += f" AND day NOT IN ({', '.join(map(str, unsealed))})"
        parts.append(f"SELECT {names} FROM read_parquet([{paths}]) WHERE {sealed}")
    for file in files.keys() - set(alone):
        days = ", ".join(map(str, files[file]))
        parts.append(f"SELECT {names} FROM read_parquet({text_literal(str(file))}) WHERE day IN ({days})")
    return parts


def _registered(session: Session, rows: pa.Table) -> str:
    """The name by which statements of a session find a table."""
    name = f"rows_{len(session.info.setdefault('tables', []))}"
    session.info["tables"].append(name)
    _connection(session).register(name, rows)
    return name


def _with_agent_names(
    session: Session, dataset: DatasetName, connection_id: int, columns: Sequence[str], rows: str
) -> str:
    if dataset not in _OF_MEMBERS or "agent" not in columns:
        return rows
    key = ("agent names", connection_id)
    names = cached_in_session(session, key, lambda: agent_names(session, connection_id))
    if not names:
        return rows
    table = pa.table({"interface": list(names), "name": list(names.values())})
    named = cached_in_session(session, (*key, "registered"), lambda: _registered(session, table))
    agent = ", ".join("coalesce(named.name, agent) AS agent" if name == "agent" else name for name in columns)
    return f"(SELECT {agent} FROM {rows} LEFT JOIN {named} AS named ON interface = agent)"


def text_literal(value: str) -> str:
    """A text as a literal of SQL, for names that come from the cache."""
    return "'" + value.replace("'", "''") + "'"


def _run(
    session: Session, sql: str, parameters: Parameters | None, fetch: Callable[[duckdb.DuckDBPyRelation], _T]
) -> _T:
    connection = _connection(session)
    try:
        return fetch(connection.sql(sql, params=parameters))
    except duckdb.Error:
        if not delete_damaged(session):
            raise
    raise DataError(
        "A file of the columns folder was deleted or damaged while it was being read.",
        "Reload the page. The figures are then read from the database until the file has been made again.",
    )


def _connection(session: Session) -> duckdb.DuckDBPyConnection:
    """The session's own connection to the process's DuckDB."""
    if "duckdb" not in session.info:
        session.info["duckdb"] = _database(columns_dir(session)).cursor()
    connection: duckdb.DuckDBPyConnection = session.info["duckdb"]
    return connection


@lru_cache(maxsize=4)
def _database(folder: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory; it writes what doesn't fit into a folder."""
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    config: dict[str, Any] = {"memory_limit": _MEMORY, "threads": threads, "temp_directory": str(folder / "spill")}
    return duckdb.connect(":memory:", config=config)
