"""Starts, kills and restarts the app's processes, and measures their memory."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.paths import ROOT

SAMPLE_S = 2.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class AppProcess:
    """A program that is restarted after kills. `samples` has (monotonic seconds, bytes) of the current process."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    kills: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started_at, self.samples = time.monotonic(), []

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory runs out."""
        if self.process is not None and self.alive:
            self.process.kill()
            self.process.wait()
            self.kills += 1

    def end(self) -> int:
        """Send SIGTERM, or SIGKILL after 30 s, and return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return -signal.SIGKILL

    def measure(self) -> None:
        """Add a sample of the process's memory."""
        with contextlib.suppress(psutil.Error):
            if self.process is not None and self.alive:
                self.samples.append((time.monotonic(), psutil.Process(self.process.pid).memory_info().rss))


class MemorySampler:
    """Measures the app's processes and this one every `SAMPLE_S` seconds until it is closed."""

    def __init__(self, children: list[AppProcess]) -> None:
        self.own_samples: list[tuple[float, int]] = []
        self._children = children
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        this_process = psutil.Process()
        while not self._stop.wait(SAMPLE_S):
            self.own_samples.append((time.monotonic(), this_process.memory_info().rss))
            for child in self._children:
                child.measure()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def processes_using(data_dir: Path) -> list[psutil.Process]:
    """All processes with this data directory, including transcribers that a worker started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PBX_DATA_DIR") == str(data_dir) and process.pid != os.getpid():
                found.append(process)
    return found


def end_processes_using(data_dir: Path) -> None:
    """Terminate all processes with this data directory, and kill those that remain after 30 s."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        found = processes_using(data_dir)
        for process in found:
            with contextlib.suppress(psutil.Error):
                end(process)
        psutil.wait_procs(found, 30)


def is_app_up(address: str) -> bool:
    """Whether the app answers its health check."""
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
