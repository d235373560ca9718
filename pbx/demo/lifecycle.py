"""Where the demo lies, and how it is entered and left: a folder of its own, a mark that makes it count, a process.

The mark is written last and removed first: a folder without it is nothing yet, or nothing any more. The process holds a
lock in the data directory, so that there is one at most, and whoever is killed holds nobody up.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pbx.errors import DataError, SettingsError
from pbx.machine import detached
from pbx.process_lock import anyone_alive, start_process
from pbx.settings import DEMO_MARK, MADE_UP_DIR, Settings, demo_mark
from pbx.store.connections import active_connection
from pbx.store.engine import close_idle_connections, open_engine

ROLE, SLOT = "demo", "demo-0"
PROGRESS = "preparing.json"  # in the folder, until the mark stands
LEFT = "demo-left"  # in the data directory: the demo was removed; its process ends, and doesn't come again by itself
LEAVE_S = 20.0  # how long a demo that is left may take to end
_LOOK_S = 0.1
_started: list[subprocess.Popen[bytes]] = []  # their standard input tells them that this process lives


@dataclass(frozen=True)
class DemoState:
    """How the demo stands. `done` of 1 is prepared; `fault` is why it could not be, for people."""

    at: Literal["off", "preparing", "on"]
    done: float = 0.0
    fault: str = ""


def demo_place(settings: Settings) -> Path:
    """The demo's folder, whether it is there or not."""
    return settings.home_dir / MADE_UP_DIR


def demo_alive(settings: Settings) -> bool:
    """Whether the demo's process runs, or is being started. Cheap: one lock is asked."""
    return anyone_alive(settings.home_dir, ROLE)


def demo_state(settings: Settings) -> DemoState:
    """Whether the demo is on, being prepared (and how far), or off (and why, when preparing it failed)."""
    if demo_mark(demo_place(settings)):
        return DemoState("on", 1.0)
    told: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):
        told |= json.loads((demo_place(settings) / PROGRESS).read_text(encoding="utf-8"))
    if demo_alive(settings):
        return DemoState("preparing", float(told.get("done", 0.0)))
    return DemoState("off", 0.0, str(told.get("fault", "")))


def is_unconfigured(settings: Settings) -> bool:
    """Whether no PBX is set up, neither in the environment nor in the real cache. Makes no cache where there is none.

    Raises DataError when the cache can't be read.
    """
    if settings.demo or settings.freepbx_host:
        return bool(settings.demo)
    if settings.pbx_database_url is None and not (settings.pbx_data_dir / "pbx.sqlite").exists():
        return True
    engine = open_engine(settings)
    try:
        return active_connection(engine, settings) is None
    except SettingsError:  # saved passwords that can't be opened
        return False
    finally:
        engine.dispose()


def was_left(settings: Settings) -> bool:
    """Whether somebody has removed the demo."""
    return (settings.home_dir / LEFT).exists()


def enter_demo(settings: Settings) -> None:
    """Start the demo's process, unless it runs: it prepares the folder and sets the mark. It ends with this process.

    Raises SettingsError when a PBX is set up, DataError when the data directory can't be written.
    """
    if not is_unconfigured(settings):
        raise SettingsError(
            "A PBX is set up, and the demo would stand in its place.",
            "Remove FREEPBX_HOST from the environment and forget the saved settings to try the demo, "
            "or set PBX_DATA_DIR to another directory.",
        )
    process = start_process(settings.home_dir, ROLE, lambda: _start_demo(settings))
    if process is None:
        return
    _started[:] = [one for one in _started if one.poll() is None] + [process]
    threading.Thread(target=reap, args=(process,), daemon=True, name="demo reaper").start()


def _start_demo(settings: Settings) -> "subprocess.Popen[bytes]":
    (settings.home_dir / LEFT).unlink(missing_ok=True)
    with (settings.home_dir / "demo.log").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pbx", "demo", "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=os.environ | {"PBX_DATA_DIR": str(settings.home_dir.resolve())},
            **detached(),
        )


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process's end, and only then close its standard input."""
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def ensure_demo(settings: Settings) -> None:
    """Start the demo's process again where it has ended while the demo is on. Raises DataError."""
    if settings.demo and not demo_alive(settings):
        enter_demo(settings)


def leave_demo(settings: Settings) -> None:
    """Remove the demo: its mark, its processes, its folder. Nothing else is touched.

    Raises DataError when it can't be removed.
    """
    folder = demo_place(settings)
    try:
        if settings.home_dir.is_dir():
            (settings.home_dir / LEFT).touch()
        (folder / DEMO_MARK).unlink(missing_ok=True)
        for process in _started:
            if process.stdin is not None:
                process.stdin.close()  # which asks it to end
        deadline = time.monotonic() + LEAVE_S
        while demo_alive(settings) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        close_idle_connections(folder)
        remove_folder(folder)
        (settings.home_dir / "demo.log").unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"The demo in {folder} can't be removed: {error.strerror}.", "Delete that folder; nothing real lies in it."
        ) from error


def remove_folder(folder: Path) -> None:
    """Delete the demo's folder, what may be written into it meanwhile too. Raises OSError."""
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_LOOK_S)
    shutil.rmtree(folder)
