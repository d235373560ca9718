"""The worker: queues what is due, does what is queued, takes up what a dead worker left. And one job done here, now."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pbx.alerts.delivery import update_and_send_alerts
from pbx.analytics.packing_job import pack_history
from pbx.errors import DataError, PbxError, SettingsError
from pbx.imports.job import import_history
from pbx.jobs.limits import run_limited
from pbx.live.collect import collect_snapshot
from pbx.live.listener import keep_listening
from pbx.process_lock import ProcessLock, take_process_lock, try_process_lock
from pbx.progress import Progress, Stop
from pbx.recordings.download import Room
from pbx.recordings.sync import sync_recordings
from pbx.settings import Settings
from pbx.store import job_queue as queue
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_rows import end_job, fail_job, report_progress
from pbx.store.models import Job, JobKind, RecordingRow, now
from pbx.transcription.supervisor import TranscriberSupervisor, ask_language_server

LOOK_S = 1.0  # how often the worker looks for something to do
PROGRESS_S = 1.0  # how often progress is written, at most
END_S = 8.0  # how long a stopping worker waits for its jobs to stop
SUMMARY_LOOK_S = 20.0  # how often it is looked for summaries that wait for the language server
PACK_LOOK_S = 60.0  # how often past days are packed for the figures
ALERTS_LOOK_S = 15.0  # how often alerts are looked after
LISTED_FAILURES = 100  # how many failed recordings a job's row names

log = logging.getLogger("pbx.worker")

JobEnded = Callable[[Job], None]


def do_sync(
    engine: Engine,
    settings: Settings,
    active: ActiveConnection,
    options: dict[str, Any],
    progress: Progress | None,
    stop: Stop,
) -> dict[str, Any]:
    """Options: since and until (ISO times with an offset), limit, parallel, dry_run."""
    since, until = (datetime.fromisoformat(options[name]) if options.get(name) else None for name in ("since", "until"))
    result = sync_recordings(
        engine,
        active,
        settings.audio_dir,
        since=since,
        until=until,
        limit=options.get("limit"),
        dry_run=options.get("dry_run", False),
        parallel=options.get("parallel", 4),
        progress=progress,
        stop=stop,
        room=Room(settings.freepbx_largest_recording_mb * 1_000_000, settings.pbx_least_free_mb * 1_000_000),
    )
    return result.model_dump(mode="json")


def do_collect(
    engine: Engine,
    settings: Settings,
    active: ActiveConnection,
    options: dict[str, Any],
    progress: Progress | None,
    stop: Stop,
) -> dict[str, Any]:
    """Options: output (a path). The result is counts, and each part that isn't there with its reason."""
    output = Path(options.get("output") or settings.pbx_data_dir / "freepbx.json")
    private = output.resolve().is_relative_to(settings.home_dir.resolve())
    snapshot = collect_snapshot(engine, active, output=output, private=private, stop=stop)
    return {
        "collected_at": snapshot.taken_at.isoformat(),
        "output": str(output),
        "extensions": len(snapshot.extensions),
        "trunks": len(snapshot.trunks),
        "queues": len(snapshot.queues),
        "active_calls": len(snapshot.active_calls),
        "incomplete_parts": {name: part.model_dump() for name, part in snapshot.parts.items() if part.state != "ok"},
    }


def make_playable(
    engine: Engine,
    settings: Settings,
    active: ActiveConnection,
    options: dict[str, Any],
    progress: Progress | None,
    stop: Stop,
) -> dict[str, Any]:
    """Make what a browser plays and draws of a recording. Options: recording_id."""
    from pbx.recordings.playable import render_playable, waveform

    with reading(engine) as session:
        recording = session.get(RecordingRow, options.get("recording_id", 0))
    if recording is None or recording.connection_id != active.id or not recording.file:
        raise DataError("There is no such recording in the cache.", "Sync again, then open the call.")
    source = settings.audio_dir / recording.file
    render_playable(source, settings.playable_dir)
    waveform(source, settings.playable_dir)
    return {"recording_id": recording.id}


JOBS: dict[JobKind, Callable[..., dict[str, Any]]] = {
    "sync": do_sync,
    "collect": do_collect,
    "make_playable": make_playable,
    "import": import_history,
}


