"""Transcribing in this process: what is stored when, what interrupts it, and what fails whom."""

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
from tests.unit.transcription.scripted_engine import SECRET, Scripted, add_recording, ask, row_of, said, states

ME = "here-9"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcribe, "STOP_CHECK_S", 0.1)
    monkeypatch.setattr(transcriber, "POLL_S", 0.02)
    monkeypatch.setattr(transcriber, "WAIT_S", 0.02)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Settings, str], Transcriber]], None]:
    """Put a function in the place of what loads the engine."""
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
    engine_here = Scripted(settings.pbx_data_dir)
    halt = stop or threading.Event()
    return transcribe_queued(engine, settings, engine_here, claimed, connection_id=pbx, worker=ME, stop=halt)


def work(engine: Engine, settings: Settings) -> QueueWorker:
    """Work the queue off, like the transcriber's process."""
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        worker = QueueWorker(engine, settings, slot, threading.Event())
        worker.work(idle_s=0.0)
    return worker


def test_a_recording_becomes_a_transcript_with_its_analysis(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=3)
    ask(engine, settings, number)
    assert run(engine, settings).completed == [number]
    row = row_of(engine, number)
    assert (row.state, row.done_s, row.total_s, row.attempts) == ("completed", 30.0, 30.0, 0)
    assert row.took_s is not None
    assert said(engine, number) == ["part 0", "part 1", "part 2"]
    with reading(engine) as session:
        transcript = current_transcript(session, number)
        assert transcript is not None
        assert transcript.id is not None
        assert (transcript.engine, transcript.model, transcript.language) == ("whisper", "scripted", "en")
        assert len(transcript.audio_sha256) == 64
        found = analysis_of(session, transcript.id)
        assert found is not None
        assert (found.engine, found.fallback_reason) == ("local", "")
        assert session.get_one(CallRow, 1).transcription == "completed"


def test_a_broken_recording_stops_no_other(engine: Engine, settings: Settings) -> None:
    first, broken, last = (add_recording(engine, settings, **fault) for fault in ({}, {"fault": "broken"}, {}))
    lost = add_recording(engine, settings)
    (settings.audio_dir / f"r{lost}.wav").unlink()
    ask(engine, settings, first, broken, last, lost)
    batch = run(engine, settings)
    assert sorted(batch.completed) == [first, last]
    assert states(engine) == {first: "completed", broken: "failed", last: "completed", lost: "failed"}
    assert row_of(engine, broken).error == "It holds a header and no sound. There is nothing to hear."
    assert "no longer in" in row_of(engine, lost).error


def test_what_is_stopped_goes_on_where_it_was(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=4, fault="wait", at=2)
    ask(engine, settings, number)
    stop = threading.Event()
    thread = threading.Thread(target=lambda: run(engine, settings, stop=stop))
    thread.start()
    wait_for(lambda: row_of(engine, number).done_s == 20.0, "two parts stored")
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s, row.worker) == ("queued", 0, 20.0, ME)
    assert said(engine, number, current=False) == ["part 0", "part 1"]
    (settings.pbx_data_dir / "go").touch()
    run(engine, settings)
    assert said(engine, number) == ["part 0", "part 1", "part 2", "part 3"]
    lines = [line.split(" ", 1)[1] for line in log_of(settings)]
    assert lines == ["r1 from 0", "r1 from 20 in en"]  # the language heard before holds for the rest


@pytest.mark.parametrize("what", ["cancel", "pause"])
def test_cancel_and_pause_interrupt_within_five_seconds(
    engine: Engine, settings: Settings, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "STOP_CHECK_S", 1.0)  # as it is in use
    number, other = add_recording(engine, settings, fault="wait", at=1), add_recording(engine, settings)
    ask(engine, settings, number, other)
    pbx = connection_id(engine, settings)
    thread = threading.Thread(target=lambda: run(engine, settings))
    thread.start()
    wait_for(lambda: row_of(engine, number).done_s == 10.0, "a part stored")
    with writing(engine) as session:
        if what == "cancel":
            assert transcriptions.cancel(session, pbx, [number]) == 1
        else:
            transcriptions.set_paused(session, pbx, True)
    thread.join(5)
    assert not thread.is_alive()
    assert states(engine) == {number: "new" if what == "cancel" else "queued", other: "completed"}


