"""The worker downloads the recording of a call soon after it ends, without a request from a user."""

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
from tests.lab.test_cli import environment
from tests.paths import ROOT

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


def test_a_recording_is_downloaded_soon_after_its_call_ends(
    server: LabServer, engine: Engine, no_real_data: Path, worker: object, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_until("the first sync is done", lambda: [job.state for job in syncs(engine)][:1] == ["done"], 90)
    wait_until("the worker listens", lambda: anyone_alive(no_real_data, "watch"))
    earlier = {job.id: job.requested_by for job in syncs(engine)}
    assert set(earlier.values()) == {"schedule"}
    call = place_queue_call(server, "answered", seconds=2)
    call_ended = time.monotonic()

    def is_downloaded() -> bool:
        row = recording(engine, call.uniqueid)
        return row is not None and row.state == "downloaded"

    def requesters() -> list[str]:
        return [job.requested_by for job in syncs(engine) if job.id not in earlier]

    wait_until("its recording is in the cache", is_downloaded, 45)
    with capsys.disabled():
        print(f"\n{server.name}: call over, recording in the cache after {time.monotonic() - call_ended:.1f} s")
    # A scheduled sync may become due during the test, and may even download the recording first.
    wait_until("the listener has requested a sync", lambda: "listener" in requesters())
    assert set(requesters()) <= {"listener", "schedule"}
    downloaded = next((no_real_data / "audio").rglob(f"*-{call.uniqueid}.wav"))
    assert downloaded.read_bytes() == call.recording_file.read_bytes()