def run_inline(
    engine: Engine, settings: Settings, kind: JobKind, options: dict[str, Any], progress: Progress | None = None
) -> dict[str, Any]:
    """Do a job in this process, recorded like any other; killed, a worker takes it up.

    Raises SettingsError without a PBX, DataError while one of its kind is running, and what the job raises.
    """
    active = queue.needed_connection(engine, settings)
    if options.get("dry_run"):  # changes nothing, so it is no job to record
        return JOBS[kind](engine, settings, active, options, progress, Stop())
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        queue.requeue_job(engine, slot.name, died=True)  # its former holder's: else it would seem to be running still
        queue.requeue_orphaned(engine, settings.pbx_data_dir)
        job = queue.start_inline(engine, kind, active.id, slot.name, options)
        write = progress_writer(engine, slot.name, job.id)

        def both(done: int, total: int | None) -> None:
            write(done, total)
            if progress is not None:
                progress(done, total)

        def act(progress: Progress, stop: Stop) -> dict[str, Any]:
            return JOBS[kind](engine, settings, active, options, progress, stop)

        try:
            result = run_limited(kind, act, both, threading.Event())
        except BaseException as error:  # also Ctrl-C
            why = error.advice if isinstance(error, PbxError) else "It was stopped before its end. Start it again."
            record_end(engine, slot.name, job.id, error=why)
            raise
        record_end(engine, slot.name, job.id, result=result)
        return result


def run_worker(
    settings: Settings,
    stop: threading.Event | None = None,
    *,
    only: bool = False,
    once: bool = False,
    ended: JobEnded | None = None,
) -> None:
    """Work until `stop` is set; `once`: until nothing is left to do; `only`: return at once when a worker runs already.

    `ended` is called with each job at its end. Raises DataError when the data directory or the database can't be used.
    """
    first = try_process_lock(settings.pbx_data_dir, "worker-0") if only else None
    if only and first is None:
        return
    engine = open_engine(settings)
    with first or take_process_lock(settings.pbx_data_dir, "worker") as held:
        worker = Worker(engine, settings, held, stop or threading.Event(), ended)
        worker.take_up()
        if once:
            worker.work_off()
        else:
            worker.work()
    engine.dispose()


