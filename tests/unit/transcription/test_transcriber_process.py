"""The worker starts a transcriber process when recordings are queued, replaces it when it dies, and stops it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest
from sqlalchemy import Engine

from pbx.operating_system import NICENESS, stop_child
from pbx.process_lock import anyone_alive
from pbx.settings import Settings
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.engine import reading, writing
from pbx.store.pbx_connections import active_connection
from pbx.transcription import supervisor as speech
from pbx.transcription.supervisor import TranscriberSupervisor
from pbx.transcription.transcriber_process import limit_threads
from tests.operating_systems import KILLED, needs_posix
from tests.paths import ROOT
from tests.unit.jobs.job_checks import log_of, release_sync, wait_for
from tests.unit.transcription.scripted_engine import (
    add_recording,
    request_transcription,
    row_of,
    states,
    transcript_parts,
)

Start = Callable[..., "subprocess.Popen[str]"]

HANGING_TRANSCRIBER = """
import os, time
from pathlib import Path
from pbx.process_lock import try_process_lock

held = try_process_lock(Path(os.environ["PBX_DATA_DIR"]), "transcriber-0")
time.sleep(100)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a worker with the scripted engine; the fixture ends all workers and transcribers after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.unit.transcription.speech_worker", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, text=True, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.communicate()


def transcribers(worker: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [child for child in psutil.Process(worker.pid).children() if child.status() != psutil.STATUS_ZOMBIE]


def pids(settings: Settings) -> list[int]:
    return [int(line.split()[0]) for line in log_of(settings)]


def blocked_reason(engine: Engine, settings: Settings) -> str:
    active = active_connection(engine, settings)
    assert active is not None
    with reading(engine) as session:
        return transcriptions.rules_of(session, active.id).blocked_reason


def test_a_new_transcriber_completes_what_a_killed_one_left(engine: Engine, settings: Settings, start: Start) -> None:
    number, other = add_recording(engine, settings, parts=4, fault="wait", at=2), add_recording(engine, settings)
    start()  # the rules queue both recordings
    wait_for(lambda: states(engine) == {number: "transcribing", other: "completed"}, "transcribing the first recording")
    wait_for(lambda: row_of(engine, number).done_s == 20.0, "two parts stored")
    (first,) = set(pids(settings))
    psutil.Process(first).kill()
    wait_for(lambda: len(log_of(settings)) == 3, "started again")
    assert row_of(engine, number).attempts == 2
    release_sync(settings)
    wait_for(lambda: states(engine)[number] == "completed", "completed")
    assert transcript_parts(engine, number) == ["part 0", "part 1", "part 2", "part 3"]
    assert [line.split(" ", 1)[1] for line in log_of(settings)] == ["r2 from 0", "r1 from 0", "r1 from 20 in en"]
    assert pids(settings)[-1] != first


def test_a_recording_that_kills_the_transcriber_three_times_fails_and_others_complete(
    engine: Engine, settings: Settings, start: Start
) -> None:
    good, deadly, later = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "kill"}, {}))
    assert start("--once").wait(120) == 0
    assert states(engine) == {good: "completed", deadly: "failed", later: "completed"}
    assert "stopped 3 times while working on this recording" in row_of(engine, deadly).error
    assert [line.split()[1] for line in log_of(settings)].count(f"r{good}") == 1