def test_pause_begins_nothing_and_resume_goes_on(
    engine: Engine, settings: Settings, loads: Callable[..., None]
) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    number = add_recording(engine, settings)
    ask(engine, settings, number)
    for paused, state in ((True, "queued"), (False, "completed")):
        with writing(engine) as session:
            transcriptions.set_paused(session, connection_id(engine, settings), paused)
        work(engine, settings)
        assert states(engine) == {number: state}


def test_a_fault_of_ours_fails_only_the_recording_it_is_about(
    engine: Engine, settings: Settings, loads: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    good, bad = add_recording(engine, settings), add_recording(engine, settings, fault="raise")
    ask(engine, settings, good, bad)
    work(engine, settings)
    assert states(engine) == {good: "completed", bad: "failed"}
    assert "ValueError" in row_of(engine, bad).error


def test_the_log_never_tells_what_was_said(
    engine: Engine, settings: Settings, loads: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    caplog.set_level(logging.DEBUG, "pbx")
    ask(engine, settings, add_recording(engine, settings), add_recording(engine, settings, fault="broken"))
    work(engine, settings)
    assert "1 transcribed, 1 failed" in caplog.text
    assert SECRET not in caplog.text


def test_a_model_that_fails_burns_no_recording(engine: Engine, settings: Settings, loads: Callable[..., None]) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    number = add_recording(engine, settings, parts=2, fault="model", at=1)
    ask(engine, settings, number)
    worker = work(engine, settings)
    assert isinstance(worker.model_error, ModelError)
    row = row_of(engine, number)
    assert (row.state, row.attempts, row.done_s) == ("queued", 0, 10.0)
    with reading(engine) as session:
        found = transcriptions.overview(session, connection_id(engine, settings))
    assert "not enough memory" in found.blocked_reason
    assert found.retry_at is not None
    assert found.retry_at > now()


def test_a_model_that_is_not_there_keeps_the_queue_and_one_asked_for_fails_its_own(
    engine: Engine, settings: Settings, loads: Callable[..., None]
) -> None:
    there = {"tiny"}

    def load(settings: Settings, model: str) -> Transcriber:
        if model not in there:
            raise ModelError(f"The model {model or 'base'} is not there.", "Fetch it.")
        return Scripted(settings.pbx_data_dir, model)

    loads(load)
    usual, tiny, huge = (add_recording(engine, settings) for _ in range(3))
    ask(engine, settings, huge, model="huge")
    ask(engine, settings, tiny, model="tiny")
    ask(engine, settings, usual)
    work(engine, settings)
    assert states(engine) == {usual: "queued", tiny: "completed", huge: "failed"}
    assert row_of(engine, huge).error == "The model huge is not there. Fetch it."
    with reading(engine) as session:
        rules = transcriptions.rules_of(session, connection_id(engine, settings))
        assert rules.blocked_reason == "The model base is not there. Fetch it."
    there.add("")
    work(engine, settings)
    assert states(engine)[usual] == "completed"
    with reading(engine) as session:
        assert transcriptions.rules_of(session, connection_id(engine, settings)).blocked_reason == ""


class SmallDisk:
    """A second engine on the database whose file may not grow by more than a few pages, until `grow`."""

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


def test_a_full_disk_loses_nothing(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings, parts=400)
    ask(engine, settings, number)
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
    assert said(engine, number) == [f"part {part}" for part in range(400)]


def test_the_queue_waits_for_room_on_the_disk(
    engine: Engine, settings: Settings, loads: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    number = add_recording(engine, settings, parts=400)
    ask(engine, settings, number)
    disk, stop = SmallDisk(settings), threading.Event()
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        worker = QueueWorker(disk.engine, settings, slot, stop)
        with pytest.raises(StorageFull):
            worker.work(idle_s=0.0)  # as on the command line: said, not waited for
        thread = threading.Thread(target=lambda: worker.work(idle_s=60.0))
        thread.start()
        wait_for(lambda: "Not enough disk space" in caplog.text, "said")
        disk.grow()
        wait_for(lambda: states(engine) == {number: "completed"}, "completed")
        stop.set()
        thread.join()
    assert row_of(engine, number).attempts == 0
    assert len(said(engine, number)) == 400


def test_the_old_transcript_stays_until_the_new_is_whole(
    engine: Engine, settings: Settings, loads: Callable[..., None]
) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir, model or "base"))
    number = add_recording(engine, settings, parts=3, fault="wait", at=1)
    (settings.pbx_data_dir / "go").touch()
    ask(engine, settings, number)
    work(engine, settings)
    (settings.pbx_data_dir / "go").unlink()
    ask(engine, settings, number, model="small")
    thread = threading.Thread(target=lambda: work(engine, settings))
    thread.start()
    wait_for(lambda: row_of(engine, number).done_s == 10.0 and said(engine, number, current=False), "begun")
    with reading(engine) as session:
        before = current_transcript(session, number)
    (settings.pbx_data_dir / "go").touch()
    thread.join()
    with reading(engine) as session:
        after = current_transcript(session, number)
    assert before is not None
    assert after is not None
    assert (before.model, after.model) == ("base", "small")
    assert said(engine, number) == ["part 0", "part 1", "part 2"]
    assert said(engine, number, current=False) == []


def test_two_at_it_never_transcribe_the_same(engine: Engine, settings: Settings, loads: Callable[..., None]) -> None:
    loads(lambda settings, model: Scripted(settings.pbx_data_dir))
    numbers = [add_recording(engine, settings) for _ in range(14)]
    ask(engine, settings, *numbers)
    threads = [threading.Thread(target=lambda: work(engine, settings)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line.split()[1] for line in log_of(settings)) == sorted(f"r{number}" for number in numbers)
    assert set(states(engine).values()) == {"completed"}


def test_what_a_dead_one_left_is_taken_up(engine: Engine, settings: Settings) -> None:
    number = add_recording(engine, settings)
    ask(engine, settings, number)
    pbx = connection_id(engine, settings)
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        with writing(engine) as session:
            claims.claim_recordings(session, pbx, slot.name, "", 1)
        speech.requeue_orphaned_transcriptions(engine, settings)
        assert states(engine) == {number: "transcribing"}
    speech.requeue_orphaned_transcriptions(engine, settings)
    assert (states(engine), row_of(engine, number).attempts) == ({number: "queued"}, 1)


def test_the_rules_queue_by_themselves_and_only_once_something_changed(engine: Engine, settings: Settings) -> None:
    active = active_connection(engine, settings)
    assert active is not None
    short, long = add_recording(engine, settings, parts=1), add_recording(engine, settings, parts=9)
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id, min_duration_s=30.0))
    keeper = speech.TranscriberSupervisor(engine, settings)
    assert keeper.queue_new(active) == 1
    assert states(engine) == {long: "queued"}
    late = add_recording(engine, settings, parts=9)
    assert keeper.queue_new(active) == 0  # no sync was there that could have brought it
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id, automatic=False))
    assert keeper.queue_new(active) == 0
    with writing(engine) as session:
        transcriptions.save_rules(session, TranscriptionRules(connection_id=active.id))
    assert keeper.queue_new(active) == 2
    assert set(states(engine)) == {short, long, late}
    assert row_of(engine, late).requested_by == "rule"


