"""The worker's part in speech: queues what the rules want, keeps a transcriber at work, asks the language server."""

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

from pbx.machine import stop_child
from pbx.process_lock import anyone_alive, try_process_lock
from pbx.settings import Settings
from pbx.store import transcription_claims as claims
from pbx.store import transcription_queue as transcriptions
from pbx.store.connections import ActiveConnection
from pbx.store.engine import reading, writing
from pbx.store.models import FELL_BACK, AnalysisRow, Job, Transcript, TranscriptionRules, now
from pbx.store.transcripts import save_analysis, segments_of
from pbx.transcription.analysis.run import SpokenSegment, analyse_call
from pbx.transcription.transcriber_process import RETRY, SLOT, limit_threads

COMMAND: Sequence[str] = (sys.executable, "-m", "pbx", "transcriber")
RESCAN_S = 15.0  # between two looks for new recordings while a sync brings them
CHUNK = 2000  # recordings queued in one commit
END_S = 8.0  # how long a transcriber may take to stop
STUCK_S = 3600.0  # a transcriber that makes no progress for so long is ended
JUDGE_S = 5.0  # how often it is judged whether it does
ASKED_OFTEN = 3  # so often the language server is asked for one summary
ASK_AGAIN = timedelta(minutes=10)  # after the first failure; twice as long after the second

log = logging.getLogger("pbx.worker")


class LastChange(NamedTuple):
    """What tells that there may be new recordings within the rules, without reading the recordings."""

    rules: dict[str, object]
    sync: tuple[object, ...]  # the last one's id, state and progress

    @property
    def syncing(self) -> bool:
        return "running" in self.sync


