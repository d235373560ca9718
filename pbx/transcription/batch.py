"""Transcribe: claimed recordings through a speech engine into the store, part by part.

One commit per part: whoever is killed loses the part at hand, and the next goes on behind the last one stored. Log
lines name recordings by number and never hold what was said.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlmodel import Session

from pbx.asterisk.formats.recording_names import leg_of
from pbx.errors import DataError, PbxError
from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber, TranscriptionSource, TranscriptPart
from pbx.store import transcription_claims as claims
from pbx.store.engine import reading, writing
from pbx.store.transcription_claims import Claim
from pbx.store.transcription_queue import rules_of
from pbx.store.transcripts import add_part, begin_transcript, finish_transcript, save_analysis, segments_of
from pbx.transcription.analysis.run import SpokenSegment, analyse

WATCH_S = 1.0  # how often it is looked whether to go on
NOT_ASKED_YET = "The language server has not been asked yet."

log = logging.getLogger("pbx.transcribe")

RecordingEnded = Callable[[int, str], None]  # a recording, and "" or why it failed


@dataclass
class Taken:
    """A claimed recording at work."""

    claim: Claim
    transcript_id: int
    source: TranscriptionSource
    ended: bool = False  # whole, failed, or not ours any more


@dataclass
class TranscriptionBatch:
    """What a call of `transcribe_queued` works on and what has come of it."""

    completed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    taken: list[Taken] = field(default_factory=list)

    @property
    def at_work(self) -> list[Taken]:
        return [item for item in self.taken if not item.ended]


def transcribe_queued(
    engine: Engine,
    settings: Settings,
    transcriber: Transcriber,
    claimed: Sequence[Claim],
    *,
    connection_id: int,
    worker: str,
    stop: threading.Event,
    obeys_pause: bool = True,
    ended: RecordingEnded | None = None,
) -> TranscriptionBatch:
    """Transcribe what `worker` has claimed until all of it ended, or `stop`, a pause or a cancellation interrupts.

    A recording that can't be read fails with its reason and stops no other; what is interrupted is queued again and
    keeps what is known of it. Raises ModelError when the model fails, DataError or StorageFull when nothing can be
    stored; then too all that hasn't ended is queued again.
    """
    batch = TranscriptionBatch()
    run = _Run(engine, settings, transcriber, worker, batch, ended)
    died = False
    try:
        for item in claimed:
            if not stop.is_set():
                run.begin(item)
        if batch.taken:
            with _StopWatcher(engine, connection_id, worker, batch, stop, obeys_pause) as watch:
                run.transcribe(watch.stop)
    except PbxError:
        raise
    except Exception as error:  # a fault of ours: alone, a recording fails of it; of several each is tried alone
        log.exception("the speech engine failed")
        died = True
        run.blame(f"An unexpected error ended it ({type(error).__name__}); data/worker.log says more.")
    finally:
        with suppress(PbxError), writing(engine) as session:  # a full disk: who claims next puts them back
            claims.requeue_transcription(session, worker, died=died)
    return batch


class _Run:
    """The steps of `transcribe_queued`."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        transcriber: Transcriber,
        worker: str,
        batch: TranscriptionBatch,
        ended: RecordingEnded | None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._transcriber = transcriber
        self._worker = worker
        self._batch = batch
        self._ended = ended

    def begin(self, claim: Claim) -> None:
        """Open a recording's transcript, going on where an earlier one was interrupted."""
        path = self._settings.audio_dir / claim.file
        try:
            with path.open("rb") as file:
                audio_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            why = DataError(
                f"The recording's file is no longer in {self._settings.audio_dir} or can't be read: {error.strerror}.",
                "Put it back from a backup, then retry.",
            )
            self.fail(claim, why.advice)
            return
        name, model = self._transcriber.engine, self._transcriber.model
        with writing(self._engine) as session:
            transcript = begin_transcript(session, claim.recording_id, name, model, audio_sha256)
            done_s, heard = transcript.done_s, transcript.language  # of a transcript that goes on
            claims.report_done(session, self._worker, claim.recording_id, done_s, 0.0)
        chosen = self._settings.whisper_language
        language = (heard or None) if chosen == "auto" else chosen
        assert transcript.id is not None  # noqa: S101 - it was flushed
        self._batch.taken.append(Taken(claim, transcript.id, TranscriptionSource(path, language, done_s)))

    def transcribe(self, stop: threading.Event) -> None:
        taken = self._batch.taken
        at = time.monotonic()
        for part in self._transcriber.transcribe([item.source for item in taken], stop):
            item, took_s = taken[part.source], time.monotonic() - at
            at += took_s
            if item.ended:
                continue
            if part.error is not None:
                item.ended = True
                self.fail(item.claim, part.error.advice)
            else:
                self._store(item, part, took_s)
            if not self._batch.at_work:
                return
        if self._batch.at_work and not stop.is_set():
            raise RuntimeError("the speech engine ended before its recordings")

    def _store(self, item: Taken, part: TranscriptPart, took_s: float) -> None:
        """One commit: the part, how far it reaches, and at the end the whole transcript with what is made of it."""
        recording_id = item.claim.recording_id
        with writing(self._engine) as session:
            if not claims.report_done(session, self._worker, recording_id, part.done_s, took_s):
                item.ended = True  # cancelled: what is known so far stays for the next time
                return
            add_part(session, item.transcript_id, part, item.claim.direction, leg_of(item.claim.name))
            if part.is_last:
                finish_transcript(session, item.transcript_id, part.duration_s)
                self._analyse(session, item.transcript_id, part.duration_s)
                item.ended = True
                claims.complete(session, self._worker, recording_id, part.duration_s)
        if part.is_last:
            self._batch.completed.append(recording_id)
            if self._ended is not None:
                self._ended(recording_id, "")

    def _analyse(self, session: Session, transcript_id: int, duration_s: float | None) -> None:
        """What this machine makes of it, now; a language server is asked later, and holds nobody up."""
        rows = segments_of(session, transcript_id)
        spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
        try:
            found = analyse(spoken, duration_s)
        except Exception:  # a summary less is better than a transcript less
            log.exception("transcript %d could not be analysed", transcript_id)
            return
        waits = NOT_ASKED_YET if self._settings.analysis_url and self._settings.analysis_model else ""
        save_analysis(session, transcript_id, found.engine, found.to_document(), waits)

    def fail(self, claim: Claim, reason: str) -> None:
        with writing(self._engine) as session:
            claims.fail(session, self._worker, claim.recording_id, reason)
        log.warning("recording %d can't be transcribed", claim.recording_id)
        self._batch.failed[claim.recording_id] = reason
        if self._ended is not None:
            self._ended(claim.recording_id, reason)

    def blame(self, reason: str) -> None:
        """Let the recording fail that was alone with an engine that failed; of several nobody knows which it was."""
        if len(self._batch.at_work) == 1:
            item = self._batch.at_work[0]
            item.ended = True
            self.fail(item.claim, reason)


class _StopWatcher:
    """Sets `stop` soon after the caller's was set, a recording at work was cancelled, or all is paused."""

    def __init__(
        self,
        engine: Engine,
        connection_id: int,
        worker: str,
        batch: TranscriptionBatch,
        stop: threading.Event,
        obeys_pause: bool,
    ) -> None:
        self.stop = threading.Event()
        self._engine = engine
        self._connection_id = connection_id
        self._worker = worker
        self._batch = batch
        self._callers = stop
        self._obeys_pause = obeys_pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="transcription watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        looked_at = time.monotonic()
        while not self._over.wait(0.1):
            if not self._callers.is_set():
                if time.monotonic() - looked_at < WATCH_S:
                    continue
                looked_at = time.monotonic()
                with suppress(PbxError):  # what can't be read now is looked at again
                    if self._goes_on():
                        continue
            self.stop.set()
            return

    def _goes_on(self) -> bool:
        with reading(self._engine) as session:
            kept = claims.still_claimed(session, self._worker)
            paused = self._obeys_pause and rules_of(session, self._connection_id).paused
        # Asked after the store: what ends by itself is marked here before it is stored there.
        return not paused and kept >= {item.claim.recording_id for item in self._batch.at_work}
