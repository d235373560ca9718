"""Times the catalog's questions about a year on one core: every dimension of every dataset, with each of its measures.

    python benchmarks/questions.py [--keep DIR] [--times 10]

The year is that of benchmarks/figures.py. With `--times 10`, each of its calls is in the Parquet files ten times, so
that a year has ten million. Prints the slowest questions of each dataset in elapsed seconds, and the process's peak
memory in MB.
"""

import argparse
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(ROOT := Path(__file__).parent.parent))

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import opened, prepare
from pbx.analytics.catalog import CATALOG, CatalogName
from pbx.analytics.question import Question, QuestionPeriod
from pbx.analytics.question_sql import question_sql
from pbx.analytics.views import ViewSource, create_views
from pbx.store.engine import reading

TARGET_S, TARGET_MB = 3.0, 1000
SLOWEST, MEMORY = 5, "700MB"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--keep", type=Path, help="keep the database here; an existing one is used again")
    options.add_argument("--times", type=int, default=1, help="how often each call is in the files")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = chosen.keep or Path(folder) / "year"
        prepare(base, 1_000_000)
        return 0 if bench(multiplied(base, chosen.times) if chosen.times > 1 else base) else 1


def bench(base: Path) -> bool:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    engine, met = opened(base), True
    with reading(engine) as session:
        connection = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY})
        create_views(connection, ViewSource(session, lambda rows, phrases: []), CATALOG)
        for name in get_args(CatalogName):
            rows = connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            times = dataset_times(connection, name)
            for took_s, what in sorted(times, reverse=True)[:SLOWEST]:
                print(f"    {took_s:6.2f} s  {what}")
            total_s = sum(took_s for took_s, _ in times)
            print(f"{name}, {rows:,} rows: {len(times)} questions, {total_s / len(times):.2f} s on average")
            met &= max(times)[0] < TARGET_S
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB; targets {TARGET_S:.0f} s, {TARGET_MB} MB: {'met' if met else 'MISSED'}")
    return met and peak < TARGET_MB


def dataset_times(connection: duckdb.DuckDBPyConnection, name: CatalogName) -> list[tuple[float, str]]:
    """The elapsed seconds of each question, and what it is about."""
    entry, tomorrow = CATALOG[name], datetime.now(UTC) + timedelta(days=1)
    times = []
    for dimension in ("", *entry.dimensions):
        for measure in entry.measures:
            question = Question(dataset=name, measures=(measure,), rows=dimension, period=QuestionPeriod(name="all"))
            began = time.perf_counter()
            connection.sql(question_sql(question, "bench", None, tomorrow)).fetchall()
            times.append((time.perf_counter() - began, f"{entry.label}: {measure} by {dimension or 'nothing'}"))
    return times


def multiplied(base: Path, times: int) -> Path:
    """A copy of the year whose Parquet files hold each row several times."""
    copy = base.with_name(f"{base.name}-times-{times}")
    if (copy / "columns").exists():
        return copy
    copy.mkdir()
    shutil.copy(base / "pbx.sqlite", copy)
    with sqlite3.connect(copy / "pbx.sqlite") as database:
        for file in (base / "columns").rglob("*.parquet"):
            target = copy / file.relative_to(base)
            target.parent.mkdir(parents=True, exist_ok=True)
            rows = pq.read_table(file, partitioning=None)
            pq.write_table(pa.concat_tables([rows] * times), target, compression="zstd")
            size = target.stat().st_size
            database.execute("UPDATE sealed_days SET size_bytes = ? WHERE file = ?", (size, file.name))
    return copy


if __name__ == "__main__":
    sys.exit(main())