def test_a_summary_waits_for_its_server_and_is_asked_for_thrice(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = add_recording(engine, settings)
    ask(engine, settings, number)
    monkeypatch.setenv("ANALYSIS_URL", "http://127.0.0.1:1/v1")  # nobody listens there
    monkeypatch.setenv("ANALYSIS_MODEL", "small-one")
    run(engine, load_settings())
    assert asked_for_summary(engine, number) == (0, transcribe.SUMMARY_PENDING)
    for _ in range(2):  # the second time is too soon
        assert not speech.summarise_waiting(engine, load_settings())
        attempts, reason = asked_for_summary(engine, number)
        assert attempts == 1
        assert reason not in ("", transcribe.SUMMARY_PENDING)
    monkeypatch.setattr(speech, "SUMMARY_RETRY", speech.SUMMARY_RETRY * 0)
    for attempts in (2, 3, 3):
        speech.summarise_waiting(engine, load_settings())
        assert asked_for_summary(engine, number)[0] == attempts


def asked_for_summary(engine: Engine, recording: int) -> tuple[int, str]:
    with reading(engine) as session:
        transcript = current_transcript(session, recording)
        assert transcript is not None
        assert transcript.id is not None
        found = analysis_of(session, transcript.id)
    assert found is not None
    assert found.engine == "local"
    return found.attempts, found.fallback_reason


def test_a_second_transcriber_ends_at_once(engine: Engine, settings: Settings) -> None:
    ask(engine, settings, add_recording(engine, settings))
    with take_process_lock(settings.pbx_data_dir, "transcriber") as slot:
        assert slot.name == transcriber.TRANSCRIBER_SLOT
        transcriber.run_transcriber(settings, threading.Event())
    assert set(states(engine).values()) == {"queued"}
