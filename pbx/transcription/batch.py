"""Transcribes claimed recordings with a speech engine, and stores the transcripts part by part.

Each part is committed separately: a killed process loses only its current part, and the next process continues after
the last stored one. Log lines identify recordings by number and never contain speech.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
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

STOP_CHECK_S = 1.0  # how often to check for a pause or a cancellation
SUMMARY_PENDING = "The summary has not been requested from the language server yet."

log = logging.getLogger("pbx.transcribe")


@dataclass
class ClaimedRecording:
    """A recording that this process has claimed and started to transcribe."""

    claim: Claim
    transcript_id: int
    source: TranscriptionSource
    ended: bool = False  # completed, failed, or no longer claimed by this worker


@dataclass
class TranscriptionBatch:
    """The recordings of one call of `transcribe_queued` and their results.

    `completed`: recording ids. `failed`: {recording id: reason}.
    """

    completed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    recordings: list[ClaimedRecording] = field(default_factory=list)

    @property
    def open_recordings(self) -> list[ClaimedRecording]:
        """The recordings that have not ended."""
        return [item for item in self.recordings if not item.ended]


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
) -> TranscriptionBatch:
    """Transcribe the recordings that `worker` has claimed, until all have ended or they are interrupted.

    `stop`, a pause (if `obeys_pause`) or the cancellation of a recording interrupts them. Interrupted recordings are
    requeued and keep what is transcribed so far. An unreadable recording fails with a reason and doesn't affect the
    others. Raises ModelError if the model fails, and DataError or StorageFull if nothing can be stored; unfinished
    recordings are requeued then, too.
    """
    batch = TranscriptionBatch()
    run = _Run(engine, settings, transcriber, worker, batch)
    died = False
    try:
        for item in claimed:
            if not stop.is_set():
                run.start(item)
        if batch.recordings:
            with _StopWatcher(engine, connection_id, worker, batch, stop, obeys_pause) as watch:
                run.transcribe(watch.stop)
    except PbxError:
        raise
    except Exception as error:  # a bug: fail a single recording; retry several one by one
        log.exception("The speech engine failed.")
        died = True
        run.fail_if_single(f"An unexpected error ended it ({type(error).__name__}); see data/worker.log for details.")
    finally:
        with suppress(PbxError), writing(engine) as session:  # on a full disk, the next transcriber requeues them
            claims.requeue_transcription(session, worker, died=died)
    return batch


@dataclass(frozen=True)
class _Run:
    """The steps of `transcribe_queued`."""

    engine: Engine
    settings: Settings
    transcriber: Transcriber
    worker: str
    batch: TranscriptionBatch

    def start(self, claim: Claim) -> None:
        """Start a recording's transcript, or continue one that was interrupted."""
        path = self.settings.audio_dir / claim.file
        try:
            with path.open("rb") as file:
                audio_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            why = DataError(
                f"The recording's file is no longer in {self.settings.audio_dir} or can't be read: {error.strerror}.",
                "Put it back from a backup, then retry.",
            )
            self.fail(claim, why.advice)
            return
        name, model = self.transcriber.engine, self.transcriber.model
        with writing(self.engine) as session:
            transcript = begin_transcript(session, claim.recording_id, name, model, audio_sha256)
            done_s, language_so_far = transcript.done_s, transcript.language  # 0.0 and "" for a new one
            claims.report_transcribed(session, self.worker, claim.recording_id, done_s, 0.0)
        chosen = self.settings.whisper_language
        language = (language_so_far or None) if chosen == "auto" else chosen
        assert transcript.id is not None  # noqa: S101 - begin_transcript flushed it
        self.batch.recordings.append(
            ClaimedRecording(claim, transcript.id, TranscriptionSource(path, language, done_s))
        )

    def transcribe(self, stop: threading.Event) -> None:
        recordings = self.batch.recordings
        at = time.monotonic()
        for part in self.transcriber.transcribe([item.source for item in recordings], stop):
            item, took_s = recordings[part.source], time.monotonic() - at
            at += took_s
            if item.ended:
                continue
            if part.error is not None:
                item.ended = True
                self.fail(item.claim, part.error.advice)
            else:
                self._store(item, part, took_s)
            if not self.batch.open_recordings:
                return
        if self.batch.open_recordings and not stop.is_set():
            raise RuntimeError("the speech engine ended before its recordings")

    def _store(self, item: ClaimedRecording, part: TranscriptPart, took_s: float) -> None:
        """Store a part and the progress in one commit. With the last part, also analyse the transcript."""
        recording_id = item.claim.recording_id
        with writing(self.engine) as session:
            if not claims.report_transcribed(session, self.worker, recording_id, part.done_s, took_s):
                item.ended = True  # cancelled: the stored parts are kept for the next time
                return
            add_part(session, item.transcript_id, part, item.claim.direction, leg_of(item.claim.name))
            if part.is_last:
                finish_transcript(session, item.transcript_id, part.duration_s)
                self._analyse(session, item.transcript_id, part.duration_s)
                item.ended = True
                claims.complete(session, self.worker, recording_id, part.duration_s)
        if part.is_last:
            self.batch.completed.append(recording_id)

    def _analyse(self, session: Session, transcript_id: int, duration_s: float | None) -> None:
        """Store the local analysis. If there is a language server, its summary is added later."""
        rows = segments_of(session, transcript_id)
        spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
        try:
            found = analyse(spoken, duration_s)
        except Exception:  # a missing summary is better than a missing transcript
            log.exception("Transcript %d could not be analysed.", transcript_id)
            return
        pending = SUMMARY_PENDING if self.settings.analysis_url and self.settings.analysis_model else ""
        save_analysis(session, transcript_id, found.engine, found.to_document(), pending)

    def fail(self, claim: Claim, reason: str) -> None:
        with writing(self.engine) as session:
            claims.fail(session, self.worker, claim.recording_id, reason)
        log.warning("Recording %d could not be transcribed.", claim.recording_id)
        self.batch.failed[claim.recording_id] = reason

    def fail_if_single(self, reason: str) -> None:
        """Fail the only open recording after an engine failure. Does nothing if several could be the cause."""
        if len(self.batch.open_recordings) == 1:
            item = self.batch.open_recordings[0]
            item.ended = True
            self.fail(item.claim, reason)


@dataclass
class _StopWatcher:
    """Sets its `stop` soon after the caller's `stop` is set, a recording is cancelled or transcription is paused."""

    engine: Engine
    connection_id: int
    worker: str
    batch: TranscriptionBatch
    callers_stop: threading.Event
    obeys_pause: bool
    stop: threading.Event = field(default_factory=threading.Event, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="transcription watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        checked_at = time.monotonic()
        while not self._over.wait(0.1):
            if not self.callers_stop.is_set():
                if time.monotonic() - checked_at < STOP_CHECK_S:
                    continue
                checked_at = time.monotonic()
                with suppress(PbxError):  # retry later if the database can't be read
                    if self._should_continue():
                        continue
            self.stop.set()
            return

    def _should_continue(self) -> bool:
        with reading(self.engine) as session:
            claimed = claims.claimed_ids(session, self.worker)
            paused = self.obeys_pause and rules_of(session, self.connection_id).paused
        # Read the batch after the database: a recording that ends is marked in the batch first.
        return not paused and claimed >= {item.claim.recording_id for item in self.batch.open_recordings}
