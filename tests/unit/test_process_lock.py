"""Locks between processes have one holder, one caller starts the holder, and a killed process frees its lock."""

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from pbx.process_lock import anyone_alive, start_process, take_process_lock, try_process_lock
from tests.operating_systems import needs_posix
from tests.paths import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from pbx.process_lock import try_process_lock

time.sleep(float(sys.argv[2]))
held = try_process_lock(Path(sys.argv[1]), "worker-0")
print("held", flush=True)
time.sleep(60)
"""


def hold(data_dir: Path, after_s: float = 0.0) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", HOLDER, str(data_dir), str(after_s)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert anyone_alive(tmp_path, "worker")
        assert try_process_lock(tmp_path, "worker-0") is None
    finally:
        kill(holder)
    assert not anyone_alive(tmp_path, "worker")
    with take_process_lock(tmp_path, "worker") as lock:
        assert lock.name == "worker-0"


def test_checking_a_free_lock_does_not_make_it_look_held(tmp_path: Path) -> None:
    take_process_lock(tmp_path, "worker").close()
    results: list[bool] = []

    def check_often() -> None:
        results.extend(anyone_alive(tmp_path, "worker") for _ in range(50))

    threads = [threading.Thread(target=check_often) for _ in range(6)]
    for thread in threads:
        thread.start()
    # The first call takes the lock; the others get None.
    taken = [try_process_lock(tmp_path, "worker-1") for _ in range(20)]
    for thread in threads:
        thread.join()
    assert [lock is not None for lock in taken] == [True] + [False] * 19
    assert taken[0] is not None
    taken[0].close()
    assert len(results) == 300
    assert not anyone_alive(tmp_path, "worker")
    with take_process_lock(tmp_path, "worker") as lock:
        assert lock.name == "worker-0"


def test_only_one_of_several_callers_starts_a_process(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        process = start_process(tmp_path, "worker", lambda: hold(tmp_path, 0.5))
        assert anyone_alive(tmp_path, "worker")  # also before the process holds its lock
        if process is not None:
            started.append(process)

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (process,) = started
    try:
        assert process.stdout is not None
        while try_process_lock(tmp_path, "worker-start") is None:  # until the lock is handed over
            assert anyone_alive(tmp_path, "worker")
            time.sleep(0.01)
        assert process.stdout.readline() == b"held\n"
        assert start_process(tmp_path, "worker", lambda: hold(tmp_path)) is None
    finally:
        kill(process)
    assert not anyone_alive(tmp_path, "worker")


def test_a_process_that_fails_to_start_leaves_no_lock(tmp_path: Path) -> None:
    failing = start_process(tmp_path, "worker", lambda: subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]))
    assert failing is not None
    assert failing.wait(30) == 1
    deadline = time.monotonic() + 10
    while anyone_alive(tmp_path, "worker"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_posix
def test_a_lock_is_lost_when_its_directory_is_deleted_or_created_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with take_process_lock(folder, "worker") as lock:
        assert not lock.lost
        shutil.rmtree(folder)
        assert lock.lost
        with take_process_lock(folder, "worker") as other:
            assert other.name == "worker-0"
            assert lock.lost
            assert not other.lost
