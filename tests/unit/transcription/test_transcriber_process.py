"""The transcriber as a real process below a real worker: started when wanted, killed, stopped, left alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest
from sqlalchemy import Engine

from pbx.operating_system import NICENESS
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
from tests.unit.transcription.scripted_engine import add_recording, ask, row_of, said, states

Start = Callable[..., "subprocess.Popen[str]"]

HANGING = """
import os, time
from pathlib import Path
from pbx.process_lock import try_process_lock

held = try_process_lock(Path(os.environ["PBX_DATA_DIR"]), "transcriber-0")
time.sleep(100)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a worker with the scripted engine; all are ended with the test, transcribers included."""
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


def test_what_a_killed_transcriber_left_is_completed_by_another(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number, other = add_recording(engine, settings, parts=4, fault="wait", at=2), add_recording(engine, settings)
    start()  # by the rules both are queued
    wait_for(lambda: states(engine) == {number: "transcribing", other: "completed"}, "at the first")
    wait_for(lambda: row_of(engine, number).done_s == 20.0, "two parts stored")
    (first,) = set(pids(settings))
    psutil.Process(first).kill()
    wait_for(lambda: len(log_of(settings)) == 3, "begun again")
    assert row_of(engine, number).attempts == 2
    release_sync(settings)
    wait_for(lambda: states(engine)[number] == "completed", "completed")
    assert said(engine, number) == ["part 0", "part 1", "part 2", "part 3"]
    assert [line.split(" ", 1)[1] for line in log_of(settings)] == ["r2 from 0", "r1 from 0", "r1 from 20 in en"]
    assert pids(settings)[-1] != first


def test_a_recording_that_kills_it_thrice_rests_with_a_reason_and_the_others_are_done(
    engine: Engine, settings: Settings, start: Start
) -> None:
    good, deadly, better = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "kill"}, {}))
    assert start("--once").wait(120) == 0
    assert states(engine) == {good: "completed", deadly: "failed", better: "completed"}
    assert "stopped 3 times while working on this recording" in row_of(engine, deadly).error
    assert [line.split()[1] for line in log_of(settings)].count(f"r{good}") == 1


def test_a_transcriber_that_hangs_is_ended_and_what_it_was_at_is_queued_again(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "TRANSCRIBER_COMMAND", [sys.executable, "-c", HANGING])
    monkeypatch.setattr(speech, "PROGRESS_CHECK_S", 0.0)
    monkeypatch.setattr(speech, "STOP_TIMEOUT_S", 0.1)
    number = add_recording(engine, settings)
    active = active_connection(engine, settings)
    assert active is not None
    keeper = TranscriberSupervisor(engine, settings)
    try:
        keeper.poll(active)
        hanging = keeper._child
        assert hanging is not None
        wait_for(lambda: anyone_alive(settings.pbx_data_dir, "transcriber"), "its lock is held")
        with writing(engine) as session:
            assert claims.claim_recordings(session, active.id, speech.TRANSCRIBER_SLOT, "", 1)
        keeper.poll(active)
        assert keeper.is_running  # it makes progress: it has begun
        monkeypatch.setattr(speech, "STUCK_S", 0.0)
        keeper.poll(active)
        assert hanging.poll() in KILLED
        assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 1)
        assert keeper._child is not hanging
    finally:
        keeper.end()


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("heavy", "ended while it was loading its model (signal 9), probably because memory ran out"),
        ("faulty", "ended with an error (exit status 1)"),
    ],
)
def test_a_model_that_ends_the_transcriber_leaves_the_queue_and_is_said(
    engine: Engine, settings: Settings, start: Start, model: str, why: str
) -> None:
    number = add_recording(engine, settings)
    assert start("--once", WHISPER_MODEL=model).wait(120) == 0
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 0)
    assert why in blocked_reason(engine, settings)


def test_a_model_too_large_that_somebody_asked_for_holds_up_no_other(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number, other = add_recording(engine, settings), add_recording(engine, settings)
    ask(engine, settings, number, model="heavy")
    assert start("--once").wait(120) == 0
    assert states(engine) == {number: "failed", other: "completed"}
    assert "probably because memory ran out" in row_of(engine, number).error
    assert blocked_reason(engine, settings) == ""


@needs_posix
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_stops_its_transcriber_and_burns_no_attempt(
    engine: Engine, settings: Settings, start: Start, sign: signal.Signals
) -> None:
    number = add_recording(engine, settings, fault="wait", at=1)
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"} and row_of(engine, number).done_s, "begun")
    worker.send_signal(sign)
    _, said_last = worker.communicate(timeout=60)
    assert "Traceback" not in said_last
    assert not anyone_alive(settings.pbx_data_dir, "transcriber")
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s) == ("queued", 0, 10.0)


def test_a_killed_workers_transcriber_ends_and_the_next_worker_goes_on(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number = add_recording(engine, settings, fault="wait", at=1)
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"} and row_of(engine, number).done_s, "begun")
    worker.kill()
    worker.wait()
    wait_for(lambda: not anyone_alive(settings.pbx_data_dir, "transcriber"), "the orphan ended")
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 0)
    release_sync(settings)
    assert start("--once").wait(60) == 0
    assert states(engine) == {number: "completed"}
    assert said(engine, number) == ["part 0", "part 1"]


def test_it_gives_its_memory_back_when_nothing_comes_and_starts_again_when_asked(
    engine: Engine, settings: Settings, start: Start
) -> None:
    number = add_recording(engine, settings)
    worker = start(IDLE_S="0.1")
    wait_for(lambda: states(engine) == {number: "completed"}, "completed")
    wait_for(lambda: transcribers(worker) == [], "ended")
    ask(engine, settings, number)
    wait_for(lambda: len(log_of(settings)) == 2 and states(engine) == {number: "completed"}, "transcribed again")


@needs_posix
def test_it_goes_behind_everything_else(engine: Engine, settings: Settings, start: Start) -> None:
    number = add_recording(engine, settings, fault="wait")
    worker = start()
    wait_for(lambda: states(engine) == {number: "transcribing"}, "begun")
    (process,) = transcribers(worker)
    assert process.nice() == NICENESS
    assert int(process.environ()["OMP_NUM_THREADS"]) <= 8
    assert psutil.Process(worker.pid).nice() == psutil.Process().nice()


def test_threads_are_limited_unless_the_user_said_how_many() -> None:
    limits = limit_threads({"MKL_NUM_THREADS": "3", "HOME": "/home/ada"})
    assert (limits["MKL_NUM_THREADS"], limits["HOME"]) == ("3", "/home/ada")
    assert 1 <= int(limits["OMP_NUM_THREADS"]) <= 8
