"""The worker's part in transcription: queues recordings by rule, runs a transcriber, and requests summaries."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Engine, text
from sqlmodel import Session, col, or_, select

from pbx.operating_system import stop_child
from pbx.process_lock import anyone_alive, try_process_lock
from pbx.settings import Settings
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.engine import reading, writing
from pbx.store.models import IS_FALLBACK, AnalysisRow, Job, Transcript, TranscriptionRules, now
from pbx.store.pbx_connections import ActiveConnection
from pbx.store.transcripts import save_analysis, segments_of
from pbx.transcription.analysis.run import SpokenSegment, analyse_call
from pbx.transcription.transcriber_process import RETRY, TRANSCRIBER_SLOT, limit_threads

TRANSCRIBER_COMMAND: Sequence[str] = (sys.executable, "-m", "pbx", "transcriber")
RESCAN_S = 15.0  # time between two searches for new recordings while a sync runs
CHUNK = 2000  # recordings queued in one commit
STOP_TIMEOUT_S = 8.0  # how long a stopping transcriber can take
STUCK_S = 3600.0  # a transcriber without progress for this long is killed
PROGRESS_CHECK_S = 5.0  # time between two checks of its progress
SUMMARY_ATTEMPTS = 3  # requests to the language server for one summary
SUMMARY_RETRY = timedelta(minutes=10)  # after the first failure; twice as long after the second

log = logging.getLogger("pbx.worker")


class LastChange(NamedTuple):
    """The rules and the last sync. While neither changes, there are no new recordings to queue."""

    rules: dict[str, object]
    sync: tuple[object, ...]  # id, state and progress of the last sync

    @property
    def syncing(self) -> bool:
        """Whether the last sync is still running."""
        return "running" in self.sync


class TranscriberSupervisor:
    """Starts and watches the transcriber, which is a separate process, and queues recordings by rule.

    The worker calls `poll` every second. This module imports no speech engine; only the transcriber does.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._last_seen: LastChange | None = None
        self._last_seen_at = 0.0
        self._progress: object = None  # the progress of the transcriber when it last changed
        self._progress_at = self._checked_at = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the transcriber that this worker started is running."""
        return self._child is not None and self._child.poll() is None

    def poll(self, active: ActiveConnection, *, once: bool = False) -> None:
        """Queue new recordings, requeue those of a dead transcriber, and start a transcriber if any are queued."""
        self._end_stuck(active)
        self._log_ending(active)
        requeue_orphaned_transcriptions(self._engine, self._settings)
        self.queue_new(active)
        if self._child is None and self._wanted(active):
            self._start(once)

    def run_all(self, active: ActiveConnection, stop: threading.Event) -> None:
        """Queue new recordings, and wait until every recording that can be transcribed is."""
        try:
            self.poll(active, once=True)
            while self._child is not None and not stop.is_set():
                stop.wait(0.1)
                self._end_stuck(active)
                if not self.is_running:
                    self.poll(active, once=True)
        finally:
            self.end()

    def end(self) -> None:
        """Stop the transcriber and requeue its unfinished recordings."""
        if self._child is None:
            return
        stop_child(self._child, STOP_TIMEOUT_S)
        self._child = None
        self._requeue()

    def _requeue(self) -> None:
        slot = try_process_lock(self._settings.pbx_data_dir, TRANSCRIBER_SLOT)
        if slot is not None:
            with slot, writing(self._engine) as session:
                claims.requeue_transcription(session, TRANSCRIBER_SLOT, died=False)

    def queue_new(self, active: ActiveConnection) -> int:
        """Queue recordings by rule after a sync or a change of the rules; returns how many were queued."""
        with reading(self._engine) as session:
            rules = transcriptions.rules_of(session, active.id)
            seen = _last_change(session, rules)
            if seen == self._last_seen or (seen.syncing and time.monotonic() - self._last_seen_at < RESCAN_S):
                return 0
            found = transcriptions.new_within_rules(session, rules) if rules.automatic else []
        queued = 0
        for first in range(0, len(found), CHUNK):
            with writing(self._engine) as session:
                queued += transcriptions.queue_new(session, active.id, found[first : first + CHUNK])
        self._last_seen, self._last_seen_at = seen, time.monotonic()
        if queued:
            log.info("%d new recordings are queued to be transcribed.", queued)
        return queued

    def _wanted(self, active: ActiveConnection) -> bool:
        with reading(self._engine) as session:
            rules = transcriptions.rules_of(session, active.id)
            must_wait = rules.retry_at is not None and rules.retry_at > now()
            return not rules.paused and not must_wait and claims.next_model(session, active.id) is not None

    def _start(self, once: bool) -> None:
        if anyone_alive(self._settings.pbx_data_dir, "transcriber"):
            return  # started by another worker
        environment = limit_threads(dict(os.environ)) | {"PBX_DATA_DIR": str(self._settings.pbx_data_dir.resolve())}
        self._child = subprocess.Popen(  # noqa: S603 - this Python, this package
            [*TRANSCRIBER_COMMAND, "--with-parent", *(["--once"] if once else [])],
            stdin=subprocess.PIPE,
            env=environment,
        )

    def _end_stuck(self, active: ActiveConnection) -> None:
        """Kill a transcriber that makes no progress. Its recordings are requeued, and fail the third time."""
        if self._child is None or not self.is_running or time.monotonic() < self._checked_at + PROGRESS_CHECK_S:
            return
        self._checked_at = time.monotonic()
        with reading(self._engine) as session:
            # The blocked reason shows the progress while a model is downloaded.
            progress = (
                self._child.pid,
                claims.progress_of(session, TRANSCRIBER_SLOT),
                transcriptions.rules_of(session, active.id).blocked_reason,
            )
        if progress != self._progress:
            self._progress, self._progress_at = progress, time.monotonic()
        elif time.monotonic() - self._progress_at > STUCK_S:
            log.error("The transcriber made no progress for %.0f minutes and was stopped.", STUCK_S / 60)
            self._killed = True  # Windows gives a killed process the exit status of one that failed
            stop_child(self._child, 0.0)

    def _log_ending(self, active: ActiveConnection) -> None:
        """Log how a transcriber ended, and block the queue or fail its recordings if it can't continue.

        If it was killed without a claimed recording, it was loading its model.
        """
        if self._child is None or self.is_running:
            return
        status, self._child = self._child.returncode, None
        killed, self._killed = self._killed or status < 0, False
        if status == 0:
            return
        ending = f"signal {-status}" if status < 0 else f"exit status {status}"
        log.error("The transcriber ended unexpectedly (%s).", ending)
        if not killed:  # it exited with an error, for example because the disk was full
            self._requeue()
            reason = f"The transcriber ended with an error ({ending}). The end of data/worker.log says which."
            with writing(self._engine) as session:
                transcriptions.set_blocked_reason(session, active.id, reason, now() + RETRY)
            return
        with reading(self._engine) as session:
            if TRANSCRIBER_SLOT in claims.TRANSCRIPTIONS.workers(session):
                return
        reason = (
            f"The transcriber was ended while it was loading its model ({ending}), probably because memory ran out. "
            "Close other programs or choose a smaller model (WHISPER_MODEL)."
        )
        with writing(self._engine) as session:
            if model := claims.next_model(session, active.id):  # recordings that request other models continue
                claims.fail_queued(session, active.id, model, reason)
                transcriptions.set_blocked_reason(session, active.id, "")
            else:
                transcriptions.set_blocked_reason(session, active.id, reason, now() + RETRY)


def requeue_orphaned_transcriptions(engine: Engine, settings: Settings) -> None:
    """Requeue the recordings of dead transcribers, or fail them after the last attempt."""
    for worker in claims.TRANSCRIPTIONS.dead_workers(engine, settings.pbx_data_dir):
        with writing(engine) as session:
            for recording_id, state in claims.requeue_transcription(session, worker, died=True):
                log.warning("The transcriber of recording %d died; the recording is %s.", recording_id, state)


def summarise_waiting(engine: Engine, settings: Settings) -> bool:
    """Request the next missing summary from the language server.

    Returns False if no summary is missing, the server failed, or no server is set up.
    """
    if not (settings.analysis_url and settings.analysis_model):
        return False
    with reading(engine) as session:
        row = _next_summary(session)
        if row is None:
            return False
        transcript = session.get_one(Transcript, row.transcript_id)
        rows = segments_of(session, row.transcript_id)
    spoken = [SpokenSegment(one.start_s, one.end_s, one.speaker, one.text, one.flags.split()) for one in rows]
    found = analyse_call(spoken, transcript.duration_s, settings)
    with writing(engine) as session:
        if session.get(Transcript, row.transcript_id) is None:
            return True  # transcribed again in the meantime
        document, reason = found.to_document(), found.fallback_reason
        save_analysis(session, row.transcript_id, found.engine, document, reason, row.attempts + 1)
    return not found.fallback_reason


def _next_summary(session: Session) -> AnalysisRow | None:
    due = [
        (col(AnalysisRow.attempts) == attempts) & (col(AnalysisRow.created_at) <= now() - SUMMARY_RETRY * attempts)
        for attempts in range(SUMMARY_ATTEMPTS)
    ]
    waiting = select(AnalysisRow).where(text(IS_FALLBACK), or_(*due))
    return session.exec(
        waiting.order_by(col(AnalysisRow.attempts), col(AnalysisRow.created_at).desc()).limit(1)
    ).first()


def _last_change(session: Session, rules: TranscriptionRules) -> LastChange:
    last = select(Job.id, Job.state, Job.done).where(Job.kind == "sync", Job.connection_id == rules.connection_id)
    sync = session.exec(last.order_by(col(Job.requested_at).desc()).limit(1)).first()
    wanted = rules.model_dump(exclude={"paused", "blocked_reason", "retry_at"})
    return LastChange(wanted, tuple(sync or ()))
