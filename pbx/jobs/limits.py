"""How long a job may take. One that is past its limit is ended, so that the next of its kind can be done.

A job whose length nobody knows, a sync of years or an import, is limited by how long it makes no progress. Each request
within a job has limits of its own: these here are for what those didn't foresee.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pbx.errors import JobOverdue
from pbx.formatting import duration_text
from pbx.progress import Progress, Stop
from pbx.store.models import JobKind

LOOK_S = 0.1
END_S = 5.0  # how long a job that is past its limit may take to tidy up

log = logging.getLogger("pbx.worker")


@dataclass(frozen=True)
class JobLimit:
    """The most seconds a job may take in all, or without progress."""

    seconds: float
    of_no_progress: bool = False


LIMITS: dict[JobKind, JobLimit] = {
    "collect": JobLimit(300),
    "make_playable": JobLimit(1800),
    "sync": JobLimit(3600, of_no_progress=True),
    "import": JobLimit(3600, of_no_progress=True),
}


def run_limited(
    kind: JobKind,
    act: Callable[[Progress, Stop], dict[str, Any]],
    progress: Progress,
    stop: threading.Event,
) -> dict[str, Any]:
    """Do a job on a thread of its own and return its result; a set `stop` stops it.

    Raises what the job raises, JobOverdue when it is past its limit: then its thread is left, if it doesn't end.
    """
    limit, own = LIMITS[kind], Stop()
    moved_at = time.monotonic()  # when progress was last made
    at: tuple[int, int | None] = (-1, None)  # and how far it was
    result: list[dict[str, Any]] = []
    failure: list[BaseException] = []

    def note(done: int, total: int | None) -> None:
        nonlocal moved_at, at
        if limit.of_no_progress and (done, total) != at:
            moved_at, at = time.monotonic(), (done, total)
        if not own.is_set():
            progress(done, total)

    def work() -> None:
        try:
            result.append(act(note, own))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, name=f"{kind} job", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_S)
            if stop.is_set() and not own.is_set():
                own.set()
            if time.monotonic() - moved_at > limit.seconds:
                break
    finally:  # it was ended, is past its limit, or this thread is interrupted
        if thread.is_alive():
            own.set()
            thread.join(END_S)
    if failure and not own.is_set():
        raise failure[0]
    if own.is_set() and not stop.is_set():
        if thread.is_alive():
            log.error("The %s is past its time limit and can't be stopped. Restart the worker to end it.", kind)
        raise _overdue(kind, limit)
    if failure:
        raise failure[0]
    return result[0] if result else {}


def _overdue(kind: JobKind, limit: JobLimit) -> JobOverdue:
    what = "made no progress for" if limit.of_no_progress else "took longer than"
    return JobOverdue(
        f"The {kind} {what} {duration_text(limit.seconds)} and was stopped.",
        "What it has done so far is kept, and it will run again at its next scheduled time. To see whether the PBX "
        "responds, run `python -m pbx check`.",
    )
