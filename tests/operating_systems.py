"""Skips tests on operating systems that lack what they need, and limits the size of files as a full disk does."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals and file modes")
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has /dev/full and reports peak memory this way"
)
KILLED = {-9, 1, 15}  # exit statuses of a killed process: on POSIX, and on Windows by subprocess or psutil


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Fail writes beyond this file size with an OSError, as on a full disk. Skips the test on Windows."""
    resource = pytest.importorskip("resource", reason="Windows has no limit on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