class Worker:
    """One worker on a data directory, holding a slot of it. Each kind of job has a thread of its own.

    So a snapshot is taken every few minutes while a sync runs for an hour.
    """

    def __init__(
        self, engine: Engine, settings: Settings, slot: ProcessLock, stop: threading.Event, ended: JobEnded | None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._slot = slot
        self._stop = stop
        self._ended = ended
        self._said: dict[str, str] = {}
        self._speech = TranscriberSupervisor(engine, settings)

    def work(self) -> None:
        """Do what is due and what is asked for until told to stop; then put back what could not end in time.

        Raises DataError when the data directory is deleted meanwhile.
        """
        log.info("%s is at work on %s.", self._slot.name, self._settings.pbx_data_dir)
        threads = [threading.Thread(target=self._work_on, args=(kind,), name=kind, daemon=True) for kind in JOBS]
        threads.append(threading.Thread(target=self._write_summaries, name="summaries", daemon=True))
        threads.append(threading.Thread(target=self._pack, name="packs", daemon=True))
        threads.append(threading.Thread(target=self._look_after_alerts, name="alerts", daemon=True))
        if self._settings.freepbx_watch:
            threads.append(threading.Thread(target=self._watch, name="watch", daemon=True))
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set() and not self._slot.lost:
                self._guarded(self._look)
                self._stop.wait(LOOK_S)
        finally:
            self._stop.set()
            self._guarded(self._end_speech)
            deadline = time.monotonic() + END_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._slot.lost:  # what stands under this name in a new directory is another worker's
            raise DataError(f"{self._settings.pbx_data_dir} was deleted under the worker.", "Start the worker again.")
        queue.requeue_job(self._engine, self._slot.name, died=False)
        log.info("%s has ended.", self._slot.name)

    def work_off(self) -> None:
        """Do what is due and what is queued, then return."""
        active = self._schedule()
        try:
            for kind in JOBS:
                while not self._stop.is_set() and self._do_next(kind):
                    pass
            if active is not None:
                self._speech.work_off(active, self._stop)
                pack_history(self._engine, active.id, self._stop)
            while not self._stop.is_set() and ask_language_server(self._engine, self._settings):
                pass
            self._guarded(lambda: update_and_send_alerts(self._engine, self._settings, self._stop))
        finally:
            queue.requeue_job(self._engine, self._slot.name, died=False)

    def take_up(self) -> None:
        """Queue again what dead workers left; what stands under this slot's name was its former holder's."""
        left = queue.requeue_job(self._engine, self._slot.name, died=True)
        left += queue.requeue_orphaned(self._engine, self._settings.pbx_data_dir)
        for job in left:
            log.warning("%s was left by a worker that died (%s). %s", job.id, job.state, job.error)

    def _look(self) -> bool:
        for job in queue.requeue_orphaned(self._engine, self._settings.pbx_data_dir):
            log.warning("%s was left by a worker that died (%s). %s", job.id, job.state, job.error)
        active = self._schedule()
        if active is not None:
            self._speech.look(active)
        return True

    def _schedule(self) -> ActiveConnection | None:
        active = active_connection(self._engine, self._settings)
        if active is None:
            self._say("pbx", logging.INFO, "No PBX is set up yet; waiting for one.")
            return None
        self._say("pbx", logging.INFO, f"The PBX is {active.connection.host}.")
        queue.schedule_jobs(self._engine, self._settings, active, now())
        return active

    def _end_speech(self) -> bool:
        self._speech.end()
        return True

    def _write_summaries(self) -> None:
        while not self._stop.is_set():
            if not self._guarded(lambda: ask_language_server(self._engine, self._settings)):
                self._stop.wait(SUMMARY_LOOK_S)

    def _pack(self) -> None:
        while not self._stop.is_set():
            self._guarded(self._pack_past_days)
            self._stop.wait(PACK_LOOK_S)

    def _pack_past_days(self) -> bool:
        active = active_connection(self._engine, self._settings)
        return active is not None and pack_history(self._engine, active.id, self._stop) > 0

    def _look_after_alerts(self) -> None:
        while not self._stop.is_set():
            self._guarded(lambda: update_and_send_alerts(self._engine, self._settings, self._stop))
            self._stop.wait(ALERTS_LOOK_S)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._guarded(self._listen)
            self._stop.wait(LOOK_S)

    def _listen(self) -> bool:
        keep_listening(self._engine, self._settings, self._stop)
        return True

    def _work_on(self, kind: JobKind) -> None:
        while not self._stop.is_set():
            if not self._guarded(lambda: self._do_next(kind)):
                self._stop.wait(LOOK_S)

    def _do_next(self, kind: JobKind) -> bool:
        """Do one queued job of a kind, and return whether there was one."""
        job = queue.claim_job(self._engine, kind, self._slot.name)
        if job is None:
            return False

        def act(progress: Progress, stop: Stop) -> dict[str, Any]:
            active = active_connection(self._engine, self._settings)
            if active is None or active.id != job.connection_id:
                raise SettingsError("It was asked for another PBX than the one now set up.", "Ask for it again.")
            return JOBS[kind](self._engine, self._settings, active, job.options, progress, stop)

        try:
            result = run_limited(kind, act, progress_writer(self._engine, self._slot.name, job.id), self._stop)
        except PbxError as error:
            self._end(job, error=error.advice)
        except Exception as error:  # a mistake of ours ends the job, not the worker
            log.exception("%s failed", job.id)
            self._end(job, error=f"An unexpected error ended it ({type(error).__name__}); the log says more.")
        else:
            self._end(job, result=result)
        return True

    def _end(self, job: Job, *, result: dict[str, Any] | None = None, error: str = "") -> None:
        if self._stop.is_set():
            return  # it may have done a part only: `work` puts it back
        while not self._guarded(lambda: record_end(self._engine, self._slot.name, job.id, result=result, error=error)):
            if self._stop.wait(LOOK_S):  # a full disk, say: until the end is recorded the job counts as running
                return
        kind = job.kind.capitalize()
        if error:
            self._say(job.kind, logging.ERROR, f"{kind} failed: {error}")
        else:
            self._say(job.kind, logging.INFO, f"{kind} is well.")
        if self._ended is not None:
            with reading(self._engine) as session:
                self._ended(session.get_one(Job, job.id))

    def _guarded(self, act: Callable[[], bool]) -> bool:
        """Do it and return its answer; a fault of the database or the disk is said, counts as no, and ends nothing."""
        try:
            return act()
        except PbxError as error:
            self._say("fault", logging.ERROR, error.advice)
        except Exception as error:
            self._say("fault", logging.ERROR, f"An unexpected error: {error!r}", traceback=True)
        return False

    def _say(self, about: str, level: int, text: str, *, traceback: bool = False) -> None:
        """Log what is new about something: a PBX that is away for a week is one line, not a line every minute."""
        if self._said.get(about) != text:
            self._said[about] = text
            log.log(level, text, exc_info=traceback)


def progress_writer(engine: Engine, worker: str, job_id: str) -> Progress:
    """What a job calls at each step: its row shows progress, written at most once in PROGRESS_S."""
    written_at = 0.0

    def write(done: int, total: int | None) -> None:
        nonlocal written_at
        if time.monotonic() - written_at >= PROGRESS_S or done == total:
            written_at = time.monotonic()
            with writing(engine) as session:
                report_progress(session, worker, job_id, done, total)

    return write


def record_end(
    engine: Engine, worker: str, job_id: str, *, result: dict[str, Any] | None = None, error: str = ""
) -> bool:
    """End a job's row: failed when there is an error, else done. Of failed recordings the row names the first 100.

    Returns True; raises DataError when the database can't be written.
    """
    with writing(engine) as session:
        if error:
            fail_job(session, worker, job_id, error)
        else:
            kept = {key: value[:LISTED_FAILURES] if key == "failed" else value for key, value in (result or {}).items()}
            end_job(session, worker, job_id, kept)
    return True
