"""Transcription of a batch, in this process: what is stored, what interrupts it, and which errors fail a recording."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event

from pbx.errors import ModelError, StorageFull
from pbx.process_lock import take_process_lock
from pbx.settings import Settings, load_settings
from pbx.speech.transcriber import Transcriber
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import CallRow, TranscriptionRules, now
from pbx.store.pbx_connections import active_connection
from pbx.store.transcripts import analysis_of, current_transcript
from pbx.transcription import batch as transcribe
from pbx.transcription import supervisor as speech
from pbx.transcription import transcriber_process as transcriber
from pbx.transcription.batch import transcribe_queued
from pbx.transcription.transcriber_process import QueueWorker
from tests.unit.jobs.job_checks import log_of, wait_for
from tests.unit.transcription.scripted_engine import (
    SECRET,
    ScriptedEngine,
    add_recording,
    request_transcription,
    row_of,
    states,
    transcript_parts,
)

ME = "here-9"


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcribe, "STOP_CHECK_S", 0.1)
    monkeypatch.setattr(transcriber, "POLL_S", 0.02)
    monkeypatch.setattr(transcriber, "WAIT_S", 0.02)


@pytest.fixture
def replace_load_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Settings, str], Transcriber]], None]:
    """Returns a function that replaces the loading of the engine."""
    return lambda load: monkeypatch.setattr(
        transcriber, "load_model", lambda settings, model, progress: load(settings, model)
    )


def connection_id(engine: Engine, settings: Settings) -> int:
    active = active_connection(engine, settings)
    assert active is not None
    return active.id


def run(
    engine: Engine, settings: Settings, *, limit: int = 4, stop: threading.Event | None = None
) -> transcribe.TranscriptionBatch:
    """Claim and transcribe once."""
    pbx = connection_id(engine, settings)
    with writing(engine) as session:
        claimed = claims.claim_recordings(session, pbx, ME, "", limit)
    scripted_engine = ScriptedEngine(settings.pbx_data_dir)
    stop_event = stop or threading.Event()
    return transcribe_queued(engine, settings, scripted_engine, claimed, connection_id=pbx, worker=ME, stop=stop_event)


def empty_queue(engine: Engine, settings: Settings) -> QueueWorker:
    """Transcribe until the queue is empty, as the transcriber process does."""
    with take_process_lock(settings.pbx_data_dir, "here") as lock:
        worker = QueueWorker(engine, settings, lock, threading.Event())
        worker.work(idle_s=0.0)
    return worker


def test_a_recording_becomes_a_transcript_with_its_analysis(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=3)
    request_transcription(engine, settings, number)
    assert run(engine, settings).completed == [number]
    row = row_of(engine, number)
    assert (row.state, row.done_s, row.total_s, row.attempts) == ("completed", 30.0, 30.0, 0)
    assert row.took_s is not None
    assert transcript_parts(engine, number) == ["part 0", "part 1", "part 2"]
    with reading(engine) as session:
        transcript = current_transcript(session, number)
        assert transcript is not None
        assert transcript.id is not None
        assert (transcript.engine, transcript.model, transcript.language) == ("whisper", "scripted", "en")
        assert len(transcript.audio_sha256) == 64
        overview = analysis_of(session, transcript.id)
        assert overview is not None
        assert (overview.engine, overview.fallback_reason) == ("local", "")
        assert session.get_one(CallRow, 1).transcription == "completed"


def test_a_broken_recording_does_not_stop_the_others(engine: Engine, settings: Settings) -> None:
    first, broken, last = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "broken"}, {}))
    missing = add_recording(engine, settings)
    (settings.audio_dir / f"r{missing}.wav").unlink()
    request_transcription(engine, settings, first, broken, last, missing)
    batch = run(engine, settings)
    assert sorted(batch.completed) == [first, last]
    assert states(engine) == {first: "completed", broken: "failed", last: "completed", missing: "failed"}
    assert row_of(engine, broken).error == "It holds a header and no sound. There is nothing to hear."
    assert "no longer in" in row_of(engine, missing).error


def test_a_stopped_recording_continues_where_it_stopped(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=4, fault="wait", at=2)
    request_transcription(engine, settings, number)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: run(engine, settings, stop=stop))
    thread.start()
    wait_for(lambda: row_of(engine, number).done_s == 20.0, "two parts stored")
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s, row.worker) == ("queued", 0, 20.0, ME)
    assert transcript_parts(engine, number, current=False) == ["part 0", "part 1"]
    (settings.pbx_data_dir / "go").touch()
    run(engine, settings)
    assert transcript_parts(engine, number) == ["part 0", "part 1", "part 2", "part 3"]
    lines = [line.split(" ", 1)[1] for line in log_of(settings)]
    assert lines == ["r1 from 0", "r1 from 20 in en"]  # the language detected before is kept


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_cancel_and_pause_interrupt_within_five_seconds(
    engine: Engine, settings: Settings, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "STOP_CHECK_S", 1.0)  # as in the product
    number, other = add_recording(engine, settings, fault="wait", at=1), add_recording(engine, settings)
    request_transcription(engine, settings, number, other)
    pbx = connection_id(engine, settings)
    thread = threading.Thread(target=lambda: run(engine, settings))
    thread.start()
    wait_for(lambda: row_of(engine, number).done_s == 10.0, "a part stored")
    with writing(engine) as session:
        if action == "cancel":
            assert transcriptions.cancel(session, pbx, [number]) == 1
        else:
            transcriptions.set_paused(session, pbx, True)
    thread.join(5)
    assert not thread.is_alive()
    assert states(engine) == {number: "new" if action == "cancel" else "queued", other: "completed"}


def test_a_paused_queue_starts_nothing_until_it_is_resumed(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None]
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    number = add_recording(engine, settings)
    request_transcription(engine, settings, number)
    for paused, state in ((True, "queued"), (False, "completed")):
        with writing(engine) as session:
            transcriptions.set_paused(session, connection_id(engine, settings), paused)
        empty_queue(engine, settings)
        assert states(engine) == {number: state}


def test_a_programming_error_fails_only_its_recording(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    good, bad = add_recording(engine, settings), add_recording(engine, settings, fault="raise")
    request_transcription(engine, settings, good, bad)
    empty_queue(engine, settings)
    assert states(engine) == {good: "completed", bad: "failed"}
    assert "ValueError" in row_of(engine, bad).error


def test_the_log_contains_no_transcript(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    caplog.set_level(logging.DEBUG, "pbx")
    request_transcription(
        engine, settings, add_recording(engine, settings), add_recording(engine, settings, fault="broken")
    )
    empty_queue(engine, settings)
    assert "1 transcribed, 1 failed" in caplog.text
    assert SECRET not in caplog.text


def test_a_failing_model_fails_no_recording(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None]
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    number = add_recording(engine, settings, parts=2, fault="model", at=1)
    request_transcription(engine, settings, number)
    worker = empty_queue(engine, settings)
    assert isinstance(worker.model_error, ModelError)
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s) == ("queued", 0, 10.0)
    with reading(engine) as session:
        overview = transcriptions.overview(session, connection_id(engine, settings))
    assert "not enough memory" in overview.blocked_reason
    assert overview.retry_at is not None
    assert overview.retry_at > now()


def test_a_missing_model_keeps_the_queue_but_fails_recordings_that_requested_it(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None]
) -> None:
    available = {"tiny"}

    def load(settings: Settings, model: str) -> Transcriber:
        if model not in available:
            raise ModelError(f"The model {model or 'base'} is not there.", "Fetch it.")
        return ScriptedEngine(settings.pbx_data_dir, model)

    replace_load_model(load)
    default, tiny, huge = (add_recording(engine, settings) for _ in range(3))
    request_transcription(engine, settings, huge, model="huge")
    request_transcription(engine, settings, tiny, model="tiny")
    request_transcription(engine, settings, default)
    empty_queue(engine, settings)
    assert states(engine) == {default: "queued", tiny: "completed", huge: "failed"}
    assert row_of(engine, huge).error == "The model huge is not there. Fetch it."
    with reading(engine) as session:
        rules = transcriptions.rules_of(session, connection_id(engine, settings))
        assert rules.blocked_reason == "The model base is not there. Fetch it."
    available.add("")
    empty_queue(engine, settings)
    assert states(engine)[default] == "completed"
    with reading(engine) as session:
        assert transcriptions.rules_of(session, connection_id(engine, settings)).blocked_reason == ""


class SmallDisk:
    """A second engine for the database whose file can't grow by more than a few pages until `grow` is called."""

    def __init__(self, settings: Settings) -> None:
        self.engine = open_engine(settings)
        self._pages = 0
        event.listen(self.engine, "connect", self._limit)
        with reading(self.engine) as session:
            self._pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one() + 10
        self.engine.dispose()

    def grow(self) -> None:
        self._pages = 1_000_000
        self.engine.dispose()

    def _limit(self, connection: Any, _record: object) -> None:
        if self._pages:
            connection.execute(f"PRAGMA max_page_count={self._pages}")


