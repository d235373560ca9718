"""The worker: schedules and runs jobs, and requeues the jobs of dead workers. Also runs a single job for a command."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pbx.alerts.delivery import update_and_send_alerts
from pbx.analytics.sealing import seal_history
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
from pbx.store.engine import open_engine, reading, writing
from pbx.store.job_rows import end_job, fail_job, report_progress
from pbx.store.models import JOB_NAMES, Job, JobKind, RecordingRow, now
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.transcription.supervisor import TranscriberSupervisor, summarise_waiting

POLL_S = 1.0  # how often the worker looks for work
PROGRESS_S = 1.0  # minimum time between two stored progress reports
STOP_TIMEOUT_S = 8.0  # how long a stopping worker waits for its jobs to stop
SUMMARY_INTERVAL_S = 20.0  # how often the worker looks for transcripts without a summary from the language server
SEALING_INTERVAL_S = 300.0  # how often past days are copied to Parquet files; transcribing reopens days all the time
ALERTS_INTERVAL_S = 15.0  # how often alerts are updated and sent
MAX_LISTED_FAILURES = 100  # maximum number of failed recordings in a job's result

log = logging.getLogger("pbx.worker")

JobEnded = Callable[[Job], None]


@dataclass(frozen=True)
class JobRun:
    """What a job works with. The options depend on its kind. It ends soon after `stop` is set."""

    engine: Engine
    settings: Settings
    active: ActiveConnection
    options: dict[str, Any]
    progress: Progress | None
    stop: Stop


def do_sync(job: JobRun) -> dict[str, Any]:
    """Sync recordings from the PBX. Options: since and until (ISO times with an offset), limit, parallel, dry_run."""
    options, settings = job.options, job.settings
    since, until = (datetime.fromisoformat(options[name]) if options.get(name) else None for name in ("since", "until"))
    result = sync_recordings(
        job.engine,
        job.active,
        settings.audio_dir,
        since=since,
        until=until,
        limit=options.get("limit"),
        dry_run=options.get("dry_run", False),
        parallel=options.get("parallel", 4),
        progress=job.progress,
        stop=job.stop,
        room=Room(settings.freepbx_largest_recording_mb * 1_000_000, settings.pbx_least_free_mb * 1_000_000),
    )
    return result.model_dump(mode="json")


def do_collect(job: JobRun) -> dict[str, Any]:
    """Take a snapshot of the PBX. Options: output (a path). Returns counts, and incomplete parts with reasons."""
    output = Path(job.options.get("output") or job.settings.pbx_data_dir / "freepbx.json")
    private = output.resolve().is_relative_to(job.settings.home_dir.resolve())
    snapshot = collect_snapshot(job.engine, job.active, output=output, private=private, stop=job.stop)
    return {
        "collected_at": snapshot.taken_at.isoformat(),
        "output": str(output),
        "extensions": len(snapshot.extensions),
        "trunks": len(snapshot.trunks),
        "queues": len(snapshot.queues),
        "active_calls": len(snapshot.active_calls),
        "incomplete_parts": {name: part.model_dump() for name, part in snapshot.parts.items() if part.state != "ok"},
    }


def make_playable(job: JobRun) -> dict[str, Any]:
    """Make a recording's playable copy and waveform. Options: recording_id. Raises DataError if it isn't cached."""
    from pbx.recordings.playable import render_playable, waveform

    with reading(job.engine) as session:
        recording = session.get(RecordingRow, job.options.get("recording_id", 0))
    if recording is None or recording.connection_id != job.active.id or not recording.file:
        raise DataError("This recording is not in the cache.", "Sync again, then open the call.")
    source = job.settings.audio_dir / recording.file
    render_playable(source, job.settings.playable_dir)
    waveform(source, job.settings.playable_dir)
    return {"recording_id": recording.id}


def do_import(job: JobRun) -> dict[str, Any]:
    """Import history: see `import_history`, also for the options."""
    return import_history(job.engine, job.settings, job.active, job.options, job.progress, job.stop)


JOBS: dict[JobKind, Callable[[JobRun], dict[str, Any]]] = {
    "sync": do_sync,
    "collect": do_collect,
    "make_playable": make_playable,
    "import": do_import,
}


def run_inline(
    engine: Engine, settings: Settings, kind: JobKind, options: dict[str, Any], progress: Progress | None = None
) -> dict[str, Any]:
    """Run a job in this process and record it like any other. If the process is killed, a worker runs the job again.

    Raises SettingsError if no PBX is set up, DataError if a job of this kind is already running, and any exception that
    the job raises.
    """
    active = queue.required_connection(engine, settings)
    if options.get("dry_run"):  # a dry run changes nothing, so no job is recorded
        return JOBS[kind](JobRun(engine, settings, active, options, progress, Stop()))
    with take_process_lock(settings.pbx_data_dir, "here") as slot:
        queue.requeue_job(engine, slot.name, died=True)  # left by a dead process that held this lock
        queue.requeue_orphaned(engine, settings.pbx_data_dir)
        job = queue.start_inline(engine, kind, active.id, slot.name, options)
        write = progress_writer(engine, slot.name, job.id)

        def report(done: int, total: int | None) -> None:
            write(done, total)
            if progress is not None:
                progress(done, total)

        def act(progress: Progress, stop: Stop) -> dict[str, Any]:
            return JOBS[kind](JobRun(engine, settings, active, options, progress, stop))

        try:
            result = run_limited(kind, act, report, threading.Event())
        except BaseException as error:  # also Ctrl-C
            why = error.advice if isinstance(error, PbxError) else "It was stopped before it finished. Start it again."
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
    """Run jobs until `stop` is set or, with `once`, until none are left.

    With `only`, returns immediately if another worker is running. `ended` is called with each job when it ends. Raises
    DataError if the data directory or the database can't be used.
    """
    first = try_process_lock(settings.pbx_data_dir, "worker-0") if only else None
    if only and first is None:
        return
    engine = open_engine(settings)
    with first or take_process_lock(settings.pbx_data_dir, "worker") as held:
        worker = Worker(engine, settings, held, stop or threading.Event(), ended)
        worker.requeue_dead()
        if once:
            worker.run_all()
        else:
            worker.work()
    engine.dispose()


class Worker:
    """Runs jobs for a data directory, identified by its process lock.

    Each kind of job has a thread of its own, so snapshots continue every few minutes while a sync runs for an hour.
    """

    def __init__(
        self, engine: Engine, settings: Settings, slot: ProcessLock, stop: threading.Event, ended: JobEnded | None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._slot = slot
        self._stop = stop
        self._on_ended = ended
        self._last_texts: dict[str, str] = {}
        self._transcriber = TranscriberSupervisor(engine, settings)

    def work(self) -> None:
        """Run scheduled and requested jobs until `stop` is set, then requeue those that didn't finish.

        Raises DataError if the data directory is deleted in the meantime.
        """
        log.info("%s is at work on %s.", self._slot.name, self._settings.pbx_data_dir)
        acts: dict[str, tuple[Callable[[], bool], float]] = {
            kind: (partial(self._run_next, kind), POLL_S) for kind in JOBS
        } | {
            "summaries": (lambda: summarise_waiting(self._engine, self._settings), SUMMARY_INTERVAL_S),
            "sealing": (self._seal_past_days, SEALING_INTERVAL_S),
            "alerts": (self._update_alerts, ALERTS_INTERVAL_S),
        }
        if self._settings.freepbx_watch:
            acts["watch"] = (self._listen, POLL_S)
        threads = [
            threading.Thread(target=self._repeat, args=act, name=name, daemon=True) for name, act in acts.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set() and not self._slot.lost:
                self._guarded(self._poll)
                self._stop.wait(POLL_S)
        finally:
            self._stop.set()
            self._guarded(self._stop_transcriber)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._slot.lost:  # in a new directory, another worker can have this name
            raise DataError(f"{self._settings.pbx_data_dir} was deleted under the worker.", "Start the worker again.")
        queue.requeue_job(self._engine, self._slot.name, died=False)
        log.info("%s has ended.", self._slot.name)

    def run_all(self) -> None:
        """Run all scheduled and queued jobs, then return."""
        active = self._schedule()
        try:
            for kind in JOBS:
                while not self._stop.is_set() and self._run_next(kind):
                    pass
            if active is not None:
                self._transcriber.run_all(active, self._stop)
                seal_history(self._engine, active.id, self._stop)
            while not self._stop.is_set() and summarise_waiting(self._engine, self._settings):
                pass
            self._guarded(self._update_alerts)
        finally:
            queue.requeue_job(self._engine, self._slot.name, died=False)

    def requeue_dead(self) -> None:
        """Requeue the jobs of dead workers, including the previous holder of this process lock."""
        left = queue.requeue_job(self._engine, self._slot.name, died=True)
        left += queue.requeue_orphaned(self._engine, self._settings.pbx_data_dir)
        for job in left:
            log.warning("The worker running %s died; the job is %s. %s", job.id, job.state, job.error)

    def _poll(self) -> bool:
        for job in queue.requeue_orphaned(self._engine, self._settings.pbx_data_dir):
            log.warning("The worker running %s died; the job is %s. %s", job.id, job.state, job.error)
        active = self._schedule()
        if active is not None:
            self._transcriber.poll(active)
        return True

    def _schedule(self) -> ActiveConnection | None:
        active = active_connection(self._engine, self._settings)
        if active is None:
            self._log_once("pbx", logging.INFO, "No PBX is set up yet; waiting for one.")
            return None
        self._log_once("pbx", logging.INFO, f"The PBX is {active.connection.host}.")
        queue.schedule_jobs(self._engine, self._settings, active, now())
        return active

    def _stop_transcriber(self) -> bool:
        self._transcriber.end()
        return True

    def _repeat(self, act: Callable[[], bool], pause_s: float) -> None:
        """Call `act` until `stop` is set, with a pause whenever it fails or returns False because nothing is left."""
        while not self._stop.is_set():
            if not self._guarded(act):
                self._stop.wait(pause_s)

    def _seal_past_days(self) -> bool:
        active = active_connection(self._engine, self._settings)
        if active is not None:
            seal_history(self._engine, active.id, self._stop)
        return False

    def _update_alerts(self) -> bool:
        update_and_send_alerts(self._engine, self._settings, self._stop)
        return False

    def _listen(self) -> bool:
        keep_listening(self._engine, self._settings, self._stop)
        return False

    def _run_next(self, kind: JobKind) -> bool:
        """Run the next queued job of a kind; returns False if there is none."""
        job = queue.claim_job(self._engine, kind, self._slot.name)
        if job is None:
            return False

        def act(progress: Progress, stop: Stop) -> dict[str, Any]:
            active = active_connection(self._engine, self._settings)
            if active is None or active.id != job.connection_id:
                raise SettingsError(
                    "It was requested for a different PBX from the one set up now.", "Request it again."
                )
            return JOBS[kind](JobRun(self._engine, self._settings, active, job.options, progress, stop))

        try:
            result = run_limited(kind, act, progress_writer(self._engine, self._slot.name, job.id), self._stop)
        except PbxError as error:
            self._end(job, error=error.advice)
        except Exception as error:  # a bug ends the job, not the worker
            log.exception("%s failed", job.id)
            self._end(
                job, error=f"An unexpected error ended it ({type(error).__name__}). See data/worker.log for details."
            )
        else:
            self._end(job, result=result)
        return True

    def _end(self, job: Job, *, result: dict[str, Any] | None = None, error: str = "") -> None:
        if self._stop.is_set():
            return  # the job may be incomplete, so `work` requeues it
        while not self._guarded(lambda: record_end(self._engine, self._slot.name, job.id, result=result, error=error)):
            if self._stop.wait(POLL_S):  # retry, for example after a full disk; until then the job counts as running
                return
        kind = JOB_NAMES[job.kind].capitalize()
        if error:
            self._log_once(job.kind, logging.ERROR, f"{kind} failed: {error}")
        else:
            self._log_once(job.kind, logging.INFO, f"{kind} succeeded.")
        if self._on_ended is not None:
            with reading(self._engine) as session:
                self._on_ended(session.get_one(Job, job.id))

    def _guarded(self, act: Callable[[], bool]) -> bool:
        """Call `act` and return its result. If it raises an error, log the error and return False."""
        try:
            return act()
        except PbxError as error:
            self._log_once("error", logging.ERROR, error.advice)
        except Exception as error:
            self._log_once("error", logging.ERROR, f"An unexpected error: {error!r}", traceback=True)
        return False

    def _log_once(self, topic: str, level: int, text: str, *, traceback: bool = False) -> None:
        """Log a text unless it repeats the topic's last one: a PBX down for a week makes one line, not one a minute."""
        if self._last_texts.get(topic) != text:
            self._last_texts[topic] = text
            log.log(level, text, exc_info=traceback)


def progress_writer(engine: Engine, worker: str, job_id: str) -> Progress:
    """Return a function that stores a job's progress, at most once every PROGRESS_S seconds."""
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
    """Mark a job as failed if there is an error, otherwise as done with its result.

    The result is limited to the first 100 failed recordings. Returns True; raises DataError if the database can't be
    written.
    """
    with writing(engine) as session:
        if error:
            fail_job(session, worker, job_id, error)
        else:
            stored = {
                key: value[:MAX_LISTED_FAILURES] if key == "failed" else value for key, value in (result or {}).items()
            }
            end_job(session, worker, job_id, stored)
    return True
