"""What differs between Linux, macOS and Windows: processors, memory, priorities, child processes, replacing files."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import psutil

NICENESS = 15  # of a process that works in the background
# Names that Windows keeps for devices, whatever follows the first dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_REPLACE_TRIES, _REPLACE_S = 20, 0.05


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def free_memory_bytes() -> int:
    """Return how many bytes of memory a process may still take; a container's limit counts."""
    found = [int(psutil.virtual_memory().available)]
    for folder, limit, used, idle in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            root = Path(folder)
            facts = dict(line.split() for line in (root / "memory.stat").read_text(encoding="utf-8").splitlines())
            # Cached files don't count: the system drops them when it needs room.
            taken = int((root / used).read_text(encoding="utf-8")) - int(facts[idle])
            found.append(int((root / limit).read_text(encoding="utf-8")) - taken)
        except (OSError, ValueError, KeyError):  # there is no such file, or it contains "max"
            continue
    return min(found)


def lower_priority() -> None:
    """Let other processes go first: NICENESS, or Windows' priority below normal."""
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    elif process.nice() < NICENESS:
        process.nice(NICENESS)


def limit_memory(limit_bytes: int) -> None:
    """End this process with exit status 1 when it takes more memory than this; checked ten times a second."""

    def watch() -> None:
        process = psutil.Process()
        while process.memory_info().rss <= limit_bytes:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="memory").start()


def refuse_memory(limit_bytes: int) -> None:
    """Let the system refuse memory to this process beyond a limit, and never write its memory to the disk.

    Windows has no such limit and macOS doesn't keep it, so whoever started the process must watch it too.
    """
    if sys.platform != "win32":
        import resource

        for kind, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, limit_bytes)):
            most = resource.getrlimit(kind)[1]
            soft = limit if most == resource.RLIM_INFINITY else min(limit, most)
            resource.setrlimit(kind, (soft, soft))


def start_command(*command: str, data_dir: Path, stdin: int, output: BinaryIO) -> "subprocess.Popen[bytes]":
    """Start `python -m pbx COMMAND` for a data directory, as a process that this terminal's Ctrl-C does not reach.

    `stdin`: subprocess.PIPE or DEVNULL. `output`: the open log of all that it prints. Raises OSError.
    """
    return subprocess.Popen(  # noqa: S603 - our own commands
        [sys.executable, "-m", "pbx", *command],
        stdin=stdin,
        stdout=output,
        stderr=output,
        env=os.environ | {"PBX_DATA_DIR": str(data_dir.resolve())},
        **_detached(),
    )


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def end_with_parent(stop: threading.Event) -> None:
    """Set `stop` when standard input ends: whoever started this process with a pipe has ended or closed it."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=wait, daemon=True, name="parent").start()


def stop_child(process: "subprocess.Popen[bytes]", wait_s: float) -> None:
    """Ask a child that calls `end_with_parent` to stop, and kill it when it has not ended after `wait_s`.

    Windows has no signal that lets a process end in order, so the child's standard input is closed instead.
    """
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_device_name(name: str) -> bool:
    """Whether Windows takes a file name for a device: CON, nul.txt, COM1."""
    return _DEVICE.fullmatch(name) is not None


def replace_file(part: Path, target: Path) -> None:
    """Give a finished file its name, in place of an older one. Raises OSError.

    Windows refuses while another process has the older one open, so this tries for a second.
    """
    for _ in range(_REPLACE_TRIES if sys.platform == "win32" else 0):
        try:
            part.replace(target)
            return
        except PermissionError:
            time.sleep(_REPLACE_S)
    part.replace(target)
