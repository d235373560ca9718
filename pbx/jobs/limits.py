"""Time limits for jobs. A job that exceeds its limit is stopped, so that the next one of its kind can run.

Jobs of unknown length (an import, or a sync of several years) have a limit on the time without progress. Each request
within a job also has a timeout of its own; these limits catch everything else.
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
from pbx.store.models import JOB_NAMES, JobKind

POLL_S = 0.1
STOP_TIMEOUT_S = 5.0  # how long a stopped job can take to clean up

log = logging.getLogger("pbx.worker")


@dataclass(frozen=True)
class JobLimit:
    """The maximum number of seconds that a job can take: in total, or without progress if `of_no_progress`."""

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
    """Run a job on a thread of its own and return its result; setting `stop` stops the job.

    Raises any exception that the job raises, and JobOverdue if the job exceeds its time limit. A thread that doesn't
    stop then is left running.
    """
    limit, own = LIMITS[kind], Stop()
    moved_at = time.monotonic()  # when the job last made progress
    at: tuple[int, int | None] = (-1, None)  # (done, total) at that time, if the limit depends on progress
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
            thread.join(POLL_S)
            if stop.is_set() and not own.is_set():
                own.set()
            if time.monotonic() - moved_at > limit.seconds:
                break
    finally:  # ended, stopped, past its limit, or interrupted by Ctrl-C
        if thread.is_alive():
            own.set()
            thread.join(STOP_TIMEOUT_S)
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
        f"The {JOB_NAMES[kind]} {what} {duration_text(limit.seconds)} and was stopped.",
        "What it has done so far is kept, and it continues when it runs again. To see whether the PBX responds, run "
        "`python -m pbx check`.",
    )
