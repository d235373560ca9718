"""Causes random faults during the soak test: on the network, restarts of the PBX, and killed processes."""

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.simulator.faults import Fault
from tests.simulator.simulated_pbx import SimulatedPbx
from tests.soak.app_processes import AppProcess, processes_using

FILES = "ari/recordings/stored/*/file"
LIST = "ari/recordings/stored"
MAX_RESTART_DELAY_S = 4.0


def stall_s(gentle: bool) -> float:
    """The longest stall of AMI, which delays events."""
    return 1.5 if gentle else 6.0


class RandomFaults:
    """Causes random faults in a thread until it is closed. `done` counts them. The seed decides which ones occur."""

    def __init__(
        self, pbx: SimulatedPbx, children: list[AppProcess], data_dir: Path, seed: int, every_s: float, *, gentle: bool
    ) -> None:
        self.done: Counter[str] = Counter()
        self.killing = True
        self._started = time.monotonic()
        self._period_s = 30.0 if gentle else 90.0
        self._pbx, self._children, self._data_dir, self._every_s = pbx, children, data_dir, every_s
        self._chance = random.Random(seed)
        self._password = pbx.password
        self._stall_s = stall_s(gentle)
        # Slow headers, then a body below the minimum rate: the download fails after a minute.
        self._slow_faults = () if gentle else ((Fault("trickle", FILES, seconds=0.05), 1),)
        self._stop = threading.Event()
        more = () if gentle else ((self._restart_pbx, 1), (self._change_password, 1), (self._mute, 2))
        self._actions: list[tuple[Callable[[], str], int]] = [
            (self._fault, 14),
            (self._drop, 2),
            (self._kill, 4),
            *more,
        ]
        self._actions.append((self._kill_transcriber, 2))
        self._thread = threading.Thread(target=self._run, name="random-faults", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop causing faults: disarm all, restore the password, restart killed processes."""
        self._stop.set()
        self._thread.join()
        self._pbx.faults.clear()
        self._pbx.change_password(self._password)
        for child in self._children:
            if not child.alive:
                child.start()

    def _run(self) -> None:
        actions, weights = zip(*self._actions, strict=True)
        if not self._stop.wait(self._every_s):
            self.done[self._kill()] += 1  # even a short soak kills one process
        while not self._stop.wait(self._chance.uniform(0.3, 1.7) * self._every_s):
            action = self._chance.choices(actions, weights)[0]
            if (action != self._kill or self.killing) and (done := action()):
                self.done[done] += 1

    @property
    def _ami_is_exempt(self) -> bool:
        """Whether AMI has no faults now. It has them a third of the time, so some calls are received completely."""
        return (time.monotonic() - self._started) % self._period_s > self._period_s / 3

    def _fault(self) -> str:
        chance = self._chance
        fault, times = chance.choice(
            (
                (Fault("refuse", chance.choice(("ami", "ari"))), chance.randint(1, 4)),
                (Fault("cut", FILES, after_bytes=chance.randint(0, 60_000)), chance.randint(1, 6)),
                (Fault("cut", chance.choice((LIST, "ari/channels")), after_bytes=chance.randint(0, 400)), 2),
                (Fault("cut", "ami/*", after_bytes=chance.randint(0, 300)), 1),
                (Fault("stall", FILES, after_bytes=chance.randint(0, 60_000), seconds=chance.uniform(1, 5)), 2),
                (
                    Fault(
                        "stall", "ami/*", after_bytes=chance.randint(0, 200), seconds=chance.uniform(0.5, self._stall_s)
                    ),
                    1,
                ),
                (Fault("trickle", chance.choice(("ami/*", LIST, "ari/channels")), seconds=0.0), chance.randint(1, 5)),
                (Fault("wrong_length", FILES, extra_bytes=chance.choice((-1000, -1, 1, 5000))), chance.randint(1, 3)),
                (
                    Fault("server_error", chance.choice((FILES, LIST)), status=chance.choice((500, 503))),
                    chance.randint(1, 6),
                ),
                (Fault("slow_list", LIST, seconds=chance.uniform(1, 8)), 1),
                (Fault("nested", chance.choice((LIST, "ari/channels"))), chance.randint(1, 2)),
                (Fault("endless", chance.choice((LIST, "ari/channels"))), chance.randint(1, 2)),
                *self._slow_faults,
                (Fault("slow_list", "ami/*", seconds=chance.uniform(0.5, 3)), 1),
                (Fault("headless", "ami/*"), 1),
                (Fault("endless", "ami/*"), 1),
                (Fault("flood", chance.choice(("ami/Challenge", "ami/Login"))), 1),
            )
        )
        if fault.where.startswith("ami") and self._ami_is_exempt:
            return ""
        self._pbx.faults.arm(fault, times)
        return f"{fault.kind} armed"

    def _drop(self) -> str:
        if self._ami_is_exempt:
            return ""
        self._pbx.drop_connections()
        return "all connections dropped"

    def _restart_pbx(self) -> str:
        if self._ami_is_exempt:
            return ""
        self._pbx.restart()
        return "PBX restarted"

    def _mute(self) -> str:
        where = self._chance.choice(("ami/Ping", "ami/QueueStatus", "ari/channels"))
        if where.startswith("ami") and self._ami_is_exempt:
            return ""
        self._pbx.faults.arm(Fault("mute", where))
        return "mute armed"

    def _change_password(self) -> str:
        if self._ami_is_exempt:
            return ""
        self._pbx.change_password()
        self._pbx.drop_connections()
        self._stop.wait(self._chance.uniform(1, 6))
        self._pbx.change_password(self._password)
        return "password changed temporarily"

    def _kill_transcriber(self) -> str:
        # A transcriber that is killed while it loads its model pauses for minutes, as if out of memory.
        killed = self.killing and is_transcribing(self._data_dir) and kill_transcribers(self._data_dir)
        return "transcriber killed" if killed else ""

    def _kill(self) -> str:
        child = self._chance.choice(
            [child for child in self._children if child.name != "watch" or not self._ami_is_exempt]
        )
        child.kill()
        self._stop.wait(self._chance.uniform(0, MAX_RESTART_DELAY_S))
        if not child.alive:
            child.start()
        return f"{child.name} killed"


def is_transcribing(data_dir: Path) -> bool:
    """Whether a recording is being transcribed."""
    with closing(sqlite3.connect(f"{(data_dir / 'pbx.sqlite').as_uri()}?mode=ro", uri=True)) as cache:
        return cache.execute("SELECT 1 FROM transcriptions WHERE state = 'transcribing'").fetchone() is not None


def kill_transcribers(data_dir: Path) -> int:
    """Kill the worker's transcribers, and return how many there were."""
    found = [process for process in processes_using(data_dir) if "transcriber" in process.cmdline()]
    for process in found:
        process.kill()
    return len(found)


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until a condition is true. Return whether it became true within `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (is_true := condition()) and time.monotonic() < end:
        time.sleep(0.5)
    return is_true