def test_a_full_disk_keeps_what_was_stored(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=400)
    request_transcription(engine, settings, number)
    disk = SmallDisk(settings)
    with pytest.raises(StorageFull):
        run(disk.engine, settings)
    disk.grow()
    with writing(engine) as session:
        claims.requeue_transcription(session, ME, died=False)
    row = row_of(engine, number)
    assert (row.state, row.attempts) == ("queued", 0)
    assert 0 < row.done_s < 4000
    run(engine, settings)
    assert transcript_parts(engine, number) == [f"part {part}" for part in range(400)]


def test_the_queue_waits_for_disk_space(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    number = add_recording(engine, settings, parts=400)
    request_transcription(engine, settings, number)
    disk, stop = SmallDisk(settings), threading.Event()
    with take_process_lock(settings.pbx_data_dir, "here") as lock:
        worker = QueueWorker(disk.engine, settings, lock, stop)
        with pytest.raises(StorageFull):
            worker.work(idle_s=0.0)  # as on the command line: raise, don't wait
        thread = threading.Thread(target=lambda: worker.work(idle_s=60.0))
        thread.start()
        wait_for(lambda: "Not enough disk space" in caplog.text, "logged")
        disk.grow()
        wait_for(lambda: states(engine) == {number: "completed"}, "completed")
        stop.set()
        thread.join()
    assert row_of(engine, number).attempts == 0
    assert len(transcript_parts(engine, number)) == 400


def test_the_old_transcript_stays_until_the_new_one_is_complete(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None]
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir, model or "base"))
    number = add_recording(engine, settings, parts=3, fault="wait", at=1)
    (settings.pbx_data_dir / "go").touch()
    request_transcription(engine, settings, number)
    empty_queue(engine, settings)
    (settings.pbx_data_dir / "go").unlink()
    request_transcription(engine, settings, number, model="small")
    thread = threading.Thread(target=lambda: empty_queue(engine, settings))
    thread.start()
    wait_for(
        lambda: row_of(engine, number).done_s == 10.0 and transcript_parts(engine, number, current=False), "started"
    )
    with reading(engine) as session:
        before = current_transcript(session, number)
    (settings.pbx_data_dir / "go").touch()
    thread.join()
    with reading(engine) as session:
        after = current_transcript(session, number)
    assert before is not None
    assert after is not None
    assert (before.model, after.model) == ("base", "small")
    assert transcript_parts(engine, number) == ["part 0", "part 1", "part 2"]
    assert transcript_parts(engine, number, current=False) == []


