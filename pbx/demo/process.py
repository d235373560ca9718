"""The demo's process: prepares its folder, serves its PBX on loopback, and keeps a worker running on it.

It ends when it is stopped, when the demo is removed, or when the process that started it ends. If it is killed, its
worker ends too, and the next process continues with the same folder.
"""

import gc
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from pbx.demo.demo_pbx import DemoPbx
from pbx.demo.lifecycle import PROGRESS, SLOT, demo_dir, reap, remove_folder, was_removed
from pbx.demo.recording_dir import RecordingDir
from pbx.demo.write_history import fill_gaps, history_version, write_history
from pbx.errors import DataError, PbxError
from pbx.jobs.worker import run_inline
from pbx.operating_system import replace_file, stop_child
from pbx.process_lock import try_process_lock
from pbx.settings import DEMO_MARK, DEMO_PBX, Settings, demo_mark, demo_settings
from pbx.store.engine import open_engine
from pbx.store.job_queue import required_connection
from pbx.store.models import JobKind

HISTORY_LENGTH = timedelta(days=30)
FIRST_HISTORY_LENGTH = timedelta(days=8)  # written before the demo opens: the days that the pages show first
POLL_S = 0.2
FILL_GAPS_EVERY_S = 30.0
RESTART_WORKER_AFTER_S = 2.0
STOP_WORKER_WITHIN_S = 12.0  # a worker stops in eight seconds at most

log = logging.getLogger("pbx.demo")


class _Stopped(Exception):
    """The demo was stopped or removed while it was being prepared."""


def run_demo(
    settings: Settings,
    stop: threading.Event,
    *,
    ready: Callable[[int, int], None] = lambda ami_port, ari_port: None,
) -> None:
    """Run the demo of this data directory until `stop` is set or the demo is removed. Calls `ready` with the ports.

    Raises DataError if the demo is already running, or the directory can't be written.
    """
    lock = try_process_lock(settings.home_dir, SLOT)
    if lock is None:
        raise DataError(
            "The demo is already running.",
            "Open the app to see it. It ends with the process that started it, or when you remove it.",
        )
    folder = demo_dir(settings)
    with lock:
        try:
            _DemoProcess(settings, folder, stop).run(ready)
        except _Stopped:
            remove_folder(folder)
        except BaseException as error:
            if not demo_mark(folder) and folder.exists():
                text = error.advice if isinstance(error, PbxError) else f"An unexpected error ended it ({error!r})."
                _write(folder / PROGRESS, json.dumps({"error": text}))
            raise


class _DemoProcess:
    """The running demo: its PBX, its cache and the worker."""

    def __init__(self, settings: Settings, folder: Path, stop: threading.Event) -> None:
        self._settings, self._folder, self._stop = settings, folder, stop
        self._mark = ""
        self._worker: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def run(self, ready: Callable[[int, int], None]) -> None:
        """Run the demo until it should stop, and delete its folder if it was removed."""
        self._prepare_folder()
        with DemoPbx() as pbx:
            _write(self._folder / DEMO_PBX, _connection_json(pbx))
            settings = demo_settings(self._settings, self._folder, self._mark or "preparing")
            engine = open_engine(settings)
            try:
                self._write_first_history(engine, settings)
                ready(pbx.ami_port, pbx.ari_port)
                self._keep_running(engine, required_connection(engine, settings).id, pbx.recordings)
            finally:
                self._stop_worker()
                engine.dispose()
                (self._folder / DEMO_PBX).unlink(missing_ok=True)
        if not demo_mark(self._folder):
            remove_folder(self._folder)

    def _prepare_folder(self) -> None:
        """Keep a complete demo with the current history; replace any other folder with an empty one."""
        self._mark = demo_mark(self._folder)
        if not self._mark.startswith(f"{history_version()}-"):
            remove_folder(self._folder)
            self._mark = ""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / DEMO_PBX).unlink(missing_ok=True)

    def _write_first_history(self, engine: Engine, settings: Settings) -> None:
        """Write the missing history of the last days, then the mark. Earlier days follow while the demo runs."""
        gc.collect()
        gc.freeze()  # the collector needn't visit imported modules while the history is written
        now, connection_id = datetime.now(UTC), required_connection(engine, settings).id
        if self._mark:
            fill_gaps(engine, connection_id, now - HISTORY_LENGTH, now)
        else:
            self._report_progress(0.0)
            write_history(engine, connection_id, now - FIRST_HISTORY_LENGTH, now, self._report_progress)
        kinds: tuple[JobKind, ...] = ("collect", "sync")
        for kind in kinds:
            with suppress(PbxError):  # the worker repeats it some seconds later
                run_inline(engine, settings, kind, {})
        if not self._mark:
            self._mark = f"{history_version()}-{secrets.token_hex(8)}"
            _write(self._folder / DEMO_MARK, self._mark)
            (self._folder / PROGRESS).unlink(missing_ok=True)

    def _report_progress(self, share: float) -> None:
        if self._should_stop:
            raise _Stopped
        _write(self._folder / PROGRESS, json.dumps({"share": round(share, 3)}))

    @property
    def _should_stop(self) -> bool:
        return self._stop.is_set() or was_removed(self._settings)

    def _keep_running(self, engine: Engine, connection_id: int, recordings: RecordingDir) -> None:
        filled_at = -FILL_GAPS_EVERY_S
        while not self._should_stop and demo_mark(self._folder):
            self._ensure_worker()
            recordings.add_ended_calls(datetime.now(UTC))
            if time.monotonic() - filled_at >= FILL_GAPS_EVERY_S:
                self._fill_gaps(engine, connection_id)
                filled_at = time.monotonic()
            self._stop.wait(POLL_S)

    def _fill_gaps(self, engine: Engine, connection_id: int) -> None:
        """Write the history of times when no worker listened: earlier days, and while the worker was away."""
        now = datetime.now(UTC)
        try:
            fill_gaps(engine, connection_id, now - HISTORY_LENGTH, now, live=True, go_on=lambda: not self._should_stop)
        except PbxError as error:
            log.warning("%s", error.advice)

    def _ensure_worker(self) -> None:
        if self._worker is not None and self._worker.poll() is None:
            return
        self._reap()
        if time.monotonic() - self._started_at < RESTART_WORKER_AFTER_S:
            return
        self._started_at = time.monotonic()
        with (self._folder / "worker.log").open("ab") as output:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "pbx", "worker", "--with-parent"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=os.environ | {"PBX_DATA_DIR": str(self._folder.resolve())},
            )

    def _stop_worker(self) -> None:
        if self._worker is None:
            return
        stop_child(self._worker, STOP_WORKER_WITHIN_S)
        self._worker = None

    def _reap(self) -> None:
        if self._worker is not None:
            reap(self._worker)
            self._worker = None


def _connection_json(pbx: DemoPbx) -> str:
    ports = {"ami_port": pbx.ami_port, "ari_port": pbx.ari_port}
    return json.dumps(ports | {"username": pbx.username, "password": pbx.password})


def _write(path: Path, text: str) -> None:
    """Write a file completely or not at all, readable by this user only."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    replace_file(part, path)
