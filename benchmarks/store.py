"""Measures the cache's size, charts and writes, with a year of one snapshot per minute and with a million calls.

The PBX has 50 queues of 20 members, 20 trunks and 500 extensions. Rows are written in order of time, as by the worker.
In the 8 hours of a working day, a member changes 12 times an hour and an extension 5 times; queues and trunks are
sampled each minute.

    python benchmarks/store.py [--days 365] [--calls 1000000] [--keep DIR]
"""

import argparse
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parent.parent))

from sqlalchemy import Engine

from pbx.analytics.trunk_status import trunk_history
from pbx.model.snapshot import Extension, Queue, QueueMember, Snapshot, SnapshotPart, Trunk
from pbx.settings import Settings
from pbx.store.calls import CallFilter, call_queues, count_calls, find_calls
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import PbxConnection, SampledSubject
from pbx.store.snapshots import queue_history, record_snapshot, snapshot_gaps

Result = TypeVar("Result")
QUEUES, MEMBERS, TRUNKS, EXTENSIONS = 50, 20, 20, 500
START_AT = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
SIZE_TARGET_BYTES, CHART_TARGET_S = 3_000_000_000, 1.0
MEMBERS_FROM = QUEUES + TRUNKS
EXTENSIONS_FROM = MEMBERS_FROM + QUEUES * MEMBERS

MINUTES = "with recursive minute(i) as (select :first union all select i + 1 from minute where i < :last), "
A_DAY = {
    "snapshots": MINUTES.rstrip(", ")
    + " insert into snapshots (connection_id, taken_at, took_ms, active_calls, channels, incomplete_parts)"
    " select 1, :start + i * 60, 80 + abs(random() % 40), abs(random() % 60), abs(random() % 120), '{}' from minute",
    "queue_samples": MINUTES + "one(k) as (select 1 union all select k + 1 from one where k < 50)"
    " insert into queue_samples select k, :start + i * 60, abs(random() % 9), abs(random() % 400), abs(random() % 20),"
    " 20, abs(random() % 5), (i - :first) / 3, (i - :first) / 40, 20 + abs(random() % 60), 100 + abs(random() % 200)"
    " from minute cross join one order by i, k",
    "trunk_samples": MINUTES + "one(k) as (select 1 union all select k + 1 from one where k < 20)"
    " insert into trunk_samples select 50 + k, :start + i * 60,"
    " case when random() % 500 = 0 then 'rejected' else 'registered' end,"
    " abs(random() % 90000) / 1000.0, abs(random() % 12) from minute cross join one order by i, k",
}
A_WORKING_DAY = {  # per minute: one in five members, one in twelve extensions
    "member_samples": MINUTES + "one(k) as (select 0 union all select k + 1 from one where k < 199)"
    " insert into member_samples select 71 + k * 5 + abs(random() % 5), :start + i * 60, 1 + abs(random() % 6),"
    " random() % 8 = 0, case when random() % 8 = 0 then 'Lunch' else '' end, random() % 3 = 0"
    " from minute cross join one where i between :opens and :closes order by i, k",
    "extension_samples": MINUTES + "one(k) as (select 0 union all select k + 1 from one where k < 40)"
    " insert into extension_samples select 1071 + k * 12 + abs(random() % 12), :start + i * 60,"
    " case abs(random() % 4) when 0 then 'In use' when 1 then 'Ringing' when 2 then 'Unavailable' else 'Not in use' end"
    " from minute cross join one where i between :opens and :closes order by i, k",
}
CALLS = (
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < :calls)"
    " insert into calls (connection_id, source, linkedid, uniqueid, direction, from_number, to_number, queue, agent,"
    " started_at, duration_s, state) select 1, 'freepbx', :start + i * 30 || '.' || i, :start + i * 30 || '.' || i,"
    " case i % 3 when 0 then 'inbound' when 1 then 'outbound' else 'internal' end,"
    " '+49' || (30000000 + abs(random() % 60000000)), 1000 + i % 500,"
    " case i % 3 when 0 then 'queue-' || (1 + i % 50) else '' end, 'PJSIP/' || (1000 + i % 200),"
    " :start + i * 30, abs(random() % 600), case when i % 997 = 0 then 'failed' else 'downloaded' end from n"
)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--calls", type=int, default=1_000_000)
    options.add_argument("--keep", type=Path, help="keep the databases here")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = chosen.keep or Path(folder)
        is_met = bench_samples(base / "samples", chosen.days)
        bench_calls(base / "calls", chosen.calls)
    return 0 if is_met else 1


