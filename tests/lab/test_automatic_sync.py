"""A call that was recorded is in the cache soon after it ended, without anybody asking for a sync."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from pbx.process_lock import anyone_alive
from pbx.store.engine import reading
from pbx.store.models import Job, RecordingRow
from tests.lab.calls import place_queue_call
from tests.lab.process import wait_until
from tests.lab.servers import LabServer
from tests.lab.test_cli import ROOT, environment

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture
def worker(server: LabServer, engine: Engine) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "pbx", "worker", "--quiet"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(server.connection())) as process:
        yield process
        process.terminate()


def syncs(engine: Engine) -> list[Job]:
    with reading(engine) as session:
        return list(session.exec(select(Job).where(Job.kind == "sync").order_by(Job.requested_at)))


def recording(engine: Engine, uniqueid: str) -> RecordingRow | None:
    with reading(engine) as session:
        return session.exec(select(RecordingRow).where(RecordingRow.uniqueid == uniqueid)).one_or_none()


def test_a_recording_comes_by_itself_soon_after_the_call(
    server: LabServer, engine: Engine, no_real_data: Path, worker: object, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_until("the first sync is done", lambda: [job.state for job in syncs(engine)][:1] == ["done"], 90)
    wait_until("the worker listens", lambda: anyone_alive(no_real_data, "watch"))
    call = place_queue_call(server, "answered", seconds=2)
    begun = time.monotonic()

    def came() -> bool:
        found = recording(engine, call.uniqueid)
        return found is not None and found.state == "downloaded"

    wait_until("its recording is in the cache", came, 45)
    with capsys.disabled():
        print(f"\n{server.name}: call over, recording in the cache after {time.monotonic() - begun:.1f} s")
    assert [job.requested_by for job in syncs(engine)][:2] == ["schedule", "listener"]
    found = recording(engine, call.uniqueid)
    assert found is not None
    kept = next((no_real_data / "audio").rglob(f"*-{call.uniqueid}.wav"))
    assert kept.read_bytes() == call.recording_file.read_bytes()
