"""The worker as a separate process with real Asterisk: jobs that are due, and SIGKILL during a sync."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.settings import Connection, load_settings
from pbx.store.engine import reading
from pbx.store.job_queue import ensure_worker, request_job, worker_alive
from pbx.store.models import Job, RecordingRow
from tests.lab.calls import place_queue_call
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.lab.spare_asterisk import SpareAsterisk, spare_asterisk
from tests.lab.test_cli import environment
from tests.paths import ROOT
from tests.processes import processes

pytestmark = pytest.mark.lab
RECORDINGS = 3000
Start = Callable[[Connection], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    command = [sys.executable, "-m", "pbx", "worker"]
    with processes() as start:
        yield lambda connection: start(command, cwd=ROOT, env=environment(connection))


@pytest.fixture
def full_pbx() -> Iterator[SpareAsterisk]:
    """An Asterisk with so many recordings that a sync takes some seconds."""
    with spare_asterisk(22, "worker") as server:
        folder = server.monitor / "2026/05/04"
        folder.mkdir(parents=True)
        sound = folder / "first.wav"
        shutil.copy(next((server.root / "usr/share/asterisk/sounds").rglob("vm-goodbye.wav")), sound)
        for n in range(RECORDINGS):
            name = f"out-5550{n:04}-1001-20260504-{n // 3600 + 8:02}{n // 60 % 60:02}{n % 60:02}-{1777870000 + n}.{n}"
            (folder / f"{name}.wav").hardlink_to(sound)
        sound.unlink()
        yield server


def jobs_of(engine: Engine) -> list[Job]:
    with reading(engine) as session:
        return list(session.exec(select(Job).order_by(Job.requested_at)).all())


def done_kinds(engine: Engine) -> set[str]:
    return {job.kind for job in jobs_of(engine) if job.state == "done"}


def test_a_worker_runs_due_jobs_immediately(
    engine: Engine, no_real_data: Path, server: LabServer, start: Start
) -> None:
    place_queue_call(server, "answered", seconds=2)
    process = start(server.connection())
    wait_until("sync and collect are done", lambda: done_kinds(engine) == {"sync", "collect"})
    assert {job.requested_by for job in jobs_of(engine)} == {"schedule"}
    assert (no_real_data / "freepbx.json").exists()
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "has ended" in output
    assert server.ami_secret not in output


def test_the_apps_worker_runs_a_job_that_a_page_requested(
    engine: Engine, server: LabServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(server.connection()).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    job = request_job(engine, settings, "collect", requested_by="page")
    ensure_worker(settings)
    assert worker_alive(settings)
    try:
        wait_until(
            "the job is done", lambda: any(done.id == job.id and done.state == "done" for done in jobs_of(engine))
        )
    finally:
        for child in psutil.Process().children():
            if "worker" in child.cmdline():
                child.terminate()
    wait_until("the worker has ended", lambda: not worker_alive(settings))


def test_a_killed_sync_is_completed_by_another_worker(
    engine: Engine, no_real_data: Path, full_pbx: SpareAsterisk, start: Start
) -> None:
    first = start(full_pbx.connection())
    wait_until("the sync has started", lambda: any(job.state == "running" for job in jobs_of(engine)))
    second = start(full_pbx.connection())
    wait_until("some recordings are downloaded", lambda: any(job.done for job in jobs_of(engine)))
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until("the sync is done", lambda: done_kinds(engine) == {"sync"}, 60)
    assert second.poll() is None
    job = jobs_of(engine)[0]
    assert job.attempts == 2
    with reading(engine) as session:
        recordings = session.exec(select(RecordingRow)).all()
    assert Counter(recording.state for recording in recordings) == {"downloaded": RECORDINGS}
    stored = [path for path in (no_real_data / "audio").rglob("*") if path.is_file() and path.name != ".sync.lock"]
    assert len(stored) == RECORDINGS
    assert {path.stat().st_size for path in stored} == {recordings[0].size_bytes}