class TranscriberSupervisor:
    """Called by the worker at each look. Imports no speech engine: that is the transcriber's, a process of its own."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._seen: LastChange | None = None
        self._seen_at = 0.0
        self._work: object = None  # how far the transcriber was when it last made progress
        self._moved_at = self._judged_at = 0.0

    @property
    def at_work(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def look(self, active: ActiveConnection, *, once: bool = False) -> None:
        """Queue new recordings, take up what a dead transcriber left, and start one when it is wanted."""
        self._end_stuck(active)
        self._reap(active)
        requeue_orphaned_transcriptions(self._engine, self._settings)
        self.queue_new(active)
        if self._child is None and self._wanted(active):
            self._start(once)

    def work_off(self, active: ActiveConnection, stop: threading.Event) -> None:
        """Queue new recordings and wait until all that can be transcribed is."""
        try:
            self.look(active, once=True)
            while self._child is not None and not stop.is_set():
                stop.wait(0.1)
                self._end_stuck(active)
                if not self.at_work:
                    self.look(active, once=True)
        finally:
            self.end()

    def end(self) -> None:
        """Stop the transcriber; what it could not put back in time is put back here."""
        if self._child is None:
            return
        stop_child(self._child, END_S)
        self._child = None
        self._put_back()

    def _put_back(self) -> None:
        slot = try_process_lock(self._settings.pbx_data_dir, SLOT)
        if slot is not None:
            with slot, writing(self._engine) as session:
                claims.requeue_transcription(session, SLOT, died=False)

    def queue_new(self, active: ActiveConnection) -> int:
        """Queue what the rules want, when a sync or new rules may have brought something; return how many."""
        with reading(self._engine) as session:
            rules = transcriptions.rules_of(session, active.id)
            seen = _last_change(session, rules)
            if seen == self._seen or (seen.syncing and time.monotonic() - self._seen_at < RESCAN_S):
                return 0
            found = transcriptions.new_within_rules(session, rules) if rules.automatic else []
        queued = 0
        for first in range(0, len(found), CHUNK):
            with writing(self._engine) as session:
                queued += transcriptions.queue_new(session, active.id, found[first : first + CHUNK])
        self._seen, self._seen_at = seen, time.monotonic()
        if queued:
            log.info("%d new recordings are queued to be transcribed.", queued)
        return queued

    def _wanted(self, active: ActiveConnection) -> bool:
        with reading(self._engine) as session:
            rules = transcriptions.rules_of(session, active.id)
            waits = rules.retry_at is not None and rules.retry_at > now()
            return not rules.paused and not waits and claims.next_model(session, active.id) is not None

    def _start(self, once: bool) -> None:
        if anyone_alive(self._settings.pbx_data_dir, "transcriber"):
            return  # that of another worker
        environment = limit_threads(dict(os.environ)) | {"PBX_DATA_DIR": str(self._settings.pbx_data_dir.resolve())}
        self._child = subprocess.Popen(  # noqa: S603 - this Python, this package
            [*COMMAND, "--with-parent", *(["--once"] if once else [])], stdin=subprocess.PIPE, env=environment
        )

    def _end_stuck(self, active: ActiveConnection) -> None:
        """Kill a transcriber that makes no progress: what it was at is queued again, and fails the third time."""
        if self._child is None or not self.at_work or time.monotonic() < self._judged_at + JUDGE_S:
            return
        self._judged_at = time.monotonic()
        with reading(self._engine) as session:
            # While a model is downloaded, how far that is stands in the queue's own words.
            work = (
                self._child.pid,
                claims.progress_of(session, SLOT),
                transcriptions.rules_of(session, active.id).blocked_reason,
            )
        if work != self._work:
            self._work, self._moved_at = work, time.monotonic()
        elif time.monotonic() - self._moved_at > STUCK_S:
            log.error("The transcriber made no progress for %.0f minutes and was stopped.", STUCK_S / 60)
            stop_child(self._child, 0.0)

    def _reap(self, active: ActiveConnection) -> None:
        """Say how a transcriber ended; one that died with nothing in hand died of its model."""
        if self._child is None or self.at_work:
            return
        status, self._child = self._child.returncode, None
        if status == 0:
            return
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        log.error("The transcriber ended unexpectedly (%s).", how)
        if status > 0:  # of its own will: a full disk, say
            self._put_back()
            why = f"The transcriber ended with an error ({how}). The end of data/worker.log says which."
            with writing(self._engine) as session:
                transcriptions.set_blocked_reason(session, active.id, why, now() + RETRY)
            return
        with reading(self._engine) as session:
            if SLOT in claims.TRANSCRIPTIONS.workers(session):
                return
        why = (
            f"The transcriber was ended while it was loading its model ({how}), most likely for want of memory. "
            "Close other programs or choose a smaller model (WHISPER_MODEL)."
        )
        with writing(self._engine) as session:
            if model := claims.next_model(session, active.id):  # one that somebody asked for: the others go on
                claims.fail_queued(session, active.id, model, why)
                transcriptions.set_blocked_reason(session, active.id, "")
            else:
                transcriptions.set_blocked_reason(session, active.id, why, now() + RETRY)


def requeue_orphaned_transcriptions(engine: Engine, settings: Settings) -> None:
    """Queue again the recordings that dead transcribers left."""
    for worker in claims.TRANSCRIPTIONS.dead_workers(engine, settings.pbx_data_dir):
        with writing(engine) as session:
            for recording_id, state in claims.requeue_transcription(session, worker, died=True):
                log.warning("The transcriber of recording %d died; the recording is %s.", recording_id, state)


def ask_language_server(engine: Engine, settings: Settings) -> bool:
    """Have the language server write the next summary that waits for it; False when none does or the server failed."""
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
            return True  # transcribed again meanwhile
        document, reason = found.to_document(), found.fallback_reason
        save_analysis(session, row.transcript_id, found.engine, document, reason, row.attempts + 1)
    return not found.fallback_reason


def _next_summary(session: Session) -> AnalysisRow | None:
    due = [
        (col(AnalysisRow.attempts) == often) & (col(AnalysisRow.created_at) <= now() - ASK_AGAIN * often)
        for often in range(ASKED_OFTEN)
    ]
    waiting = select(AnalysisRow).where(text(FELL_BACK), or_(*due))
    return session.exec(
        waiting.order_by(col(AnalysisRow.attempts), col(AnalysisRow.created_at).desc()).limit(1)
    ).first()


def _last_change(session: Session, rules: TranscriptionRules) -> LastChange:
    last = select(Job.id, Job.state, Job.done).where(Job.kind == "sync", Job.connection_id == rules.connection_id)
    sync = session.exec(last.order_by(col(Job.requested_at).desc()).limit(1)).first()
    wanted = rules.model_dump(exclude={"paused", "blocked_reason", "retry_at"})
    return LastChange(wanted, tuple(sync or ()))