@pytest.mark.parametrize("exit_status", [None, 1], ids=["this system", "Windows"])
def test_a_hanging_transcriber_is_killed_and_its_recording_requeued(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch, exit_status: int | None
) -> None:
    """The attempt counts, also where a killed process ends with the exit status of one that failed."""

    def kill(child: "subprocess.Popen[bytes]", within_s: float) -> None:
        stop_child(child, within_s)
        child.returncode = child.returncode if exit_status is None else exit_status

    monkeypatch.setattr(speech, "stop_child", kill)
    monkeypatch.setattr(speech, "TRANSCRIBER_COMMAND", [sys.executable, "-c", HANGING_TRANSCRIBER])
    monkeypatch.setattr(speech, "PROGRESS_CHECK_S", 0.0)
    monkeypatch.setattr(speech, "STOP_TIMEOUT_S", 0.1)
    number = add_recording(engine, settings)
    active = active_connection(engine, settings)
    assert active is not None
    supervisor = TranscriberSupervisor(engine, settings)
    try:
        supervisor.poll(active)
        hanging = supervisor._child
        assert hanging is not None
        wait_for(lambda: anyone_alive(settings.pbx_data_dir, "transcriber"), "locked")
        with writing(engine) as session:
            assert claims.claim_recordings(session, active.id, speech.TRANSCRIBER_SLOT, "", 1)
        supervisor.poll(active)
        assert supervisor.is_running  # claiming a recording counts as progress
        monkeypatch.setattr(speech, "STUCK_S", 0.0)
        supervisor.poll(active)
        assert hanging.poll() in {*KILLED, exit_status}
        assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 1)
        assert supervisor._child is not hanging
    finally:
        supervisor.end()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("heavy", "ended while it was loading its model (signal 9), probably because memory ran out"),
        ("faulty", "ended with an error (exit status 1)"),
    ],
)
def test_a_model_that_ends_the_transcriber_is_reported_and_keeps_the_queue(
    engine: Engine, settings: Settings, start: Start, model: str, reason: str
) -> None:
    number = add_recording(engine, settings)
    assert start("--once", WHISPER_MODEL=model).wait(120) == 0
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 0)
    assert reason in blocked_reason(engine, settings)


def test_a_requested_model_that_is_too_large_blocks_no_other_recording(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number, other = add_recording(engine, settings), add_recording(engine, settings)
    request_transcription(engine, settings, number, model="heavy")
    assert start("--once").wait(120) == 0
    assert states(engine) == {number: "failed", other: "completed"}
    assert "probably because memory ran out" in row_of(engine, number).error
    assert blocked_reason(engine, settings) == ""


@needs_posix
@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_stops_its_transcriber_and_counts_no_attempt(
    engine: Engine, settings: Settings, start: Start, signal_sent: signal.Signals
) -> None:
    number = add_recording(engine, settings, fault="wait", at=1)
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"} and row_of(engine, number).done_s, "started")
    worker.send_signal(signal_sent)
    _, stderr = worker.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert not anyone_alive(settings.pbx_data_dir, "transcriber")
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s) == ("queued", 0, 10.0)


def test_the_transcriber_of_a_killed_worker_ends_and_the_next_worker_continues(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number = add_recording(engine, settings, fault="wait", at=1)
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"} and row_of(engine, number).done_s, "started")
    worker.kill()
    worker.wait()
    wait_for(lambda: not anyone_alive(settings.pbx_data_dir, "transcriber"), "ended")
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 0)
    release_sync(settings)
    assert start("--once").wait(60) == 0
    assert states(engine) == {number: "completed"}
    assert transcript_parts(engine, number) == ["part 0", "part 1"]


def test_an_idle_transcriber_ends_and_starts_again_for_the_next_recording(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number = add_recording(engine, settings)
    worker = start(IDLE_S="0.1")
    wait_for(lambda: states(engine) == {number: "completed"}, "completed")
    wait_for(lambda: transcribers(worker) == [], "ended")
    request_transcription(engine, settings, number)
    wait_for(lambda: len(log_of(settings)) == 2 and states(engine) == {number: "completed"}, "transcribed again")


@needs_posix
def test_the_transcriber_runs_at_low_priority(engine: Engine, settings: Settings, start: Start) -> None:
    number = add_recording(engine, settings, fault="wait")
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"}, "started")
    (process,) = transcribers(worker)
    assert process.nice() == NICENESS
    assert int(process.environ()["OMP_NUM_THREADS"]) <= 8
    assert psutil.Process(worker.pid).nice() == psutil.Process().nice()


def test_threads_are_limited_unless_the_user_set_their_number() -> None:
    limits = limit_threads({"MKL_NUM_THREADS": "3", "HOME": "/home/ada"})
    assert (limits["MKL_NUM_THREADS"], limits["HOME"]) == ("3", "/home/ada")
    assert 1 <= int(limits["OMP_NUM_THREADS"]) <= 8
