"""Reads jobs and the log of test workers, and waits for a condition."""

import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlmodel import col, select

from pbx.settings import Settings
from pbx.store.engine import reading
from pbx.store.models import Job


def wait_for(condition: Callable[[], object], event: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"never {event}")


def jobs_of(engine: Engine) -> list[Job]:
    with reading(engine) as session:
        return list(session.exec(select(Job).order_by(col(Job.requested_at), col(Job.id))).all())


def job_state(engine: Engine, job: Job) -> str:
    with reading(engine) as session:
        return session.get_one(Job, job.id).state


def log_of(settings: Settings) -> list[str]:
    log = settings.pbx_data_dir / "log"
    return log.read_text().splitlines() if log.exists() else []


def release_sync(settings: Settings) -> None:
    (settings.pbx_data_dir / "go").touch()