def bench_samples(folder: Path, days: int) -> bool:
    engine = opened(folder)
    started = time.perf_counter()
    add_subjects(engine)
    for day in range(days):
        add_day(engine, day)
    until = START_AT + timedelta(days=days)
    print(f"{days} days written in {time.perf_counter() - started:.0f} s")
    checkpoint(engine)
    engine.dispose()
    size = (folder / "pbx.sqlite").stat().st_size
    report("size", f"{size / 1e6:.0f} MB", size < SIZE_TARGET_BYTES * days / 365, "below 3000 MB a year")
    for table, used in table_sizes(folder):
        print(f"    {table:<22} {used / 1e6:7.0f} MB")
    month = (until - timedelta(days=30), until)
    charts = {
        "a queue's month": lambda s: queue_history(s, 1, "queue-7", *month),
        "a trunk's month": lambda s: trunk_history(s, 1, "trunk-7", *month),
        "a month's gaps": lambda s: snapshot_gaps(s, 1, *month, 60),
    }
    is_met = size < SIZE_TARGET_BYTES * days / 365
    for name, read in charts.items():
        drop_from_file_cache(folder / "pbx.sqlite")
        fresh = opened(folder)
        with reading(fresh) as session:
            cold, rows = timed(lambda read=read, session=session: read(session))
            warm = min(timed(lambda read=read, session=session: read(session))[0] for _ in range(5))
        fresh.dispose()
        report(name, f"cold {cold:.3f} s, warm {warm:.3f} s, {len(rows)} rows", cold < CHART_TARGET_S, "below 1 s")
        is_met &= cold < CHART_TARGET_S
    bench_recording(opened(folder), until)
    return is_met


def bench_recording(engine: Engine, at: datetime) -> None:
    took = []
    for minute in range(30):
        snapshot = a_snapshot(at + timedelta(minutes=minute), minute)
        began = time.perf_counter()
        with writing(engine) as session:
            record_snapshot(session, 1, snapshot)
        took.append(time.perf_counter() - began)
    rest = sorted(took[1:])
    median = statistics.median(rest)
    print(f"recording a snapshot: first {took[0]:.3f} s, then median {median:.3f} s, most {rest[-1]:.3f} s")


def bench_calls(folder: Path, calls: int) -> None:
    engine = opened(folder)
    with writing(engine) as session:
        session.add(PbxConnection(host="bench"))
        session.flush()
        session.connection().exec_driver_sql(CALLS, {"calls": calls, "start": int(START_AT.timestamp())})
    checkpoint(engine)
    print(f"{calls} calls: {(folder / 'pbx.sqlite').stat().st_size / 1e6:.0f} MB")
    every = CallFilter(1)
    middle = START_AT + timedelta(seconds=calls * 15)
    filters = {
        "all": every,
        "a day": CallFilter(1, since=middle, until=middle + timedelta(days=1)),
        "a queue": CallFilter(1, queue="queue-7"),
        "a direction": CallFilter(1, direction="inbound"),
        "a rare state": CallFilter(1, state="failed"),
        "a number, common": CallFilter(1, number="1007"),
        "a number, rare": CallFilter(1, number="+49 3012345"),
        "a number, none": CallFilter(1, number="00000000"),
    }
    with reading(engine) as session:
        print(f"    {'':<18} {'count':>9} {'count s':>8} {'page s':>8}")
        for name, wanted in filters.items():
            count_s, count = timed(lambda wanted=wanted: count_calls(session, wanted))
            page_s, _ = timed(lambda wanted=wanted: find_calls(session, wanted, offset=0, limit=50))
            print(f"    {name:<18} {count:>9} {count_s:8.3f} {page_s:8.3f}")
        last_s, _ = timed(lambda: find_calls(session, every, offset=max(calls - 50, 0), limit=50))
        queues_s, queues = timed(lambda: call_queues(session, 1))
        print(f"    {'the last page':<37} {last_s:8.3f}")
        print(f"    {f'the {len(queues)} queues':<37} {queues_s:8.3f}")


