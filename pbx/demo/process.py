"""The demo's process: prepares its folder, serves its PBX on loopback, and keeps a worker at work on it.

It ends when it is told to, when the demo is left (its mark is gone), or when whoever started it is gone. Killed, it
leaves a folder from which the next one goes on; its worker ends by itself.
"""

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

from pbx.demo.lifecycle import PROGRESS, SLOT, demo_place, reap, remove_folder, was_left
from pbx.demo.past import fill_gaps, fill_past, story_version
from pbx.demo.pbx import DemoPbx
from pbx.demo.recording_dir import RecordingDir
from pbx.errors import DataError, PbxError
from pbx.jobs.worker import run_inline
from pbx.machine import replace_file, stop_child
from pbx.process_lock import try_process_lock
from pbx.settings import DEMO_MARK, DEMO_PBX, Settings, demo_mark, demo_settings
from pbx.store.engine import open_engine
from pbx.store.job_queue import needed_connection
from pbx.store.models import JobKind

PAST = timedelta(days=30)
FIRST = timedelta(days=8)  # written before the demo is shown: what the pages ask for first
LOOK_S = 0.2
GAPS_S = 30.0  # how often it is looked for time in which nobody listened
AGAIN_S = 2.0  # before a worker that has died is started again
END_S = 12.0  # a worker stops in eight seconds at most

log = logging.getLogger("pbx.demo")


class _Left(Exception):
    """The demo was left while it was being prepared."""


def run_demo(
    settings: Settings,
    stop: threading.Event,
    *,
    ready: Callable[[int, int], None] = lambda ami_port, ari_port: None,
) -> None:
    """Be the demo of this data directory until `stop` is set or the demo is left. `ready` is told of the PBX's ports.

    Raises DataError while another process is it, or when the directory can't be written.
    """
    held = try_process_lock(settings.home_dir, SLOT)
    if held is None:
        raise DataError(
            "The demo runs already.", "Open the app to see it. It ends with whoever started it, or when it is removed."
        )
    folder = demo_place(settings)
    with held:
        try:
            _House(settings, folder, stop).run(ready)
        except _Left:
            remove_folder(folder)
        except BaseException as error:
            if not demo_mark(folder) and folder.exists():
                why = error.advice if isinstance(error, PbxError) else f"An unexpected error ended it ({error!r})."
                _write(folder / PROGRESS, json.dumps({"fault": why}))
            raise


class _House:
    def __init__(self, settings: Settings, folder: Path, stop: threading.Event) -> None:
        self._real, self._folder, self._stop = settings, folder, stop
        self._mark = ""
        self._worker: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def run(self, ready: Callable[[int, int], None]) -> None:
        self._clean()
        with DemoPbx() as pbx:
            reached = pbx.connection()
            _write(
                self._folder / DEMO_PBX,
                _as_json(
                    reached.ami_port, reached.ari_port, reached.ami_username, reached.ami_password.get_secret_value()
                ),
            )
            settings = demo_settings(self._real, self._folder, self._mark or "preparing")
            engine = open_engine(settings)
            try:
                self._prepare(engine, settings)
                ready(reached.ami_port, reached.ari_port)
                self._live(engine, needed_connection(engine, settings).id, pbx.recordings)
            finally:
                self._end_worker()
                engine.dispose()
                (self._folder / DEMO_PBX).unlink(missing_ok=True)
        if not demo_mark(self._folder):
            remove_folder(self._folder)

    def _clean(self) -> None:
        """A folder to begin with: the one that was left well, or an empty one."""
        self._mark = demo_mark(self._folder)
        if not self._mark.startswith(f"{story_version()}-"):
            remove_folder(self._folder)
            self._mark = ""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._folder / DEMO_PBX).unlink(missing_ok=True)

    def _prepare(self, engine: Engine, settings: Settings) -> None:
        """Write what is missing up to now, and set the mark; what lies further back may follow."""
        now, connection_id = datetime.now(UTC), needed_connection(engine, settings).id
        if self._mark:
            fill_gaps(engine, connection_id, now - PAST, now)
        else:
            self._tell(0.0)
            fill_past(engine, connection_id, now - FIRST, now, self._tell)
        kinds: tuple[JobKind, ...] = ("collect", "sync")
        for kind in kinds:
            with suppress(PbxError):  # the worker does so too, some seconds later
                run_inline(engine, settings, kind, {})
        if not self._mark:
            self._mark = f"{story_version()}-{secrets.token_hex(8)}"
            _write(self._folder / DEMO_MARK, self._mark)
            (self._folder / PROGRESS).unlink(missing_ok=True)

    def _tell(self, done: float) -> None:
        if self._over:
            raise _Left
        _write(self._folder / PROGRESS, json.dumps({"done": round(done, 3)}))

    @property
    def _over(self) -> bool:
        """Whether it was told to end, or the demo was left."""
        return self._stop.is_set() or was_left(self._real)

    def _live(self, engine: Engine, connection_id: int, recordings: RecordingDir) -> None:
        looked_at = -GAPS_S
        while not self._over and demo_mark(self._folder):
            self._keep_worker()
            recordings.add_ended_calls(datetime.now(UTC))
            if time.monotonic() - looked_at >= GAPS_S:
                self._fix(engine, connection_id)
                looked_at = time.monotonic()
            self._stop.wait(LOOK_S)

    def _fix(self, engine: Engine, connection_id: int) -> None:
        """Take from the story what nobody listened to: days further back, a worker's absence."""
        now = datetime.now(UTC)
        try:
            fill_gaps(engine, connection_id, now - PAST, now, live=True, going_on=lambda: not self._over)
        except PbxError as error:
            log.warning("%s", error.advice)

    def _keep_worker(self) -> None:
        if self._worker is not None and self._worker.poll() is None:
            return
        self._reap()
        if time.monotonic() - self._started_at < AGAIN_S:
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

    def _end_worker(self) -> None:
        if self._worker is None:
            return
        stop_child(self._worker, END_S)
        self._worker = None

    def _reap(self) -> None:
        if self._worker is not None:
            reap(self._worker)
            self._worker = None


def _as_json(ami_port: int, ari_port: int, username: str, password: str) -> str:
    return json.dumps({"ami_port": ami_port, "ari_port": ari_port, "username": username, "password": password})


def _write(path: Path, text: str) -> None:
    """Write a file that only this user reads, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    replace_file(part, path)
