"""Locks that tell which processes are alive: each process holds a lock on a file of its own in the data directory.

The operating system frees a lock however its process ends, also when it is killed. So nothing depends on clocks,
heartbeats or process ids. The locks are those of filelock: `flock` on Linux and macOS, `LockFileEx` on Windows.
"""

import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from pbx.errors import DataError

_GATE = ".process-locks"  # the file that is locked while a lock is taken or tested
_GATE_S = 5.0  # how long to wait for the gate; others hold it for a millisecond
_POLL_S = 0.05


class ProcessLock:
    """A lock that is held until `close`, or until the process ends. `name` is unique within a data directory."""

    def __init__(self, name: str, lock: FileLock) -> None:
        self.name = name
        self._lock = lock
        self._file = _file_id(Path(lock.lock_file))

    @property
    def lost(self) -> bool:
        """Whether the lock's file was deleted or replaced, most likely with its directory. It then protects nothing."""
        return self._file is None or _file_id(Path(self._lock.lock_file)) != self._file

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_lock(path: Path, timeout_s: float = -1) -> FileLock:
    """Return the lock of a file, not yet taken; the file is made private to this user.

    Taking it raises filelock.Timeout when another holds it for `timeout_s` (-1: waits without limit), or OSError.
    """
    # A file that only exists, in place of a lock, would outlive a killed process: so no fallback to one.
    return FileLock(path, timeout_s, 0o600, thread_local=False, fallback_to_soft=False)


def try_process_lock(data_dir: Path, name: str) -> ProcessLock | None:
    """Take the lock of that name, or return None while another process holds it. Raises DataError."""
    lock = file_lock(data_dir / f"{name}.lock", 0)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _gate(data_dir):
            lock.acquire()
        return ProcessLock(name, lock)
    except Timeout:
        return None
    except OSError as error:
        raise DataError(
            f"The data directory {data_dir} can't be written to: {error.strerror}.",
            "Make it writable, or name another one in PBX_DATA_DIR.",
        ) from error


def take_process_lock(data_dir: Path, role: str) -> ProcessLock:
    """Take the first free lock of a role: worker-0, worker-1, … Raises DataError."""
    return next(lock for n in itertools.count() if (lock := try_process_lock(data_dir, f"{role}-{n}")))


def anyone_alive(data_dir: Path, role: str) -> bool:
    """Whether a process holds a lock of a role, or is being started by `start_process`. Takes about a millisecond."""
    return any(_is_held(path) for path in data_dir.glob(f"{role}-*.lock"))


def start_process(
    data_dir: Path, role: str, start: Callable[[], "subprocess.Popen[bytes]"]
) -> "subprocess.Popen[bytes] | None":
    """Call `start`, whose process takes the lock `<role>-0`; return None when a process of this role is alive already.

    Until the new process holds its lock, this one holds `<role>-start`. So the role counts as alive from now on, and of
    several callers only one starts a process. Raises DataError, and what `start` raises.
    """
    starting = try_process_lock(data_dir, f"{role}-start")
    if starting is None:
        return None
    process = None
    try:
        if not any(_is_held(path) for path in data_dir.glob(f"{role}-[0-9]*.lock")):
            process = start()
    finally:
        if process is None:
            starting.close()
    if process is not None:
        own = data_dir / f"{role}-0.lock"
        threading.Thread(target=_hand_over, args=(starting, own, process), daemon=True, name=f"{role} start").start()
    return process


def _hand_over(starting: ProcessLock, own: Path, process: "subprocess.Popen[bytes]") -> None:
    with starting:
        while process.poll() is None and not _is_held(own):
            time.sleep(_POLL_S)


@contextmanager
def _gate(data_dir: Path) -> Iterator[None]:
    """Keep tests and takers of locks apart, so that a test is never mistaken for a holder. Raises Timeout, OSError."""
    with file_lock(data_dir / _GATE).acquire(_GATE_S, poll_interval=0.002):
        yield


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with _gate(path.parent), file_lock(path, 0):
            return False
    except Timeout:
        return True
    except OSError:  # its directory can't be written or is being deleted, as when a data directory is removed
        return False


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