def test_two_workers_never_transcribe_the_same_recording(
    engine: Engine, settings: Settings, replace_load_model: Callable[..., None]
) -> None:
    replace_load_model(lambda settings, model: ScriptedEngine(settings.pbx_data_dir))
    numbers = [add_recording(engine, settings) for _ in range(14)]
    request_transcription(engine, settings, *numbers)
    threads = [threading.Thread(target=lambda: empty_queue(engine, settings)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split()[1] for line in log_of(settings)) == sorted(f"r{number}" for number in numbers)
    assert set(states(engine).values()) == {"completed"}


def test_the_recording_of_a_dead_worker_is_requeued(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings)
    request_transcription(engine, settings, number)
    pbx = connection_id(engine, settings)
    with take_process_lock(settings.pbx_data_dir, "here") as lock:
        with writing(engine) as session:
            claims.claim_recordings(session, pbx, lock.name, "", 1)
        speech.requeue_orphaned_transcriptions(engine, settings)
        assert states(engine) == {number: "transcribing"}
    speech.requeue_orphaned_transcriptions(engine, settings)
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 1)


def test_the_rules_queue_recordings_only_after_a_change(engine: Engine, settings: Settings) -> None:
    active = active_connection(engine, settings)
    assert active is not None
    short, long = add_recording(engine, settings, parts=1), add_recording(engine, settings, parts=9)
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id, min_duration_s=30.0))
    supervisor = speech.TranscriberSupervisor(engine, settings)
    assert supervisor.queue_new(active) == 1
    assert states(engine) == {long: "queued"}
    late = add_recording(engine, settings, parts=9)
    assert supervisor.queue_new(active) == 0  # no sync has run since that could have added it
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id, automatic=False))
    assert supervisor.queue_new(active) == 0
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id))
    assert supervisor.queue_new(active) == 2
    assert set(states(engine)) == {short, long, late}
    assert row_of(engine, late).requested_by == "rule"


def test_a_summary_is_requested_from_an_unreachable_server_up_to_three_times(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = add_recording(engine, settings)
    request_transcription(engine, settings, number)
    monkeypatch.setenv("ANALYSIS_URL", "http://127.0.0.1:1/v1")  # a closed port
    monkeypatch.setenv("ANALYSIS_MODEL", "small-one")
    run(engine, load_settings())
    assert attempts_and_reason(engine, number) == (0, transcribe.SUMMARY_PENDING)
    for _ in range(2):  # too soon for the second attempt
        assert not speech.summarise_waiting(engine, load_settings())
        attempts, reason = attempts_and_reason(engine, number)
        assert attempts == 1
        assert reason not in ("", transcribe.SUMMARY_PENDING)
    monkeypatch.setattr(speech, "SUMMARY_RETRY", speech.SUMMARY_RETRY * 0)
    for attempts in (2, 3, 3):
        speech.summarise_waiting(engine, load_settings())
        assert attempts_and_reason(engine, number)[0] == attempts


def attempts_and_reason(engine: Engine, recording: int) -> tuple[int, str]:
    with reading(engine) as session:
        transcript = current_transcript(session, recording)
        assert transcript is not None
        assert transcript.id is not None
        overview = analysis_of(session, transcript.id)
    assert overview is not None
    assert overview.engine == "local"
    return overview.attempts, overview.fallback_reason


def test_a_second_transcriber_ends_immediately(engine: Engine, settings: Settings) -> None:
    request_transcription(engine, settings, add_recording(engine, settings))
    with take_process_lock(settings.pbx_data_dir, "transcriber") as lock:
        assert lock.name == transcriber.TRANSCRIBER_SLOT
        transcriber.run_transcriber(settings, threading.Event())
    assert set(states(engine).values()) == {"queued"}
