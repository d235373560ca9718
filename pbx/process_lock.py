"""Which processes are alive: each holds a lock on a file of its own in the data directory.

The kernel frees the lock however a process ends, SIGKILL included: no clock, no heartbeat, no stale pid.
"""

import fcntl
import itertools
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pbx.errors import DataError


class ProcessLock:
    """A lock held until `close` or the end of the process. `name` is unique among the living of a data directory."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor

    @property
    def lost(self) -> bool:
        """Whether the file was deleted, the data directory with it most likely: the lock protects nothing any more."""
        return os.fstat(self.descriptor).st_nlink == 0

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def try_process_lock(data_dir: Path, name: str) -> ProcessLock | None:
    """Take the slot of that name, or return None while a living process holds it. Raises DataError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataError(
            f"The data directory {data_dir} can't be written to: {error.strerror}.",
            "Make it writable, or name another one in PBX_DATA_DIR.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return ProcessLock(name, descriptor)


def take_process_lock(data_dir: Path, role: str) -> ProcessLock:
    """Take the first free slot of a role: worker-0, worker-1, … Raises DataError."""
    return next(slot for n in itertools.count() if (slot := try_process_lock(data_dir, f"{role}-{n}")))


def inherited_process_lock(name: str, descriptor: int) -> ProcessLock:
    """The slot whose lock the starting process passed on. Raises DataError when the descriptor is no such lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise DataError(f"The lock of {name} was not passed on.", "Start the worker without --slot.") from error
    return ProcessLock(name, descriptor)


def anyone_alive(data_dir: Path, role: str) -> bool:
    """Whether a living process holds a slot of a role. A shared lock asks: askers don't mistake one another for it."""
    return any(_is_held(path) for path in data_dir.glob(f"{role}-*.lock"))


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its directory is being deleted, as when a demo is left
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
