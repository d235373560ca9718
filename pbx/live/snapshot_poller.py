"""Looks at the whole PBX over the listener's own connection, so that live pages only have to read.

A look is taken soon after something happened that a page shows, at most once a second, and seldom while all is quiet.
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

GATHER_S = 0.1  # what follows an event at once is seen with it
EVERY_S = 1.0  # at most
BUSY_S = 2.0  # while callers wait or talk: their times go on without an event
QUIET_S = 10.0
CLOCK_S = 30.0  # how often the PBX is asked what its clock shows
SHARE = 10  # of its time a PBX spends at most this part with our looks

log = logging.getLogger("pbx.watch")


class SnapshotPoller:
    """Takes looks on a thread of its own until closed. `seen` is called with each, on that thread."""

    def __init__(self, engine: Engine, connection_id: int, client: AmiClient, seen: Callable[[Snapshot], None]) -> None:
        self.taken = 0
        self.ahead_s: float | None = None  # the PBX's clock, as it was found last; None before, or if it can't be asked
        self._engine, self._connection_id, self._client, self._seen = engine, connection_id, client, seen
        self._trunks: dict[str, str] | None = None  # states at the look before
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._device_at: datetime | None = None
        self._clock_due_at = time.monotonic() + CLOCK_S
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="looks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self, *, device_at: datetime | None = None) -> None:
        """Something that a page shows has changed; `device_at`: a trunk or a phone has, at that moment."""
        if device_at is not None:
            self._device_at = device_at
        self._changed.set()

    def close(self) -> None:
        self._stop.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def look(self) -> Snapshot:
        """Take one look and store it as the newest. Raises Unreachable, Deadline, DataError."""
        device_at, self._device_at = self._device_at, None
        snapshot = take_snapshot(self._client)
        self._seen(snapshot)
        changed = self._changes(snapshot)
        with writing(self._engine) as session:
            store_latest(session, self._connection_id, snapshot)
            if changed:
                at = min(device_at or snapshot.taken_at, snapshot.taken_at)
                store_trunk_changes(session, self._connection_id, at, changed)
        self.taken += 1
        return snapshot

    def _changes(self, snapshot: Snapshot) -> Sequence[Trunk]:
        """The trunks whose state is another than at the look before."""
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
                self._stop.wait(GATHER_S)
                self._changed.clear()
            if self._stop.is_set():
                return
            begun = time.monotonic()
            try:
                snapshot = self.look()
                self._ask_clock()
            except PbxError as error:
                self._say(error.advice)
                wait_s, rest_s = QUIET_S, EVERY_S
            except Exception as error:  # a mistake of ours must not freeze what the pages show
                self._say(f"An unexpected error: {error!r}", traceback=True)
                wait_s, rest_s = QUIET_S, EVERY_S
            else:
                self._say("")
                busy = snapshot.active_calls or any(queue.calls for queue in snapshot.queues)
                wait_s = BUSY_S if busy else QUIET_S
                rest_s = max(EVERY_S - (time.monotonic() - begun), SHARE * snapshot.took_ms / 1000)
            self._stop.wait(rest_s)
            wait_s = max(wait_s - rest_s, 0.0)

    def _ask_clock(self) -> None:
        if time.monotonic() >= self._clock_due_at:
            self.ahead_s = pbx_clock_s(self._client)
            self._clock_due_at = time.monotonic() + CLOCK_S

    def _say(self, text: str, *, traceback: bool = False) -> None:
        if text and text != self._said:
            log.warning("The PBX could not be looked at just now. %s", text, exc_info=traceback)
        self._said = text


def pbx_clock_s(client: AmiClient) -> float | None:
    """By how many seconds the PBX's clock is ahead of this machine's; None where it doesn't tell (Getvar)."""
    before = datetime.now(UTC)
    try:
        reply = client.submit("Getvar", [("Variable", "STRFTIME(,,%s.%3q)")], deadline_s=5).result()
    except PbxError:
        return None
    told = decimal(reply.response.get("Value"))
    if not told or told < 0:  # nothing, or nothing that is a time
        return None
    after = datetime.now(UTC)
    return told - (before.timestamp() + after.timestamp()) / 2
