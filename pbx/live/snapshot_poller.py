"""Takes snapshots of the PBX over the listener's connection, so that live pages only read the cache.

A snapshot is taken soon after an event that changes what a page shows, at most once a second, and rarely while nothing
happens.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Engine

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.ami.values import decimal
from pbx.errors import PbxError
from pbx.model.snapshot import Snapshot, Trunk
from pbx.store.engine import writing
from pbx.store.snapshots import store_latest, store_trunk_changes

GATHERING_S = 0.1  # wait for events that follow immediately, so that one snapshot shows them all
MIN_INTERVAL_S = 1.0  # shortest time between two snapshots
BUSY_INTERVAL_S = 2.0  # time between snapshots while callers wait or talk
QUIET_INTERVAL_S = 10.0  # time between snapshots while nothing happens
CLOCK_INTERVAL_S = 30.0  # how often the PBX's clock is read
REST_FACTOR = 10  # snapshots may take at most one part in this many of the PBX's time

log = logging.getLogger("pbx.watch")


class SnapshotPoller:
    """Takes snapshots on its own thread until it is closed. `receive` is called with each one, on that thread."""

    def __init__(
        self, engine: Engine, connection_id: int, client: AmiClient, receive: Callable[[Snapshot], None]
    ) -> None:
        self.taken = 0
        self.clock_ahead_s: float | None = None  # of the PBX's clock, see `pbx_clock_s`; None while unknown
        self._engine, self._connection_id, self._client, self._receive = engine, connection_id, client, receive
        self._trunks: dict[str, str] | None = None  # states in the previous snapshot
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._device_at: datetime | None = None
        self._clock_due_at = time.monotonic() + CLOCK_INTERVAL_S
        self._logged = ""
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Start to take snapshots."""
        self._thread.start()

    def wake(self, *, device_at: datetime | None = None) -> None:
        """Take a snapshot soon, because something changed. `device_at`: when a trunk or phone changed its state."""
        if device_at is not None:
            self._device_at = device_at
        self._changed.set()

    def close(self) -> None:
        """Stop taking snapshots."""
        self._stop.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def poll(self) -> Snapshot:
        """Take a snapshot and store it as the newest. Raises Unreachable, Deadline, DataError."""
        device_at, self._device_at = self._device_at, None
        snapshot = take_snapshot(self._client)
        self._receive(snapshot)
        changed = self._changes(snapshot)
        with writing(self._engine) as session:
            store_latest(session, self._connection_id, snapshot)
            if changed:
                at = min(device_at or snapshot.taken_at, snapshot.taken_at)
                store_trunk_changes(session, self._connection_id, at, changed)
        self.taken += 1
        return snapshot

    def _changes(self, snapshot: Snapshot) -> Sequence[Trunk]:
        """The trunks whose state differs from the previous snapshot."""
        if "trunks" not in snapshot.parts or snapshot.parts["trunks"].state != "ok":
            return ()
        before, self._trunks = self._trunks, {trunk.name: trunk.state for trunk in snapshot.trunks}
        if before is None:
            return ()
        return [trunk for trunk in snapshot.trunks if before.get(trunk.name) != trunk.state]

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stop.is_set():
            if self._changed.wait(wait_s):
                self._stop.wait(GATHERING_S)
                self._changed.clear()
            if self._stop.is_set():
                return
            begun = time.monotonic()
            try:
                snapshot = self.poll()
                self._read_clock()
            except PbxError as error:
                self._log_once(error.advice)
                wait_s, rest_s = QUIET_INTERVAL_S, MIN_INTERVAL_S
            except Exception as error:  # a bug must not freeze what the pages show
                self._log_once(f"An unexpected error: {error!r}", traceback=True)
                wait_s, rest_s = QUIET_INTERVAL_S, MIN_INTERVAL_S
            else:
                self._log_once("")
                busy = snapshot.active_calls or any(queue.calls for queue in snapshot.queues)
                wait_s = BUSY_INTERVAL_S if busy else QUIET_INTERVAL_S
                rest_s = max(MIN_INTERVAL_S - (time.monotonic() - begun), REST_FACTOR * snapshot.took_ms / 1000)
            self._stop.wait(rest_s)
            wait_s = max(wait_s - rest_s, 0.0)

    def _read_clock(self) -> None:
        if time.monotonic() >= self._clock_due_at:
            self.clock_ahead_s = pbx_clock_s(self._client)
            self._clock_due_at = time.monotonic() + CLOCK_INTERVAL_S

    def _log_once(self, text: str, *, traceback: bool = False) -> None:
        if text and text != self._logged:
            log.warning("The PBX's state could not be read. %s", text, exc_info=traceback)
        self._logged = text


def pbx_clock_s(client: AmiClient) -> float | None:
    """By how many seconds the PBX's clock is ahead of this machine's; None where Getvar can't read it."""
    before = datetime.now(UTC)
    try:
        reply = client.submit("Getvar", [("Variable", "STRFTIME(,,%s.%3q)")], deadline_s=5).result()
    except PbxError:
        return None
    epoch_s = decimal(reply.response.get("Value"))
    if not epoch_s or epoch_s < 0:  # empty, or not a time
        return None
    after = datetime.now(UTC)
    return epoch_s - (before.timestamp() + after.timestamp()) / 2
