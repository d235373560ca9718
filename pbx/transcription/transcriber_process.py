"""The transcriber: the process that loads the speech model, transcribes the queue, and ends when idle.

Only one process can hold the lock `transcriber-0`, so only one model is in memory. The process runs at low priority
with few threads, so that pages and syncs go first. Only this process and `python -m pbx transcribe` import speech
engines.
"""

import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import Engine

from pbx.errors import DataError, ModelError, PbxError, SettingsError
from pbx.operating_system import lower_priority, usable_cores
from pbx.process_lock import ProcessLock, try_process_lock
from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber
from pbx.store import transcription_claims as claims
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import now
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.store.transcription_queue import rules_of, set_blocked_reason
from pbx.transcription.batch import transcribe_queued

TRANSCRIBER_SLOT = "transcriber-0"
BATCH = 4  # recordings decoded together, to fill the model's batches
POLL_S = 1.0
IDLE_S = 60.0  # how long to keep the model in memory and wait for more recordings
WAIT_S = 20.0  # how long to wait after a storage error
RETRY = timedelta(minutes=10)  # how long to wait after an error that blocks all transcription
MAX_THREADS = 8  # more threads hardly speed up decoding and slow down the rest of the machine

log = logging.getLogger("pbx.transcriber")

ByteProgress = Callable[[int, int], None]


class StoppedLoading(Exception):
    """The process was stopped while it was downloading a model."""


def load_model(settings: Settings, model: str, progress: ByteProgress | None) -> Transcriber:
    """Load a model with the speech engine in the settings. Raises ModelError, StorageFull or DataError."""
    from pbx.speech.engine import load_transcriber  # imports torch

    return load_transcriber(settings, model, progress)


