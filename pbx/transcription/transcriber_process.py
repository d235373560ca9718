"""The transcriber: the process that holds the speech model, works the queue off, and ends when nothing comes.

One process has the slot `transcriber-0`, so one model is in memory. It is niced and its threads are limited: pages and
syncs go first. Only here, and in what the command line does itself, are speech engines imported.
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
from pbx.machine import lower_priority, usable_cores
from pbx.process_lock import ProcessLock, try_process_lock
from pbx.settings import Settings
from pbx.speech.transcriber import Transcriber
from pbx.store import transcription_claims as claims
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import open_engine, reading, writing
from pbx.store.models import now
from pbx.store.transcription_queue import rules_of, set_blocked_reason
from pbx.transcription.batch import RecordingEnded, transcribe_queued

SLOT = "transcriber-0"
BATCH = 4  # recordings decoded together, so that windows fill batches
LOOK_S = 1.0
IDLE_S = 60.0  # so long it waits for more with the model in memory
WAIT_S = 20.0  # before a cache that can't be written is tried again
RETRY = timedelta(minutes=10)  # after which what hinders is tried again by itself
MOST_THREADS = 8  # more help decoding little and take the machine from others

log = logging.getLogger("pbx.transcriber")

ByteProgress = Callable[[int, int], None]


class StoppedLoading(Exception):
    """It was told to stop while the model was being fetched."""


def load(settings: Settings, model: str, progress: ByteProgress | None) -> Transcriber:
    """The speech engine that the settings choose, with its model. Raises ModelError, StorageFull, DataError."""
    from pbx.speech.engine import load_transcriber  # torch comes with it

    return load_transcriber(settings, model, progress)


def limit_threads(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which the number libraries start few threads; what the user set in it stays.

    On one or two cores all are used (it is niced); of more, one stays free.
    """
    cores = usable_cores()
    threads = str(cores if cores <= 2 else min(cores - 1, MOST_THREADS))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, threads) | environment


def run_transcriber(settings: Settings, stop: threading.Event, *, once: bool = False) -> None:
    """Transcribe what is queued until nothing came for a while (`once`: until nothing is queued), or `stop`.

    Returns at once when another process does it. Raises DataError when the cache can't be used.
    """
    held = try_process_lock(settings.pbx_data_dir, SLOT)
    if held is None:
        return
    with held:
        lower_priority()
        engine = open_engine(settings)
        try:
            with writing(engine) as session:
                left = claims.requeue_transcription(session, held.name, died=True)
            for recording_id, state in left:
                log.warning("recording %d was left by a transcriber that died; %s", recording_id, state)
            QueueWorker(engine, settings, held, stop).work(idle_s=0.0 if once else IDLE_S)
        finally:
            engine.dispose()


class QueueWorker:
    """Works the queue of the PBX in use off, with one model in memory at a time.

    `among`: of these recordings only, paused or not. `ended` hears how each ended, `hindered` is why it gave up.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        slot: ProcessLock,
        stop: threading.Event,
        *,
        ended: RecordingEnded | None = None,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._slot = slot
        self._stop = stop
        self._ended = ended
        self._loaded: tuple[str, Transcriber] | None = None
        self.among: Sequence[int] | None = None
        self.hindered: ModelError | None = None

    def work(self, *, idle_s: float) -> None:
        """Go on until nothing was queued for `idle_s`, or a model can't be had: the queue then says so.

        What can't be stored is waited for, unless `idle_s` is 0: raises DataError or StorageFull then.
        """
        idle_since = time.monotonic()
        while not self._stop.is_set() and not self._slot.lost:
            try:
                active = active_connection(self._engine, self._settings)
                if active is not None and self._do_next(active):
                    idle_since = time.monotonic()
                    continue
            except ModelError as error:
                self.hindered = error
                return
            except DataError as error:  # a full disk, say
                if not idle_s:
                    raise
                log.error("%s", error.advice)
                self._stop.wait(WAIT_S)
                idle_since = time.monotonic()
                with suppress(DataError), writing(self._engine) as session:
                    claims.requeue_transcription(session, self._slot.name, died=False)
            if time.monotonic() - idle_since >= idle_s:
                return
            self._stop.wait(LOOK_S)

    def _do_next(self, active: ActiveConnection) -> bool:
        """Transcribe the next few recordings, and return whether there were any.

        Raises ModelError, once the queue says so, when no model can be had that all of it needs.
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
        begun_at = time.monotonic()
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
                ended=self._ended,
            )
        except (ModelError, SettingsError) as error:
            self._hinder(active, model, error)
            return True
        took_s = time.monotonic() - begun_at
        log.info("%d transcribed, %d failed in %.0f s", len(batch.completed), len(batch.failed), took_s)
        return True

    def _model(self, active: ActiveConnection, model: str) -> Transcriber | None:
        """The engine with this model; None when it can't be had and only those that asked for it need it."""
        name = model or self._settings.whisper_model
        if self._loaded is not None and self._loaded[0] == name:
            return self._loaded[1]
        self._loaded = None  # two models at once may be more than there is memory for
        gc.collect()
        log.info("loading the model %s", name)
        self._say(active, f"The model {name} is being loaded.")
        try:
            self._loaded = (name, load(self._settings, model, self._download_shown(active, name)))
        except StoppedLoading:
            self._say(active, "")
            raise ModelError("It was told to stop.") from None
        except PbxError as error:
            self._hinder(active, model, error)
            return None
        self._say(active, "")
        return self._loaded[1]

    def _hinder(self, active: ActiveConnection, model: str, error: PbxError) -> None:
        """What asked for a model that can't be had fails; when it is the settings' own, all waits for it."""
        log.error("%s", error.advice)
        self._loaded = None
        if not model:
            self._say(active, error.advice, retry=True)
            raise ModelError(str(error), error.fix) from None
        with writing(self._engine) as session:
            failed = claims.fail_queued(session, active.id, model, error.advice)
            set_blocked_reason(session, active.id, "")
        for recording_id in failed:
            if self._ended is not None:
                self._ended(recording_id, error.advice)

    def _say(self, active: ActiveConnection, why: str, *, retry: bool = False) -> None:
        with suppress(DataError), writing(self._engine) as session:
            set_blocked_reason(session, active.id, why, now() + RETRY if retry else None)

    def _download_shown(self, active: ActiveConnection, name: str) -> ByteProgress:
        said_at = time.monotonic()

        def show(done: int, total: int) -> None:
            nonlocal said_at
            if self._stop.is_set():
                raise StoppedLoading
            if time.monotonic() - said_at >= LOOK_S:
                said_at = time.monotonic()
                part = f" {done / total:.0%} of {total / 1e6:,.0f} MB" if total else f" {done / 1e6:,.0f} MB"
                self._say(active, f"The model {name} is being downloaded:{part}.")

        return show
