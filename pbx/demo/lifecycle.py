"""Starts and removes the demo: a folder in the data directory, a mark file that says it is complete, and a process.

The mark is written last and removed first, so a folder without it is incomplete. The process holds a lock in the data
directory, so only one can run. When a process is killed, its lock is released.
"""

import json
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pbx.errors import DataError, SettingsError
from pbx.operating_system import start_command
from pbx.process_lock import anyone_alive, start_process
from pbx.settings import DEMO_DIR, DEMO_MARK, Settings, demo_mark
from pbx.store.engine import close_idle_connections, open_engine
from pbx.store.pbx_connections import active_connection

ROLE, SLOT = "demo", "demo-0"
PROGRESS = "preparing.json"  # in the demo's folder, until the mark is set
REMOVED_MARK = "demo-left"  # in the data directory: the demo was removed and doesn't start automatically again
REMOVE_WITHIN_S = 20.0  # how long the process of a removed demo may take to end
_POLL_S = 0.1
_started: list[subprocess.Popen[bytes]] = []  # each ends when its standard input is closed


@dataclass(frozen=True)
class DemoState:
    """The demo's status. `share` of its preparation is done, 0 to 1; `error` is the message if it failed."""

    status: Literal["off", "preparing", "on"]
    share: float = 0.0
    error: str = ""


def demo_dir(settings: Settings) -> Path:
    """The demo's folder, which may not exist."""
    return settings.home_dir / DEMO_DIR


def demo_alive(settings: Settings) -> bool:
    """Whether the demo's process is running or starting. Cheap: it checks one lock."""
    return anyone_alive(settings.home_dir, ROLE)


def demo_state(settings: Settings) -> DemoState:
    """The demo's status, with the progress of its preparation or the error that stopped it."""
    if demo_mark(demo_dir(settings)):
        return DemoState("on", 1.0)
    progress: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):
        progress |= json.loads((demo_dir(settings) / PROGRESS).read_text(encoding="utf-8"))
    if demo_alive(settings):
        return DemoState("preparing", float(progress.get("share", 0.0)))
    return DemoState("off", 0.0, str(progress.get("error", "")))


def is_unconfigured(settings: Settings) -> bool:
    """Whether no real PBX is set up, in the environment or in the cache. Doesn't create a cache.

    Raises DataError when the cache can't be read.
    """
    if settings.demo_id or settings.freepbx_host:
        return bool(settings.demo_id)
    if settings.pbx_database_url is None and not (settings.pbx_data_dir / "pbx.sqlite").exists():
        return True
    engine = open_engine(settings)
    try:
        return active_connection(engine, settings) is None
    except SettingsError:  # saved passwords that can't be opened
        return False
    finally:
        engine.dispose()


def was_removed(settings: Settings) -> bool:
    """Whether the user has removed the demo."""
    return (settings.home_dir / REMOVED_MARK).exists()


def start_demo(settings: Settings) -> None:
    """Start the demo's process unless it is running. It prepares the folder, writes the mark and ends with this one.

    Raises SettingsError when a PBX is set up, DataError when the data directory can't be written.
    """
    if not is_unconfigured(settings):
        raise SettingsError(
            "A PBX is set up, and the demo would replace it.",
            "Remove FREEPBX_HOST from the environment and delete the saved settings to try the demo, "
            "or set PBX_DATA_DIR to another directory.",
        )
    process = start_process(settings.home_dir, ROLE, lambda: _start_process(settings))
    if process is None:
        return
    _started[:] = [one for one in _started if one.poll() is None] + [process]
    threading.Thread(target=reap, args=(process,), daemon=True, name="demo reaper").start()


def _start_process(settings: Settings) -> "subprocess.Popen[bytes]":
    (settings.home_dir / REMOVED_MARK).unlink(missing_ok=True)
    with (settings.home_dir / "demo.log").open("wb") as output:
        return start_command("demo", "--with-parent", data_dir=settings.home_dir, stdin=subprocess.PIPE, output=output)


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has ended, and only then close its standard input."""
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def ensure_demo(settings: Settings) -> None:
    """Restart the demo's process if it has ended while the demo is on. Raises DataError."""
    if settings.demo_id and not demo_alive(settings):
        start_demo(settings)


def remove_demo(settings: Settings) -> None:
    """Remove the demo's mark, processes and folder. Nothing else changes.

    Raises DataError when it can't be removed.
    """
    folder = demo_dir(settings)
    try:
        if settings.home_dir.is_dir():
            (settings.home_dir / REMOVED_MARK).touch()
        (folder / DEMO_MARK).unlink(missing_ok=True)
        for process in _started:
            if process.stdin is not None:
                process.stdin.close()  # ends the process
        deadline = time.monotonic() + REMOVE_WITHIN_S
        while demo_alive(settings) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        close_idle_connections(folder)
        remove_folder(folder)
        (settings.home_dir / "demo.log").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"The demo in {folder} can't be removed: {error.strerror}.", "Delete that folder; it contains no real data."
        ) from error


def remove_folder(folder: Path) -> None:
    """Delete the demo's folder, and what is still being written into it. Raises OSError."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_POLL_S)
    shutil.rmtree(folder)