def opened(folder: Path) -> Engine:
    return open_engine(Settings(_env_file=None, pbx_data_dir=folder, pbx_database_url=None))


def add_subjects(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(PbxConnection(host="bench"))
        session.flush()
        names = [("queue", f"queue-{i}", "", "") for i in range(1, QUEUES + 1)]
        names += [("trunk", f"trunk-{i}", "", "") for i in range(1, TRUNKS + 1)]
        names += [("member", f"PJSIP/{m}", "", f"queue-{q}") for q in range(1, QUEUES + 1) for m in range(MEMBERS)]
        names += [("extension", str(1000 + i), "PJSIP", "") for i in range(EXTENSIONS)]
        for number, (kind, name, tech, parent) in enumerate(names, start=1):
            session.add(SampledSubject(id=number, connection_id=1, kind=kind, name=name, tech=tech, parent=parent))


def add_day(engine: Engine, day: int) -> None:
    first = day * 1440
    span = {"start": int(START_AT.timestamp()), "first": first, "last": first + 1439}
    work = span | {"opens": first + 9 * 60, "closes": first + 17 * 60 - 1}
    with writing(engine) as session:
        connection = session.connection()
        for sql in A_DAY.values():
            connection.exec_driver_sql(sql, span)
        if day % 7 < 5:
            for sql in A_WORKING_DAY.values():
                connection.exec_driver_sql(sql, work)


def a_snapshot(at: datetime, minute: int) -> Snapshot:
    """Return a snapshot in which a fifth of the members and a twelfth of the extensions changed, as in `add_day`."""

    def members() -> tuple[QueueMember, ...]:
        return tuple(
            QueueMember(name=f"Agent {m}", interface=f"PJSIP/{m}", status=1 + (minute + m) // 5 % 2)
            for m in range(MEMBERS)
        )

    return Snapshot(
        taken_at=at,
        queues=tuple(Queue(name=f"queue-{q}", calls=minute % 7, members=members()) for q in range(1, QUEUES + 1)),
        trunks=tuple(Trunk(name=f"trunk-{t}", tech="PJSIP", state="registered") for t in range(1, TRUNKS + 1)),
        extensions=tuple(
            Extension(extension=str(1000 + i), tech="PJSIP", status=("Not in use", "In use")[(i + minute) // 12 % 2])
            for i in range(EXTENSIONS)
        ),
        parts={name: SnapshotPart() for name in ("system", "queues", "trunks", "extensions", "active_calls")},
    )


def table_sizes(folder: Path) -> list[tuple[str, int]]:
    """Return bytes per table and index; empty when SQLite was built without dbstat."""
    with sqlite3.connect(folder / "pbx.sqlite") as connection:
        if not connection.execute("select 1 from pragma_module_list where name = 'dbstat'").fetchone():
            return []
        query = "select name, sum(pgsize) from dbstat where aggregate = true group by name order by 2 desc limit 6"
        return connection.execute(query).fetchall()


def checkpoint(engine: Engine) -> None:
    raw = engine.raw_connection()
    raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


def drop_from_file_cache(path: Path) -> None:
    """Drop the file from the system's cache, so that the next read comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def report(what: str, figure: str, is_met: bool, target: str) -> None:
    print(f"{what}: {figure} (target {'met' if is_met else 'MISSED'}: {target})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
