"""Limits the app's code to the parts of Python that Linux, macOS and Windows have in common.

Python runs this file at its start when PYTHONPATH contains this folder, also in child processes. For pbx, pages and
streamlit_app.py, modules and names that only POSIX has are missing. A file that this process has open can't be replaced
or deleted, as on Windows. Other packages are not limited, because they have code for each system.
"""

import builtins
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
APP = (f"{ROOT}{os.sep}pbx{os.sep}", f"{ROOT}{os.sep}pages{os.sep}", f"{ROOT}{os.sep}streamlit_app.py")
NO_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "msvcrt", "winreg"}
_NO_OS = """
    chown chroot fchmod fchown fdatasync fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp
    getppid getpriority getsid getuid initgroups killpg lchown lockf major mkfifo mknod nice openpty pipe2 posix_spawn
    pread preadv pwrite pwritev register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile setegid
    seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp ttyname uname wait wait3
    wait4 waitid O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC
"""
_NO_SIGNAL = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 alarm pause
    pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait sigwaitinfo
"""
NO_NAMES = {
    "os": frozenset(_NO_OS.split()),
    "signal": frozenset(_NO_SIGNAL.split()),
    "socket": frozenset({"AF_UNIX", "SO_REUSEPORT", "sendmsg"}),
    "select": frozenset({"epoll", "kqueue", "poll"}),
    "time": frozenset({"tzset", "clock_gettime", "pthread_getcpuclockid"}),
}
NO_OPTIONS = {"pass_fds", "preexec_fn", "user", "group", "umask", "process_group"}  # of subprocess.Popen
_import, _popen = builtins.__import__, subprocess.Popen.__init__


class LimitedModule(ModuleType):
    """A module without some of its names."""

    def __init__(self, module: ModuleType, missing: frozenset[str]) -> None:
        super().__init__(module.__name__)
        self.__dict__["_module"], self.__dict__["_missing"] = module, missing

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"not every system has {self._module.__name__}.{name}")
        return getattr(self._module, name)


def import_portably(name: str, globals: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Import a module; for files of the app, without the names that other systems lack."""
    if not str((globals or {}).get("__file__", "")).startswith(APP):
        return _import(name, globals, *args, **kwargs)
    if name.partition(".")[0] in NO_MODULES:
        raise ModuleNotFoundError(f"not every system has {name}", name=name)
    module = _import(name, globals, *args, **kwargs)
    return LimitedModule(module, NO_NAMES[name]) if name in NO_NAMES else module


def start_portably(self: Any, *args: Any, **kwargs: Any) -> None:
    """Start a process; for the app, refuse the options that Windows refuses."""
    posix_only = {
        name for name in ("pass_fds", "preexec_fn", "user", "group", "umask", "process_group") if name in kwargs
    }
    caller = sys._getframe(1)
    while caller.f_code.co_filename == subprocess.__file__ and caller.f_back is not None:  # subprocess.run
        caller = caller.f_back
    if posix_only and caller.f_code.co_filename.startswith(APP):
        raise ValueError(f"not every system has {', '.join(posix_only)}")
    _popen(self, *args, **kwargs)


def refusing_open_files(change: Callable[..., None], *, target: bool) -> Callable[..., None]:
    """Wrap a function of os that renames or deletes: it raises PermissionError if this process has the file open."""

    def changed(path: Any, *args: Any, **kwargs: Any) -> None:
        for one in (path, args[0]) if target and args else (path,):
            if _is_open(one, kwargs.get("dir_fd")):
                raise PermissionError(13, "open, so Windows would refuse", str(one))
        change(path, *args, **kwargs)

    return changed


def _is_open(path: Any, dir_fd: int | None) -> bool:
    try:
        facts = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        descriptors = [int(name) for name in os.listdir("/proc/self/fd")]
    except (OSError, ValueError):
        return False
    for descriptor in descriptors:
        try:
            if os.path.samestat(facts, os.fstat(descriptor)) and not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                return True
        except OSError:
            continue
    return False


builtins.__import__ = import_portably
subprocess.Popen.__init__ = start_portably  # type: ignore[method-assign]
for _name, _target in (("replace", True), ("rename", True), ("unlink", False), ("remove", False)):
    setattr(os, _name, refusing_open_files(getattr(os, _name), target=_target))
