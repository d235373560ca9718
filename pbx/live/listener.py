"""Listens to a PBX and stores what happens as it happens.

It uses one connection and three threads besides the client's reader: this one turns events into updates of visits and
legs, `EventWriter` commits them, and `SnapshotPoller` keeps the newest snapshot. When events are lost (a broken
connection, a reader that fell behind, a database unavailable for long), the listening span ends. The PBX's present
state then shows what is still in progress; the outcome of the rest is unknown.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from pbx.asterisk.ami.client import AmiClient, AmiTiming
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.asterisk.ami.subscription import ConnectionGap, Subscription
from pbx.errors import AmiTooLarge, DataError, PbxError
from pbx.live.events import (
    DEVICE_EVENTS,
    EVENT_CLASSES,
    MAX_OPEN,
    PAGE_EVENTS,
    USED_EVENTS,
    LiveHistory,
    LiveUpdates,
    event_filter,
)
from pbx.live.snapshot_poller import SnapshotPoller, pbx_clock_s
from pbx.live.writer import EventWriter
from pbx.model.snapshot import Snapshot
from pbx.process_lock import ProcessLock, anyone_alive, try_process_lock
from pbx.settings import Settings
from pbx.store.engine import reading, writing
from pbx.store.job_queue import request_job
from pbx.store.job_rows import last_job
from pbx.store.legs import known_trunks
from pbx.store.listening_spans import end_spans, open_legs
from pbx.store.pbx_connections import ActiveConnection, active_connection
from pbx.store.visits import open_visits

LISTENER_ROLE = "watch"
LISTENER_SLOT = "watch-0"
EVENTS_LIMIT = 50_000  # events that may wait for this thread; more are dropped, and cause a gap
HAND_OVER_S = 0.25  # how often updates go to the writer
KEEPALIVE_S = 5.0
SYNC_AFTER_S = 3.0  # a recording is complete a moment after the call
SYNC_EVERY_S, MAX_SYNC_EVERY_S = 10.0, 300.0
MISSED_AFTER_S = 5  # a call or visit this old without any event was missed
CLOCK_CHANGE_S = 5.0  # a larger change of the offset means that the PBX's clock was set, not that its reply was late
CONNECTION_CHECK_S = 2.0  # how often to check whether another PBX was set up
RETRY_S, MAX_RETRY_S = 2.0, 60.0

log = logging.getLogger("pbx.watch")


def listener_alive(settings: Settings) -> bool:
    """Whether a listener runs for this data directory. Cheap: it checks one lock."""
    return anyone_alive(settings.pbx_data_dir, LISTENER_ROLE)


def keep_listening(
    engine: Engine,
    settings: Settings,
    stop: threading.Event,
    *,
    slot: ProcessLock | None = None,
    started: Callable[["Listener"], None] = lambda watch: None,
) -> None:
    """Listen to the PBX that is set up until `stop` is set, reconnecting whenever it becomes reachable.

    Without a `slot` it waits until no other listener runs. `started` is called with the listener of each connection.
    """
    logged, retry_s = "", RETRY_S
    while not stop.is_set():
        try:
            active = active_connection(engine, settings)
            if active is None or not active.connection.ami_username:
                stop.wait(CONNECTION_CHECK_S)
                continue
            held = slot or try_process_lock(settings.pbx_data_dir, LISTENER_SLOT)
            if held is None:
                stop.wait(CONNECTION_CHECK_S)
                continue
            try:
                Listener(engine, settings, active).run(stop, started)
            finally:
                if slot is None:
                    held.close()
            logged, retry_s = "", RETRY_S
        except PbxError as error:
            if error.advice != logged:
                log.warning("Not listening: %s", error.advice)
            logged = error.advice
            stop.wait(retry_s)
            retry_s = min(retry_s * 2, MAX_RETRY_S)


class Listener:
    """Listens to one PBX. `events` counts the events received; its `writer` counts the updates stored."""

    def __init__(self, engine: Engine, settings: Settings, active: ActiveConnection) -> None:
        self.events = 0
        self.writer: EventWriter
        self.poller: SnapshotPoller
        self.client: AmiClient
        self.queued: Subscription
        self._engine, self._settings, self._active = engine, settings, active
        self._history = LiveHistory()
        self._listening = False  # no event was missed since the last `_resume`
        self._dropped = self._unstored = 0
        self._clock_offset = timedelta()  # of the PBX's clock to this machine's
        self._complete_until = self._now()
        self._loaded_open = False  # visits and legs in progress were read from the database
        self._recording_ended_at = 0.0
        self._synced_at = 0.0
        self._snapshot: Snapshot | None = None  # the last snapshot, until this thread has compared it with the events
        self._logged: set[str] = set()

    def run(self, stop: threading.Event, started: Callable[["Listener"], None] = lambda watch: None) -> None:
        """Listen until `stop` is set or another PBX is set up. Raises what connecting raises, DataError."""
        connection = self._active.connection
        with writing(self._engine) as session:  # first, because the span is over even if the PBX is unreachable
            end_spans(session, self._active.id)
        with AmiClient.connect(connection, events=EVENT_CLASSES, timing=AmiTiming(keepalive_s=KEEPALIVE_S)) as client:
            events = client.subscribe(EVENTS_LIMIT)
            self.client, self.queued = client, events
            self.writer = EventWriter(self._engine, self._active.id, after_commit=self._request_sync)
            self.poller = SnapshotPoller(self._engine, self._active.id, client, self._receive_snapshot)
            try:
                self._prepare(client)
                self.poller.poll()
                self._resume(events)
                self.poller.start()
                log.info("Listening to %s.", connection.host)
                started(self)
                self._follow(events, stop)
            finally:
                self.poller.close()
                if self._listening:
                    self.writer.add(self._history.take_updates(self._now()), self._complete_until)
                    self.writer.end(self._complete_until, "It was stopped.")
                self.writer.close()

    def _prepare(self, client: AmiClient) -> None:
        """Restrict the events to those that are used; each new connection needs it."""
        self._clock_offset = timedelta(seconds=pbx_clock_s(client) or 0.0)
        self.poller.clock_ahead_s = None
        reply = client.submit("Filter", [("Operation", "Add"), ("Filter", event_filter(USED_EVENTS))]).result()
        if reply.failed:
            log.info(
                "The AMI user may not filter events (class system in write=). All events are received, which works too."
            )
            return
        client.submit("Events", [("EventMask", f"{EVENT_CLASSES},dialplan")]).result()

    def _follow(self, events: Subscription, stop: threading.Event) -> None:
        handed_at = checked_at = time.monotonic()
        while not stop.is_set():
            item = events.get(HAND_OVER_S)
            if isinstance(item, ConnectionGap):
                self._handle_gap(item, events)
            elif item is not None:
                self._take(item)
            elif events.closed:
                return
            now = time.monotonic()
            if item is None or now - handed_at >= HAND_OVER_S:
                handed_at = now
                self._hand_over(events)
            if now - checked_at >= CONNECTION_CHECK_S:
                checked_at = now
                if self._replaced():
                    return

    def _replaced(self) -> bool:
        """Whether another PBX was set up, or the settings of this one changed."""
        try:
            return active_connection(self._engine, self._settings) != self._active
        except PbxError:  # the database is unavailable; the writer logs it
            return False

    def _take(self, message: Message) -> None:
        self.events += 1
        at, name = self._now(), message.event
        self._history.take(message, at)
        if name in PAGE_EVENTS:
            self.poller.wake(device_at=datetime.now(UTC) if name in DEVICE_EVENTS else None)

    def _hand_over(self, events: Subscription) -> None:
        """Give the writer the updates, and find out whether events were missed."""
        now = self._now()
        if self.client.connected and not events.waiting:
            self._complete_until = now
        if self._history.legs.recording_ended:
            self._history.legs.recording_ended = False
            self._recording_ended_at = time.monotonic()
        if self._history.implausible:
            raise AmiTooLarge(
                f"{self._active.connection.host} reports more than {MAX_OPEN:,} concurrent calls, which no PBX has.",
                "Check that Asterisk runs at that address.",
            )
        updates = self._history.take_updates(now)
        offset_s = self.poller.clock_ahead_s
        set_by_s = 0.0 if offset_s is None else offset_s - self._clock_offset.total_seconds()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None and self._listening and not events.waiting:
            self._compare(snapshot)
        if not self._listening:
            self._recover(events)
        elif events.dropped > self._dropped:
            self._lose("Events came faster than they could be processed.")
        elif self.writer.dropped > self._unstored:
            self._unstored = self.writer.dropped
            self._lose("Some updates could not be stored; the log shows why.")
        elif abs(set_by_s) > CLOCK_CHANGE_S:
            self._adjust_clock(updates, set_by_s)
        elif not self.writer.add(updates, self._complete_until):
            self._lose(f"The database was unavailable for too long. {self.writer.fault}".strip())

    def _lose(self, why: str) -> None:
        log.error("Events are missing from now on. %s", why)
        self.writer.end(self._complete_until, why)
        self._listening = self._loaded_open = False

    def _adjust_clock(self, updates: LiveUpdates, by_s: float) -> None:
        """Continue in a new span after the PBX's clock was set, because one span can't contain times of both."""
        log.warning("The PBX's clock was set %s by %.0f s.", "forward" if by_s > 0 else "back", abs(by_s))
        self.writer.add(updates, self._complete_until)
        self.writer.end(self._complete_until, "The PBX's clock was set.")
        self._clock_offset += timedelta(seconds=by_s)
        self._complete_until = self._now()
        self._listening = False

    def _recover(self, events: Subscription) -> None:
        """Continue once the writer has room and the PBX's state can be read."""
        if not self.writer.has_room or not self.client.connected:
            return
        try:
            self._resume(events)
        except PbxError as error:
            log.debug("%s", error)
        else:
            self._history.repeat_open()
            log.info("Listening again.")

    def _handle_gap(self, gap: ConnectionGap, events: Subscription) -> None:
        away_s = (gap.to_at - gap.from_at).total_seconds()
        log.warning("%s was unreachable for %.0f s (%s).", self._active.connection.host, away_s, gap.reason)
        if self._listening:
            self.writer.add(self._history.take_updates(self._now()), self._complete_until)
            self.writer.end(gap.from_at + self._clock_offset, gap.reason)
        self._listening = False
        try:
            self._prepare(self.client)
        except PbxError as error:
            log.debug("%s", error)  # unreachable again; another gap follows
        self._recover(events)
        self.poller.wake()

    def _resume(self, events: Subscription) -> None:
        """Read the state of all queues and channels, and continue from it. Raises Unreachable, Deadline."""
        requested_at = self._now()
        replies = [self.client.submit(action) for action in ("QueueStatus", "CoreShowChannels")]
        queues, channels = (future.result() for future in replies)
        self._dropped = events.dropped
        for _ in range(events.waiting):  # events that came before the replies
            item = events.get(0)
            if isinstance(item, Message):
                self._take(item)
            elif item is not None:
                self._prepare(self.client)
        for reply in (queues, channels):
            if reply.failed:
                log.warning("Calls that are already in progress can't be read completely. %s", reply.reason)
        if not self._loaded_open:
            self._load_open(channels, requested_at)
        self._history.resume(requested_at, queues.items, channels.items)
        self._listening = True
        self.writer.begin(requested_at)

    def _load_open(self, channels: AmiReply, at: datetime) -> None:
        with reading(self._engine) as session:
            visits = open_visits(session, self._active.id, "live")
            legs = open_legs(session, self._active.id, at)
            self._history.legs.trunks = {*self._history.legs.trunks, *known_trunks(session, self._active.id)}
        self._history.add_stored(visits, legs, channels.items)
        self._loaded_open = True

    def _receive_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        names = {trunk.name for trunk in snapshot.trunks}
        if not names <= set(self._history.legs.trunks):
            self._history.legs.trunks = {*self._history.legs.trunks, *names}

    def _compare(self, snapshot: Snapshot) -> None:
        """Compare a snapshot with the events, and log once which classes of events this user doesn't receive."""
        queues = {} if snapshot.parts["queues"].state != "ok" else {queue.name: queue for queue in snapshot.queues}
        there = {(caller.uniqueid, name) for name, queue in queues.items() for caller in queue.callers}
        old_at = snapshot.taken_at + self._clock_offset - timedelta(seconds=MISSED_AFTER_S)
        if snapshot.parts["queues"].state == "ok":
            self._history.visits.close_absent(queues, there, old_at)
        waiting = [one for queue in queues.values() for one in queue.callers if one.wait_s >= MISSED_AFTER_S]
        calls = [call for call in snapshot.active_calls if call.duration_s >= MISSED_AFTER_S]
        missed = {
            "agent": any(one.uniqueid and not self._history.visits.queue_of(one.uniqueid) for one in waiting),
            "call": bool(calls) and not self._history.legs.channels,
        }
        for name, missing in missed.items():
            if missing and name not in self._logged:
                self._logged.add(name)
                log.warning("The AMI user receives no events of the class %s. Add it to read= in manager.conf.", name)

    def _request_sync(self) -> None:
        """Request a sync soon after a recording ended, one for all recordings that ended since the last.

        ARI can only list all recordings, so a sync takes long on a PBX with very many. The longer the last sync took,
        the less often one is requested, but at least every MAX_SYNC_EVERY_S: the first one, which fetches everything,
        must not block later ones for hours.
        """
        now = time.monotonic()
        ended_at = self._recording_ended_at
        if not ended_at or now - ended_at < SYNC_AFTER_S or not self._active.connection.ari_username:
            return
        with reading(self._engine) as session:
            last = last_job(session, "sync", connection_id=self._active.id)
        took = last.ended_at - last.started_at if last and last.ended_at and last.started_at else timedelta()
        if now - self._synced_at < min(max(SYNC_EVERY_S, 10 * took.total_seconds()), MAX_SYNC_EVERY_S):
            return
        job = request_job(self._engine, self._settings, "sync", requested_by="listener")
        if job.state == "queued":  # a running one may have listed the recordings before this one was complete
            self._synced_at = now
            if self._recording_ended_at == ended_at:
                self._recording_ended_at = 0.0

    def _now(self) -> datetime:
        """Now by the PBX's clock, as in queue_log and the CDR."""
        return datetime.now(UTC) + self._clock_offset


def listen_inline(settings: Settings, engine: Engine, stop: threading.Event) -> None:
    """Listen in this process until `stop` is set. Raises DataError when a listener is already running."""
    slot = try_process_lock(settings.pbx_data_dir, LISTENER_SLOT)
    if slot is None:
        raise DataError(
            "Another process already listens to the PBX: a worker, or `python -m pbx watch`.",
            "Leave it running, or set FREEPBX_WATCH=false for the worker and start the worker again.",
        )
    with slot:
        keep_listening(engine, settings, stop, slot=slot)
