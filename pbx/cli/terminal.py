"""What the commands share: settings, cache, output, errors and signals.

Results go to standard output, all else to standard error.
"""

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

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
WithParent = Annotated[bool, typer.Option(hidden=True, help="Stop when standard input is closed.")]


@contextmanager
def open_cache() -> Iterator[tuple["Engine", "Settings"]]:
    """Open the cache for the time of a command; yields its engine and the settings. Raises SettingsError, DataError."""
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
    """Turn a PbxError into a message with its fix, and exit with status 2 for SettingsError, otherwise 1."""
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


def print_json(result: dict[str, Any]) -> None:
    """Print the result of a command as JSON, on one line."""
    print(json.dumps(result, ensure_ascii=False), flush=True)


def print_line(text: Text, *, to_stderr: bool = False) -> None:
    """Print a line without wrapping it, so that a configuration line can be copied."""
    console(to_stderr=to_stderr).print(text, soft_wrap=True, highlight=False)


def console(*, to_stderr: bool) -> Console:
    """Return Rich's console for one of the two outputs."""
    return Console(stderr=to_stderr)


def parse_time(text: str, option: str, *, end_of_day: bool = False) -> str | None:
    """Parse a time from the command line. Return it in ISO format with its UTC offset, or None for "".

    A time without a zone is in the PBX's time zone if that is set, otherwise in this machine's. `end_of_day`: a date
    means the end of that day. Raises BadParameter, which names `option`.
    """
    if not text:
        return None
    from pbx.settings import load_settings

    try:
        moment = datetime.fromisoformat(text)
        if end_of_day and len(text) <= len("2026-01-31"):
            moment += timedelta(days=1)
        if moment.tzinfo is None:
            zone = load_settings().freepbx_timezone
            moment = moment.replace(tzinfo=ZoneInfo(zone)) if zone else moment.astimezone()
        moment.astimezone(UTC)  # in the years 1 and 9999 this can be out of range
    except (ValueError, OverflowError, OSError):  # OSError: Windows knows no local time before 1970
        raise typer.BadParameter("use the format 2026-01-31 or 2026-01-31T08:00", param_hint=option) from None
    return moment.isoformat()


def stop_at_signals() -> tuple[threading.Event, list[int]]:
    """Return an event that SIGTERM and Ctrl-C set, and the list of the signals received."""
    signals: list[int] = []
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        # An exception raised here could be caught by the code that is running, or leave a lock held.
        signals.append(number)
        _thread.start_new_thread(stop.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop, signals
