"""Starts processes for a test and kills them at its end."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

StartProcess = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def processes() -> Iterator[StartProcess]:
    """Yield a function that starts a command, with Popen's options. All processes are killed at the end of the block.

    Their output is text, in pipes.
    """
    started: list[subprocess.Popen[str]] = []

    def start(command: list[str], **options: Any) -> "subprocess.Popen[str]":
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()
