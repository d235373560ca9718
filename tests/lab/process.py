"""Starts the lab's programs, finds their processes again, stops them, and waits for conditions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from tests.lab.provision import LabError, lab_dir


def wait_until(what: str, done: Callable[[], bool], deadline_s: float = 30) -> None:
    """Poll until `done()` is true. Raises LabError, which names `what`, after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not done():
        if time.monotonic() > end:
            raise LabError(f"Not true after {deadline_s:.0f} s: {what}.")
        time.sleep(0.1)


class Process(ABC):
    """A program that outlives the command that started it. It is found again by its command line."""

    name: str

    @property
    def log(self) -> Path:
        """The file with its output, mostly warnings and errors."""
        return lab_dir() / f"{self.name}.log"

    @abstractmethod
    def is_mine(self, proc: Path) -> bool:
        """Whether a directory of /proc is one of this program's processes."""

    def pids(self) -> list[int]:
        """The IDs of its running processes, including those of an earlier run."""
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # the process may end meanwhile
                if self.is_mine(proc) and is_alive(int(proc.name)):
                    found.append(int(proc.name))
        return found

    @property
    def running(self) -> bool:
        return bool(self.pids())

    def spawn(self, command: list[str]) -> None:
        """Start it in its own session without a parent, so that init reaps it."""
        with self.log.open("wb") as log:
            daemon = ["setsid", "--fork", *command]
            subprocess.run(daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd="/", check=True)

    def kill(self, deadline_s: float = 10) -> None:
        """Send SIGTERM, and SIGKILL after `deadline_s` seconds."""
        pids = self.pids()
        send_signal(pids, signal.SIGTERM)
        with contextlib.suppress(LabError):
            wait_until(f"{self.name} ends", lambda: not any(map(is_alive, pids)), deadline_s)
        self.crash()
        wait_until(f"{self.name} is gone", lambda: not any(map(is_alive, pids)))

    def crash(self) -> None:
        """Send SIGKILL and wait until the process is gone. Then its ports and sockets are free."""
        pids = self.pids()
        send_signal(pids, signal.SIGKILL)
        wait_until(f"{self.name} is gone", lambda: not any(map(is_alive, pids)))


def send_signal(pids: list[int], sig: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def is_alive(pid: int) -> bool:
    """Whether a process exists. An ending process loses its command line first and closes its sockets later."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
