"""What tests need to know about the operating system that they run on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals and file modes")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/full and this memory count")
KILLED = {-9, 1, 15}  # exit statuses of a killed process: on POSIX, and on Windows by subprocess or psutil


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size: the system then refuses as it does on a full disk. Skips the test on Windows."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
