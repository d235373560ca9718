"""Times the queries of each page over a year of a million calls, first unfiltered, then with another filter.

    python benchmarks/figures.py [--calls 1000000] [--keep DIR]

An existing database in DIR is used again. Each page queries in its own session: first through a new engine, then for
another queue, trunk or direction. Seconds are elapsed time; DuckDB uses all cores.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).parent.parent))

from sqlalchemy import Engine, delete, func, select
from sqlmodel import Session, col

from benchmarks.year import QUEUES, TRUNKS, write_year
from pbx.analytics.agents import agent_days, agent_figures, agent_sessions, pause_reasons
from pbx.analytics.calls import CallQuestion, call_counts, call_heat_map, call_totals
from pbx.analytics.queues import (
    FigureFilter,
    by_agent,
    by_queue,
    figures_by,
    heat_map,
    outcome_counts,
    queue_intervals,
    queue_totals,
    wait_distribution,
)
from pbx.analytics.sealing import seal_history
from pbx.analytics.trunks import busy_hour, by_trunk, cause_counts, trunk_intervals, trunk_totals
from pbx.analytics.visit_lists import (
    Selection,
    abandoned_calls,
    callbacks,
    repeated_callers,
    transfer_targets,
    visits_page,
)
from pbx.settings import Settings
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import PbxConnection, SealedDay, Table

ZONE = ZoneInfo("Europe/Berlin")
PERIODS = {"today": 1, "7 days": 7, "30 days": 30, "a year": 365}
OPEN_TARGET_S, FILTER_TARGET_S = 2.0, 1.0
Query = Callable[[Session], Any]


def queue_page(wanted: FigureFilter, now: datetime) -> dict[str, Query]:
    step = "hour" if wanted.until - wanted.since < timedelta(days=3) else "day"
    return {
        "totals": lambda s: queue_totals(s, wanted),
        "the period before": lambda s: queue_totals(s, wanted.before(ZONE, now)),
        "intervals": lambda s: queue_intervals(s, wanted, ZONE, step),
        "outcomes": lambda s: outcome_counts(s, wanted),
        "waits": lambda s: wait_distribution(s, wanted),
        "heat map": lambda s: heat_map(s, wanted, ZONE),
        "by queue": lambda s: by_queue(s, wanted),
        "by agent": lambda s: by_agent(s, wanted),
        "by DID": lambda s: figures_by(s, wanted, "did"),
        "callbacks": lambda s: callbacks(s, wanted),
        "abandoned": lambda s: abandoned_calls(s, wanted, offset=0, limit=50),
        "repeated": lambda s: repeated_callers(s, wanted),
        "transfers": lambda s: transfer_targets(s, wanted),
        "a chart's visits": lambda s: visits_page(s, wanted, Selection(hour=9), ZONE, offset=0, limit=50),
    }


def agent_page(wanted: FigureFilter) -> dict[str, Query]:
    return {
        "agents": lambda s: agent_figures(s, wanted),
        "pauses": lambda s: pause_reasons(s, wanted),
        "sessions": lambda s: agent_sessions(s, wanted),
        "days": lambda s: agent_days(s, wanted, ZONE),
    }


def trunk_page(trunk: str | None, since: datetime, until: datetime) -> dict[str, Query]:
    return {
        "totals": lambda s: trunk_totals(s, 1, trunk, since, until),
        "days": lambda s: trunk_intervals(s, 1, trunk, since, until, ZONE, "day"),
        "hours": lambda s: trunk_intervals(s, 1, trunk, since, until, ZONE, "hour"),
        "by trunk": lambda s: by_trunk(s, 1, since, until),
        "causes": lambda s: cause_counts(s, 1, trunk, since, until),
        "busy hour": lambda s: busy_hour(s, 1, trunk, since, until, ZONE),
    }


def call_page(wanted: CallQuestion) -> dict[str, Query]:
    names = ("hour", "day", "direction", "did", "queue", "agent", "number")
    page: dict[str, Query] = {by: lambda s, by=by: call_counts(s, wanted, ZONE, by, 50) for by in names}  # type: ignore[misc]
    return page | {"totals": lambda s: call_totals(s, wanted), "heat map": lambda s: call_heat_map(s, wanted, ZONE)}


def pages_of(since: datetime, until: datetime, now: datetime, *, narrowed: bool) -> dict[str, dict[str, Query]]:
    """Return each page's queries for a period; with `narrowed`, for one queue, trunk or direction."""
    wanted, calls = FigureFilter(1, since, until), CallQuestion(1, since, until)
    if narrowed:
        wanted, calls = replace(wanted, queue=QUEUES[0]), replace(calls, direction="outbound")
    return {
        "queues": queue_page(wanted, now),
        "agents": agent_page(wanted),
        "trunks": trunk_page(TRUNKS[0] if narrowed else None, since, until),
        "calls": call_page(calls),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--keep", type=Path, help="keep the database here; an existing one is used again")
    options.add_argument("--each", action="store_true", help="show each question's time")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = chosen.keep or Path(folder)
        prepare(base, chosen.calls)
        well = bench_pages(base, each=chosen.each)
        bench_sealing(base)
    return 0 if well else 1


def opened(base: Path) -> Engine:
    return open_engine(Settings(_env_file=None, pbx_data_dir=base, pbx_database_url=None))


def prepare(base: Path, calls: int) -> None:
    engine = opened(base)
    with writing(engine) as session:
        exists = session.get(PbxConnection, 1) is not None
        if not exists:
            session.add(PbxConnection(id=1, host="bench"))
    if not exists:
        began = time.perf_counter()
        write_year(engine, 1, calls)
        print(f"written in {time.perf_counter() - began:.0f} s, sealed")
    with reading(engine) as session:
        for name in ("calls", "call_legs", "queue_visits", "agent_rings", "agent_events"):
            count = session.connection().execute(select(func.count()).select_from(Table.metadata.tables[name])).scalar()
            print(f"    {name:<14} {count:>9,}")
    copied = sum(file.stat().st_size for file in (base / "columns").rglob("*.parquet"))
    print(f"    database {(base / 'pbx.sqlite').stat().st_size / 1e6:.0f} MB, copied days {copied / 1e6:.0f} MB")
    engine.dispose()


def bench_pages(base: Path, *, each: bool) -> bool:
    now = datetime.now(UTC)
    midnight = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    until, met = midnight + timedelta(days=1), True
    print(f"{'':<10}" + "".join(f"{name:>22}" for name in PERIODS) + "    open / another filter, elapsed seconds")
    for page in ("queues", "agents", "trunks", "calls"):
        cells = []
        for days in PERIODS.values():
            since = until - timedelta(days=days)
            engine = opened(base)
            opens_s = query_s(engine, pages_of(since, until, now, narrowed=False)[page], each=each)
            filters_s = query_s(engine, pages_of(since, until, now, narrowed=True)[page], each=False)
            engine.dispose()
            met &= opens_s < OPEN_TARGET_S and filters_s < FILTER_TARGET_S
            cells.append(f"{opens_s:.2f} / {filters_s:.2f}")
        print(f"{page:<10}" + "".join(f"{cell:>22}" for cell in cells))
    print(f"targets: {OPEN_TARGET_S:.0f} s and {FILTER_TARGET_S:.0f} s: {'met' if met else 'MISSED'}")
    return met


def query_s(engine: Engine, page: dict[str, Query], *, each: bool) -> float:
    began = time.perf_counter()
    with reading(engine) as session:
        for name, query in page.items():
            query_began = time.perf_counter()
            query(session)
            if each:
                print(f"        {name:<20} {time.perf_counter() - query_began:.3f} s")
    return time.perf_counter() - began


def bench_sealing(base: Path) -> None:
    """Time reading a month from rows, as before the worker seals it, sealing a year, and sealing one day again."""
    engine = opened(base)
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = FigureFilter(1, until - timedelta(days=30), until)
    with writing(engine) as session:
        session.execute(delete(SealedDay))
    rows_s = query_s(engine, {"totals": lambda s: queue_totals(s, month)}, each=False)
    began = time.perf_counter()
    days = seal_history(engine, 1, before=until)
    took_s = time.perf_counter() - began
    with writing(engine) as session:
        session.execute(delete(SealedDay).where(col(SealedDay.day) == int(until.timestamp()) // 86_400 - 40))
    began = time.perf_counter()
    again = seal_history(engine, 1, before=until)
    print(f"a month's visits from rows {rows_s:.2f} s")
    print(f"sealing the year {took_s:.0f} s, {days} days of all datasets")
    print(f"sealing a changed day of all {again} datasets {time.perf_counter() - began:.2f} s")
    engine.dispose()


if __name__ == "__main__":
    sys.exit(main())