def limit_threads(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment with thread limits for the numeric libraries; values set by the user are kept.

    On a machine with one or two cores, all are used, at low priority. With more cores, one stays free.
    """
    cores = usable_cores()
    threads = str(cores if cores <= 2 else min(cores - 1, MAX_THREADS))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, threads) | environment


def run_transcriber(settings: Settings, stop: threading.Event, *, once: bool = False) -> None:
    """Transcribe the queue until it has been empty for a minute (with `once`: until it is empty) or `stop` is set.

    Returns immediately if another transcriber is running. Raises DataError if the cache can't be used.
    """
    lock = try_process_lock(settings.pbx_data_dir, TRANSCRIBER_SLOT)
    if lock is None:
        return
    with lock:
        lower_priority()
        engine = open_engine(settings)
        try:
            with writing(engine) as session:
                requeued = claims.requeue_transcription(session, lock.name, died=True)
            for recording_id, state in requeued:
                log.warning("The transcriber of recording %d died; the recording is %s.", recording_id, state)
            QueueWorker(engine, settings, lock, stop).work(idle_s=0.0 if once else IDLE_S)
        finally:
            engine.dispose()


class QueueWorker:
    """Transcribes the queue of the active PBX, with one model in memory at a time.

    `among`: if set, transcribes only these recordings, even when the queue is paused. `model_error` is set if it
    stopped because the model could not be loaded.
    """

    def __init__(self, engine: Engine, settings: Settings, slot: ProcessLock, stop: threading.Event) -> None:
        self._engine = engine
        self._settings = settings
        self._slot = slot
        self._stop = stop
        self._loaded: tuple[str, Transcriber] | None = None
        self.among: Sequence[int] | None = None
        self.model_error: ModelError | None = None

    def work(self, *, idle_s: float) -> None:
        """Transcribe until the queue has been empty for `idle_s` seconds, or the model can't be loaded (`model_error`).

        After a storage error it waits and continues; if `idle_s` is 0, it raises DataError or StorageFull instead.
        """
        idle_since = time.monotonic()
        while not self._stop.is_set() and not self._slot.lost:
            try:
                active = active_connection(self._engine, self._settings)
                if active is not None and self._transcribe_batch(active):
                    idle_since = time.monotonic()
                    continue
            except ModelError as error:
                self.model_error = error
                return
            except DataError as error:  # for example, the disk is full
                if not idle_s:
                    raise
                log.error("%s", error.advice)
                self._stop.wait(WAIT_S)
                idle_since = time.monotonic()
                with suppress(DataError), writing(self._engine) as session:
                    claims.requeue_transcription(session, self._slot.name, died=False)
            if time.monotonic() - idle_since >= idle_s:
                return
            self._stop.wait(POLL_S)

    def _transcribe_batch(self, active: ActiveConnection) -> bool:
        """Transcribe the next few recordings; returns False if there are none.

        Raises ModelError, after storing the reason, if the model in the settings can't be loaded.
        """
        with reading(self._engine) as session:
            rules = rules_of(session, active.id)
            if rules.paused and self.among is None:
                return False
            model = claims.next_model(session, active.id, self.among)
        if model is None:
            return False
        transcriber = self._model(active, model)
        return transcriber is None or self._transcribe_next(active, model, transcriber)

    def _transcribe_next(self, active: ActiveConnection, model: str, transcriber: Transcriber) -> bool:
        with writing(self._engine) as session:
            claimed = claims.claim_recordings(session, active.id, self._slot.name, model, BATCH, self.among)
        if not claimed:
            return False
        started_at = time.monotonic()
        try:
            batch = transcribe_queued(
                self._engine,
                self._settings,
                transcriber,
                claimed,
                connection_id=active.id,
                worker=self._slot.name,
                stop=self._stop,
                obeys_pause=self.among is None,
            )
        except (ModelError, SettingsError) as error:
            self._handle_model_error(active, model, error)
            return True
        took_s = time.monotonic() - started_at
        log.info("%d transcribed, %d failed in %.0f s", len(batch.completed), len(batch.failed), took_s)
        return True

    def _model(self, active: ActiveConnection, model: str) -> Transcriber | None:
        """Return the engine with this model; None if the model can't be loaded and only some recordings request it."""
        name = model or self._settings.whisper_model
        if self._loaded is not None and self._loaded[0] == name:
            return self._loaded[1]
        self._loaded = None  # two models might not fit in memory
        gc.collect()
        log.info("loading the model %s", name)
        self._set_blocked_reason(active, f"The model {name} is being loaded.")
        try:
            self._loaded = (name, load_model(self._settings, model, self._show_download(active, name)))
        except StoppedLoading:
            self._set_blocked_reason(active, "")
            raise ModelError("Transcribing was stopped.") from None
        except PbxError as error:
            self._handle_model_error(active, model, error)
            return None
        self._set_blocked_reason(active, "")
        return self._loaded[1]

    def _handle_model_error(self, active: ActiveConnection, model: str, error: PbxError) -> None:
        """Fail the recordings that request this model. If it is the model in the settings, block the queue instead.

        Raises ModelError if it blocks the queue.
        """
        log.error("%s", error.advice)
        self._loaded = None
        if not model:
            self._set_blocked_reason(active, error.advice, retry=True)
            raise ModelError(str(error), error.fix) from None
        with writing(self._engine) as session:
            claims.fail_queued(session, active.id, model, error.advice)
            set_blocked_reason(session, active.id, "")

    def _set_blocked_reason(self, active: ActiveConnection, reason: str, *, retry: bool = False) -> None:
        with suppress(DataError), writing(self._engine) as session:
            set_blocked_reason(session, active.id, reason, now() + RETRY if retry else None)

    def _show_download(self, active: ActiveConnection, name: str) -> ByteProgress:
        shown_at = time.monotonic()

        def show_progress(done: int, total: int) -> None:
            nonlocal shown_at
            if self._stop.is_set():
                raise StoppedLoading
            if time.monotonic() - shown_at >= POLL_S:
                shown_at = time.monotonic()
                progress_text = f" {done / total:.0%} of {total / 1e6:,.0f} MB" if total else f" {done / 1e6:,.0f} MB"
                self._set_blocked_reason(active, f"The model {name} is being downloaded:{progress_text}.")

        return show_progress
