"""What every command does with a terminal and the cache: results to standard output, all else to standard error."""

import _thread
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.text import Text

from pbx.errors import PbxError, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from pbx.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@contextmanager
def open_cache() -> Iterator[tuple["Engine", "Settings"]]:
    """The cache's database and the settings. Raises SettingsError or DataError."""
    from pbx.settings import load_settings
    from pbx.store.engine import open_engine

    settings = load_settings()
    engine = open_engine(settings)
    try:
        yield engine, settings
    finally:
        engine.dispose()


@contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """Tell an error of ours in a line and its fix in the next, and exit with its status."""
    try:
        yield
    except PbxError as error:
        if as_json:
            print_json({"error": str(error), "fix": error.fix})
        else:
            print_line(Text(f"✗ {error}", "red"), to_stderr=True)
            if error.fix:
                print_line(Text(error.fix), to_stderr=True)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None


def print_json(facts: dict[str, Any]) -> None:
    """Print the result of a command for machines, on one line."""
    print(json.dumps(facts, ensure_ascii=False), flush=True)


def print_line(text: Text, *, to_stderr: bool = False) -> None:
    """Print a line as it is: never wrapped, so that a line to copy into a configuration stays one."""
    console(to_stderr=to_stderr).print(text, soft_wrap=True, highlight=False)


def console(*, to_stderr: bool) -> Console:
    """The terminal, as Rich sees it."""
    return Console(stderr=to_stderr)


def parse_time(text: str, option: str, *, whole_day: bool = False) -> str | None:
    """A time as ISO text with its offset; without a zone it is in the PBX's zone, else in this machine's.

    `whole_day`: a date alone means the end of that day.
    """
    if not text:
        return None
    from pbx.settings import load_settings

    try:
        moment = datetime.fromisoformat(text)
        if whole_day and len(text) <= len("2026-01-31"):
            moment += timedelta(days=1)
        if moment.tzinfo is None:
            zone = load_settings().freepbx_timezone
            moment = moment.replace(tzinfo=ZoneInfo(zone)) if zone else moment.astimezone()
        moment.astimezone(UTC)  # years 1 and 9999 may lie beyond what UTC has
    except (ValueError, OverflowError, OSError):  # OSError: Windows knows no local time before 1970
        raise typer.BadParameter("write it as 2026-01-31 or 2026-01-31T08:00", param_hint=option) from None
    return moment.isoformat()


def stop_at_signals() -> tuple[threading.Event, list[int]]:
    """What SIGTERM and Ctrl-C set, and the signals that came."""
    signals: list[int] = []
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        # An exception raised here could be swallowed by whatever runs at this moment, and a lock might be held by it.
        signals.append(number)
        _thread.start_new_thread(stop.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop, signals
