"""Times every page with a year of a million calls: opening it, and redrawing it with another filter.

    python benchmarks/pages.py --keep DIR [--page trunks] [--slowest N]

The year is that of benchmarks/figures.py, with a snapshot every five minutes. Each page is opened by the first session
of a new process, after the database was dropped from the system's cache, and then filtered again. Prints elapsed
seconds, processor seconds, and elapsed seconds within the database.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(ROOT := Path(__file__).parent.parent))

from sqlalchemy import Engine, event, select

OPEN_TARGET_S, FILTER_TARGET_S = 2.0, 1.0
TODAY = "pages/today/overview.py"
Query = dict[str, Any]


def measured_pages() -> dict[str, tuple[str, Query, Query]]:
    """Return each page's script, its query parameters when opened, and those of the other filter."""
    today = datetime.now(UTC).date()
    year: Query = {"period": "Custom range", "days": [str(today - timedelta(days=364)), str(today)]}
    week: Query = {"period": "Last 7 days"}
    found: dict[str, tuple[str, Query, Query]] = {
        "Today": (TODAY, {}, {}),
        "Interactions": ("pages/calls/interactions.py", {}, {"queue": "603"}),
        "Interactions, a number": ("pages/calls/interactions.py", {"queue": "603"}, {"number": "30012"}),
        "Interactions, a state": ("pages/calls/interactions.py", {"number": "0301"}, {"transcription": "failed"}),
        "Transcripts": ("pages/calls/transcripts.py", {}, {"queue": "603"}),
        "Wallboard": ("pages/live/wallboard.py", {}, {"queue": "603"}),
        "Alerts": ("pages/settings/alerts.py", {}, {}),
    }
    for name, period in (("7 days", week), ("a year", year)):
        found |= {
            f"Queues, {name}": ("pages/live/queues.py", period, {"queue": "603"}),
            f"Trunks, {name}": ("pages/live/trunks.py", period, {"trunk": "mobile"}),
            f"Trunks’ calls, {name}": ("pages/live/trunks.py", period | {"trunk_view": "Calls"}, {"trunk": "mobile"}),
            f"Trunks’ load, {name}": ("pages/live/trunks.py", period | {"trunk_view": "Load"}, {"trunk": "mobile"}),
            f"Agents, {name}": ("pages/live/agents.py", period, {"queue": "603"}),
            f"An agent, {name}": ("pages/live/agents.py", period | {"agent": "Agent 007"}, {"queue": "603"}),
            f"Explore, {name}": ("pages/calls/explore.py", period, {"direction": "Outbound"}),
        }
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--keep", type=Path, help="the year's directory, created when missing")
    options.add_argument("--page", default="", help="only pages whose name contains this")
    options.add_argument("--slowest", type=int, default=0, help="print this many of the slowest statements")
    options.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        measure(*measured_pages()[chosen.measure], slowest=chosen.slowest)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base = chosen.keep or Path(folder)
        prepare(base)
        return 0 if bench(base, chosen.page, chosen.slowest) else 1


def prepare(base: Path) -> None:
    from benchmarks.figures import opened
    from benchmarks.figures import prepare as prepare_calls
    from benchmarks.year import write_snapshots
    from pbx.store.engine import reading
    from pbx.store.models import Table
    from pbx.store.pbx_connections import save_connection

    if not (base / "pbx.sqlite").exists():
        prepare_calls(base, 1_000_000)
    engine = opened(base)
    with reading(engine) as session:
        first_snapshot = session.connection().execute(select(Table.metadata.tables["snapshots"].c.id).limit(1)).first()
    if not first_snapshot:
        write_snapshots(engine, 1)
    settings, connection = settings_of(base)
    save_connection(engine, settings, connection)
    engine.dispose()


def settings_of(base: Path) -> Any:
    from pbx.settings import Connection, Settings

    settings = Settings(_env_file=None, pbx_data_dir=base, pbx_database_url=None)
    return settings, Connection(host="bench", ari_port=8088, ami_port=5038, timezone="Europe/Berlin")


