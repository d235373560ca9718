"""A worker process whose sync waits for the file `go`; tests start it and kill it.

Arguments: once (optional). Each line of `log` in the data directory is "<pid> begins|ends".
"""

import os
import sys
from typing import Any

from pbx.jobs import worker
from pbx.settings import load_settings


def wait_for_go(job: worker.JobRun) -> dict[str, Any]:
    folder = job.settings.pbx_data_dir

    def log_event(event: str) -> None:
        with (folder / "log").open("a") as log:
            log.write(f"{os.getpid()} {event}\n")

    log_event("begins")
    assert job.progress is not None
    job.progress(1, 2)
    while not (folder / "go").exists():
        if job.stop.wait(0.02) and "ignore_stop" not in job.options:
            return {"new": 0}
    log_event("ends")
    return {"new": 2}


worker.POLL_S = 0.05
worker.STOP_TIMEOUT_S = 1.0
worker.JOBS["sync"] = wait_for_go
sys.argv[1:] = ["worker", *sys.argv[1:]]
load_settings()

from pbx.__main__ import main  # noqa: E402

main()
