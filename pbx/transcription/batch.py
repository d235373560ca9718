"""Transcribe claimed recordings with a speech engine, and store the transcripts part by part.

Each part is one commit: a killed process loses only the current part, and the next one continues after the last stored
part. Log lines name recordings by number and never contain speech.
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

STOP_CHECK_S = 1.0  # how often it checks for a pause or a cancellation
SUMMARY_PENDING = "The summary has not been requested from the language server yet."

log = logging.getLogger("pbx.transcribe")

RecordingEnded = Callable[[int, str], None]  # a recording, and "" or why it failed


@dataclass
class ClaimedRecording:
    """A claimed recording that is being transcribed."""

    claim: Claim
    transcript_id: int
    source: TranscriptionSource
    ended: bool = False  # completed, failed, or no longer claimed by this worker


@dataclass
class TranscriptionBatch:
    """The recordings of one call of `transcribe_queued`, and their results."""

    completed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    recordings: list[ClaimedRecording] = field(default_factory=list)

    @property
    def open_recordings(self) -> list[ClaimedRecording]:
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
    ended: RecordingEnded | None = None,
) -> TranscriptionBatch:
    """Transcribe the recordings that `worker` has claimed, until all ended or `stop`, a pause or a cancel interrupts.

    An unreadable recording fails with its reason and affects no other. An interrupted one is queued again and keeps
    what is transcribed. Raises ModelError when the model fails, DataError or StorageFull when nothing can be stored;
    the recordings that haven't ended are queued again then, too.
    """
    batch = TranscriptionBatch()
    run = _Run(engine, settings, transcriber, worker, batch, ended)
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
    except Exception as error:  # a bug: a single recording fails; several are tried again one by one
        log.exception("The speech engine failed.")
        died = True
        run.fail_if_single(f"An unexpected error ended it ({type(error).__name__}); see data/worker.log for details.")
    finally:
        with suppress(PbxError), writing(engine) as session:  # a full disk: the next process to claim requeues them
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

    def start(self, claim: Claim) -> None:
        """Start a recording's transcript, or continue one that was interrupted."""
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
            done_s, language_so_far = transcript.done_s, transcript.language  # of a transcript to continue
            claims.report_done(session, self._worker, claim.recording_id, done_s, 0.0)
        chosen = self._settings.whisper_language
        language = (language_so_far or None) if chosen == "auto" else chosen
        assert transcript.id is not None  # noqa: S101 - it was flushed
        self._batch.recordings.append(
            ClaimedRecording(claim, transcript.id, TranscriptionSource(path, language, done_s))
        )

    def transcribe(self, stop: threading.Event) -> None:
        recordings = self._batch.recordings
        at = time.monotonic()
        for part in self._transcriber.transcribe([item.source for item in recordings], stop):
            item, took_s = recordings[part.source], time.monotonic() - at
            at += took_s
            if item.ended:
                continue
            if part.error is not None:
                item.ended = True
                self.fail(item.claim, part.error.advice)
            else:
                self._store(item, part, took_s)
            if not self._batch.open_recordings:
                return
        if self._batch.open_recordings and not stop.is_set():
            raise RuntimeError("the speech engine ended before its recordings")

    def _store(self, item: ClaimedRecording, part: TranscriptPart, took_s: float) -> None:
        """Store a part and the progress in one commit; with the last part, also the analysis of the transcript."""
        recording_id = item.claim.recording_id
        with writing(self._engine) as session:
            if not claims.report_done(session, self._worker, recording_id, part.done_s, took_s):
                item.ended = True  # cancelled: the parts so far stay for the next time
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
        """Store the local analysis. The language server, if any, writes its summary later."""
        rows = segments_of(session, transcript_id)
        spoken = [SpokenSegment(row.start_s, row.end_s, row.speaker, row.text, row.flags.split()) for row in rows]
        try:
            found = analyse(spoken, duration_s)
        except Exception:  # a missing summary is better than a missing transcript
            log.exception("Transcript %d could not be analysed.", transcript_id)
            return
        pending = SUMMARY_PENDING if self._settings.analysis_url and self._settings.analysis_model else ""
        save_analysis(session, transcript_id, found.engine, found.to_document(), pending)

    def fail(self, claim: Claim, reason: str) -> None:
        with writing(self._engine) as session:
            claims.fail(session, self._worker, claim.recording_id, reason)
        log.warning("Recording %d could not be transcribed.", claim.recording_id)
        self._batch.failed[claim.recording_id] = reason
        if self._ended is not None:
            self._ended(claim.recording_id, reason)

    def fail_if_single(self, reason: str) -> None:
        """Fail the recording if it was the only one when the engine failed; of several, any could be the cause."""
        if len(self._batch.open_recordings) == 1:
            item = self._batch.open_recordings[0]
            item.ended = True
            self.fail(item.claim, reason)


class _StopWatcher:
    """Sets `stop` soon after the caller's `stop` is set, a recording is cancelled, or transcribing is paused."""

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
        self._callers_stop = stop
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
        checked_at = time.monotonic()
        while not self._over.wait(0.1):
            if not self._callers_stop.is_set():
                if time.monotonic() - checked_at < STOP_CHECK_S:
                    continue
                checked_at = time.monotonic()
                with suppress(PbxError):  # try again if the database can't be read now
                    if self._should_continue():
                        continue
            self.stop.set()
            return

    def _should_continue(self) -> bool:
        with reading(self._engine) as session:
            claimed = claims.still_claimed(session, self._worker)
            paused = self._obeys_pause and rules_of(session, self._connection_id).paused
        # Read the batch after the database: a recording that ends is marked in the batch first.
        return not paused and claimed >= {item.claim.recording_id for item in self._batch.open_recordings}