def bench(base: Path, part: str, slowest: int) -> bool:
    print(f"load {os.getloadavg()[0]:.1f} at the beginning")
    print(f"{'':<24}{'open: clock  cpu   sql':>28}{'again: clock  cpu   sql':>30}")
    met = True
    for name in measured_pages():
        if part.lower() not in name.lower():
            continue
        drop_from_file_cache(base / "pbx.sqlite")
        environment = os.environ | {"PBX_DATA_DIR": str(base), "PBX_ENV_FILE": "", "PBX_DATABASE_URL": ""}
        command = [sys.executable, __file__, "--measure", name, "--slowest", str(slowest)]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        *statements, last = run.stdout.splitlines()
        first, again = json.loads(last)
        met &= first[0] < OPEN_TARGET_S and again[0] < FILTER_TARGET_S
        print(f"{name:<24}{seconds_text(first):>28}{seconds_text(again):>30}")
        print(*(f"    {statement}\n" for statement in statements), sep="", end="", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} at the end; targets {'met' if met else 'MISSED'}")
    return met


def seconds_text(seconds: list[float]) -> str:
    return "  ".join(f"{value:.2f}" for value in seconds)


def drop_from_file_cache(file: Path) -> None:
    """Drop the database from the system's file cache."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(page: str, query: Query, next_query: Query, *, slowest: int) -> None:
    """Open a page in this process, filter it, and print the three times of each as JSON."""
    spent = time_statements()
    from streamlit.testing.v1 import AppTest

    import pbx.ui.sidebar

    pbx.ui.sidebar.ensure_worker = lambda settings: None  # no worker during the measurement
    app = AppTest.from_file(str(ROOT / "streamlit_app.py"), default_timeout=120)
    times = []
    if page == TODAY:
        times.append(timed(app.run, spent))
    else:
        app.run()  # streamlit_app.py, which lists the pages; it runs Today, whose queries are few
        app.switch_page(page)
        spent["each"].clear()
        set_query(app, query)
        times.append(timed(app.run, spent))
    set_query(app, next_query)
    if slowest:
        for took_s, statement in sorted(spent["each"], reverse=True)[:slowest]:
            print(f"{took_s:.3f} s {' '.join(statement.split())[:400]}")
    times.append(timed(app.run, spent))
    if app.exception:
        raise SystemExit(str(app.exception))
    print(json.dumps(times))


def set_query(app: Any, query: Query) -> None:
    """Put a query into the URL, and into widgets that the URL has already filled."""
    for name, value in query.items():
        app.query_params[name] = value
        if name in app.session_state:
            app.session_state[name] = value


def timed(run: Callable[[], Any], spent: dict[str, Any]) -> tuple[float, float, float]:
    spent["sql"] = 0.0
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - clock, time.process_time() - processor, spent["sql"]


def time_statements() -> dict[str, Any]:
    """Measure every statement, with fetching; return a dict that is updated from now on."""
    spent: dict[str, Any] = {"sql": 0.0, "each": []}

    class TimedCursor(sqlite3.Cursor):
        statement = ""

    def timing(name: str) -> Callable[..., Any]:
        def call(self: TimedCursor, *args: Any) -> Any:
            began = time.perf_counter()
            try:
                return getattr(sqlite3.Cursor, name)(self, *args)
            finally:
                took_s = time.perf_counter() - began
                spent["sql"] += took_s
                self.statement = args[0] if name == "execute" else self.statement
                spent["each"].append((took_s, self.statement))

        return call

    for name in ("execute", "fetchone", "fetchmany", "fetchall"):
        setattr(TimedCursor, name, timing(name))

    class TimedConnection(sqlite3.Connection):
        def cursor(self, *_: Any) -> sqlite3.Cursor:
            return super().cursor(TimedCursor)

    @event.listens_for(Engine, "do_connect")
    def connect(_dialect: Any, _record: Any, _args: Any, parameters: dict[str, Any]) -> None:
        parameters["factory"] = TimedConnection

    return spent


if __name__ == "__main__":
    sys.exit(main())
