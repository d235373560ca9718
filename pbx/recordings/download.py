"""The downloads of a sync: several in parallel, with results stored in batches.

A file gets its final name only when it is complete.
"""

import queue
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from pbx.asterisk.ari.client import AriClient, removed_on_error, storage_error
from pbx.asterisk.formats.recording_files import FileCheck, check_recording, stored_path
from pbx.errors import AriError, AriLoginError, DataError, PbxError, StorageFull, Unreachable
from pbx.formatting import size_text
from pbx.operating_system import replace_file
from pbx.speech.audio import probe_audio
from pbx.store import recordings
from pbx.store.engine import writing
from pbx.store.models import now
from pbx.store.recordings import DownloadResult, PendingDownload

BATCH = 100  # recordings per commit
BATCH_S = 2.0  # seconds between two commits, at most


@dataclass(frozen=True)
class Room:
    """Limits on downloads: the largest size of a recording, and the disk space to leave free."""

    largest_bytes: int = 1_000_000_000
    least_free_bytes: int = 500_000_000


DEFAULT_ROOM = Room()


class _RecordingTooLarge(Exception):
    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


class Download:
    """Downloads recordings with `parallel` threads. Only the thread that calls `run` writes to the database.

    If the process is killed, every file with a final name is complete. Files not stored in the database yet are
    downloaded again under the same name.
    """

    def __init__(
        self,
        engine: Engine,
        client: AriClient,
        connection_id: int,
        audio_dir: Path,
        parallel: int,
        progress: Callable[[int, int | None], None] | None,
        stop: threading.Event | None,
        room: Room,
    ) -> None:
        self._engine = engine
        self._client = client
        self._connection_id = connection_id
        self._audio_dir = audio_dir
        self._parts_dir = audio_dir / str(connection_id) / ".parts"
        self._parallel = parallel
        self._progress = progress
        self._stop = stop or threading.Event()
        self._room = room
        self._lock = threading.Lock()
        self._expected: dict[int, int] = {}  # {recording id: bytes still to arrive}
        self._todo: queue.SimpleQueue[PendingDownload | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[PendingDownload, DownloadResult | PbxError]] = queue.SimpleQueue()
        self._outcomes: list[DownloadResult] = []
        self._interrupted_in_a_row = 0  # interrupted transfers without a successful one in between
        self._fatal: PbxError | None = None
        self.states: Counter[str] = Counter()
        self.failed: dict[str, str] = {}  # {name: reason and what to do}

    def run(self, wanted: Sequence[PendingDownload]) -> None:
        """Download all recordings, or until stopped.

        Raises the error that ends the sync, after the complete downloads are stored.
        """
        self._clear_parts()
        threads = [threading.Thread(target=self._work, name=f"sync-{n}", daemon=True) for n in range(self._parallel)]
        for thread in threads:
            thread.start()
        try:
            self._collect(wanted)
        finally:
            self._client.cancel()
            for _ in threads:
                self._todo.put(None)
            for thread in threads:
                thread.join()
        if self._fatal is not None:
            raise self._fatal

    def _clear_parts(self) -> None:
        """Delete the partial files of a killed sync. No other sync uses this directory."""
        try:
            self._parts_dir.mkdir(parents=True, exist_ok=True)
            for part in self._parts_dir.iterdir():
                part.unlink()
        except OSError as error:
            raise storage_error(error, self._parts_dir) from error

    def _collect(self, wanted: Sequence[PendingDownload]) -> None:
        """Hand out work up to two batches ahead, collect the results, and store them batch by batch."""
        total = len(wanted)
        handed_out = done = 0
        stored_at = time.monotonic()
        self._report(0, total)
        while done < handed_out or (handed_out < total and not self._is_ending):
            if not self._is_ending and handed_out - done <= BATCH and handed_out < total:
                batch = wanted[handed_out : handed_out + BATCH]
                self._store([item.id for item in batch])
                stored_at = time.monotonic()
                for item in batch:
                    self._todo.put(item)
                handed_out += len(batch)
                self._report(done, total)
            with suppress(queue.Empty):
                self._receive(*self._done.get(timeout=0.2))
                done += 1
            if self._is_ending:
                self._client.cancel()
                handed_out -= self._withdraw_queued()
            if self._outcomes and time.monotonic() - stored_at > BATCH_S:
                self._store([])
                stored_at = time.monotonic()
                self._report(done, total)
        self._store([])
        self._report(done, total)

    @property
    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._fatal is not None

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _store(self, starting: Sequence[int]) -> None:
        """In one commit, store the results so far and mark the recordings that are downloaded next."""
        if not self._outcomes and not starting:
            return
        with writing(self._engine) as session:
            recordings.store_outcomes(session, self._outcomes)
            if starting:
                recordings.mark_downloading(session, starting)
        self._outcomes = []

    def _withdraw_queued(self) -> int:
        taken = 0
        with suppress(queue.Empty):
            while True:
                self._todo.get_nowait()
                taken += 1
        return taken

    def _receive(self, item: PendingDownload, outcome: DownloadResult | PbxError) -> None:
        if isinstance(outcome, DownloadResult):
            self._interrupted_in_a_row = 0
            self._outcomes.append(outcome)
            self.states[outcome.state] += 1
        elif isinstance(outcome, AriLoginError | DataError):
            self._fatal = self._fatal or outcome
        elif not self._is_ending:  # an intentional interruption is not a failure
            self._fail(item, outcome)

    def _fail(self, item: PendingDownload, error: PbxError) -> None:
        self._outcomes.append(DownloadResult(item.id, "failed", error.advice))
        self.states["failed"] += 1
        self.failed[item.name] = error.advice
        self._interrupted_in_a_row = self._interrupted_in_a_row + 1 if isinstance(error, Unreachable) else 0
        if self._interrupted_in_a_row < 2 * self._parallel:
            return
        self._interrupted_in_a_row = 0
        try:
            self._client.channels()  # raises if the PBX is unreachable; trying thousands of recordings would take days
        except PbxError as away:
            self._fatal = away

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            outcome: DownloadResult | PbxError
            try:
                outcome = self._fetch(item)
            except (AriError, Unreachable, DataError) as error:
                outcome = error
            except Exception as error:  # a bug must end the sync with an error, not make it hang
                outcome = DataError(f"{item.name} made the sync fail: {error!r}.", "Please report this.")
            self._done.put((item, outcome))

    def _fetch(self, item: PendingDownload) -> DownloadResult:
        """Download a recording, check it, and give it its final name if it is complete. Raises PbxError."""
        part = self._parts_dir / str(item.id)
        try:
            with removed_on_error(part):
                with self._expecting(item), part.open("w+b") as file:
                    size_bytes = self._client.fetch(item.name, file, partial(self._accept, item))
                    file.seek(0)
                    finding = check_recording(file, size_bytes, item.format)
                finding = _decoded(part, finding, item)
                if finding.state == "downloaded":
                    path = stored_path(self._connection_id, item.name, finding.suffix)
                    self._keep(part, path)
                else:
                    part.unlink()
        except _RecordingTooLarge as error:
            return DownloadResult(item.id, "too_large", self._too_large(error.size_bytes), size_bytes=error.size_bytes)
        if finding.state == "downloaded":
            return DownloadResult(item.id, "downloaded", "", path, size_bytes, finding.duration_s, now())
        if finding.state == "waiting" and not item.young:
            reason = "Its header was never finished: Asterisk ended while it was being written."
            return DownloadResult(item.id, "unreadable", reason, size_bytes=size_bytes)
        return DownloadResult(item.id, finding.state, finding.reason, size_bytes=size_bytes)

    @contextmanager
    def _expecting(self, item: PendingDownload) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._expected.pop(item.id, None)

    def _accept(self, item: PendingDownload, size_bytes: int) -> None:
        """Reserve disk space for a recording before its download. Raises _RecordingTooLarge or StorageFull."""
        if size_bytes > self._room.largest_bytes:
            raise _RecordingTooLarge(size_bytes)
        with self._lock:
            self._expected[item.id] = size_bytes
            free_bytes = shutil.disk_usage(self._parts_dir).free
            if free_bytes - sum(self._expected.values()) >= self._room.least_free_bytes:
                return
        reserved = size_text(self._room.least_free_bytes)
        raise StorageFull(
            f"Not enough disk space for recordings in {self._audio_dir}: {size_text(free_bytes)} free.",
            f"Free disk space, then sync again. Downloads leave {reserved} free (PBX_LEAST_FREE_MB). "
            "Recordings already downloaded are kept.",
        )

    def _too_large(self, size_bytes: int) -> str:
        return (
            f"It is {size_text(size_bytes)}; the limit is {size_text(self._room.largest_bytes)}. Raise "
            "FREEPBX_LARGEST_RECORDING_MB to download it."
        )

    def _keep(self, part: Path, path: str) -> None:
        target = self._audio_dir / path
        try:
            replace_file(part, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(part, target)


def _decoded(part: Path, finding: FileCheck, item: PendingDownload) -> FileCheck:
    """Decode a file whose header gives no duration. Returns `finding` unchanged if it can't be decoded.

    Programs that convert recordings keep the file name, so an MP3 named .wav is accepted too. A recent file that is
    shorter than its header claims isn't decoded, because it may still be growing.
    """
    if finding.duration_s is not None or finding.state not in ("downloaded", "unreadable"):
        return finding
    if finding.cut_short and item.young:
        return finding
    try:
        facts = probe_audio(part)
    except DataError:
        return finding
    return FileCheck("downloaded", duration_s=round(facts.duration_s, 3), suffix=facts.container)
