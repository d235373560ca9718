"""Functions that differ between operating systems work on this one."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from pbx import operating_system
from tests.paths import ROOT

CHILD = """
import sys, threading, time
from pbx import operating_system

stop = threading.Event()
operating_system.end_with_parent(stop)
print("ready", flush=True)
if sys.argv[1] == "stops":
    stop.wait(60)
    sys.exit(3)
time.sleep(60)
"""


def start(behaviour: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", CHILD, behaviour]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline().strip() == b"ready"
    return child


def test_free_memory_and_cores_are_within_the_machines_limits() -> None:
    assert 0 < operating_system.free_memory_bytes() <= psutil.virtual_memory().total
    assert 1 <= operating_system.usable_cores() <= (psutil.cpu_count() or 1)


def test_a_child_stops_in_an_orderly_way_when_its_standard_input_is_closed() -> None:
    child = start("stops")
    operating_system.stop_child(child, 30)
    assert child.returncode == 3


def test_a_child_that_does_not_end_is_killed() -> None:
    child = start("hangs")
    operating_system.stop_child(child, 0.1)
    assert child.returncode not in (0, 3, None)


def test_a_process_that_exceeds_its_memory_limit_ends() -> None:
    code = "from pbx import operating_system; import time; operating_system.limit_memory(1); time.sleep(60)"
    started = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 1
    assert time.monotonic() - started < 30


def test_a_file_replaces_an_older_one(tmp_path: Path) -> None:
    old, part = tmp_path / "facts.json", tmp_path / "part"
    old.write_text("old", encoding="utf-8")
    part.write_text("new", encoding="utf-8")
    operating_system.replace_file(part, old)
    assert old.read_text(encoding="utf-8") == "new"
    assert not part.exists()
