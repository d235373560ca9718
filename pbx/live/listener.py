"""Listens to a PBX and stores what happens as it happens.

One connection and three threads beside the client's own reader: this one turns events into facts, `EventWriter`
commits them, and `SnapshotPoller` keeps the newest snapshot. When events are lost (a broken connection, a reader that
fell behind, a database unavailable for long), the listening span ends; a new snapshot then shows what is still going
on, and the rest is unknown.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.protocol import Message
from pbx.asterisk.ami.reply import AmiReply
from pbx.asterisk.ami.subscription import ConnectionGap, Subscription
from pbx.errors import AmiTooLarge, DataError, PbxError
from pbx.live.events import CLASSES, DEVICES, HANDLED, MOST_OPEN, SHOWN, Facts, LiveHistory, event_filter
from pbx.live.snapshot_poller import SnapshotPoller, pbx_clock_s
from pbx.live.writer import EventWriter
from pbx.model.snapshot import Snapshot
from pbx.process_lock import ProcessLock, anyone_alive, try_process_lock
from pbx.settings import Settings
from pbx.store.connections import ActiveConnection, active_connection
from pbx.store.engine import reading, writing
from pbx.store.job_queue import request_job
from pbx.store.job_rows import last_job
from pbx.store.legs import known_trunks
from pbx.store.listening import end_spans, open_legs
from pbx.store.visits import open_visits

ROLE = "watch"
SLOT = "watch-0"
EVENTS_LIMIT = 50_000  # events that may wait for this thread: more are dropped, counted, and a gap
HAND_OVER_S = 0.25  # how often facts go to the writer
KEEPALIVE_S = 5.0
SYNC_AFTER_S = 3.0  # a recording is complete a moment after the call
SYNC_EVERY_S, MAX_SYNC_EVERY_S = 10.0, 300.0
UNHEARD_S = 5  # what goes on for so long and was never heard of won't be
CLOCK_SET_S = 5.0  # so much further ahead or behind than before, the PBX's clock was set: no answer is so late
LOOK_S = 2.0  # how often it is looked whether another PBX was set up
RETRY_S, MAX_RETRY_S = 2.0, 60.0

log = logging.getLogger("pbx.watch")


def listener_alive(settings: Settings) -> bool:
    """Whether someone listens for this data directory. Cheap: one lock is asked."""
    return anyone_alive(settings.pbx_data_dir, ROLE)


def keep_listening(
    engine: Engine,
    settings: Settings,
    stop: threading.Event,
    *,
    slot: ProcessLock | None = None,
    started: Callable[["Listener"], None] = lambda watch: None,
) -> None:
    """Listen until `stop` is set: to the PBX that is set up, again and again when it is away.

    Without a slot of its own it waits until nobody else listens. `started` is told of each new connection's watch.
    """
    said, retry_s = "", RETRY_S
    while not stop.is_set():
        try:
            active = active_connection(engine, settings)
            if active is None or not active.connection.ami_username:
                stop.wait(LOOK_S)
                continue
            held = slot or try_process_lock(settings.pbx_data_dir, SLOT)
            if held is None:
                stop.wait(LOOK_S)
                continue
            try:
                Listener(engine, settings, active).run(stop, started)
            finally:
                if slot is None:
                    held.close()
            said, retry_s = "", RETRY_S
        except PbxError as error:
            if error.advice != said:
                log.warning("Not listening: %s", error.advice)
            said = error.advice
            stop.wait(retry_s)
            retry_s = min(retry_s * 2, MAX_RETRY_S)


class Listener:
    """Listens to one PBX. `events` counts what was heard, `writer` what was stored."""

    def __init__(self, engine: Engine, settings: Settings, active: ActiveConnection) -> None:
        self.events = 0
        self.writer: EventWriter
        self.looks: SnapshotPoller
        self.client: AmiClient
        self.queued: Subscription
        self._engine, self._settings, self._active = engine, settings, active
        self._history = LiveHistory()
        self._listening = False  # nothing has been missed since the last `_resume`
        self._dropped = self._unstored = 0
        self._ahead = timedelta()  # the PBX's clock
        self._heard_until = self._now()
        self._known = False  # what is open in the database has been read
        self._recording_ended_at = 0.0
        self._synced_at = 0.0
        self._seen: Snapshot | None = None  # the last look, until this thread has compared it with what was heard
        self._said: set[str] = set()

    def run(self, stop: threading.Event, started: Callable[["Listener"], None] = lambda watch: None) -> None:
        """Listen until `stop` is set or another PBX is set up. Raises what connecting raises, DataError."""
        connection = self._active.connection
        with writing(self._engine) as session:  # at once: while the PBX is away nobody listens
            end_spans(session, self._active.id)
        with AmiClient.connect(connection, events=CLASSES, keepalive_s=KEEPALIVE_S) as client:
            events = client.subscribe(EVENTS_LIMIT)
            self.client, self.queued = client, events
            self.writer = EventWriter(self._engine, self._active.id, each_time=self._ask_sync)
            self.looks = SnapshotPoller(self._engine, self._active.id, client, self._see)
            try:
                self._prepare(client)
                self.looks.look()
                self._resume(events)
                self.looks.start()
                log.info("Listening to %s.", connection.host)
                started(self)
                self._follow(events, stop)
            finally:
                self.looks.close()
                if self._listening:
                    self.writer.add(self._history.facts(self._now()), self._heard_until)
                    self.writer.end(self._heard_until, "It was stopped.")
                self.writer.close()

    def _prepare(self, client: AmiClient) -> None:
        """Ask for those events only that are used; a new connection forgets it."""
        self._ahead = timedelta(seconds=pbx_clock_s(client) or 0.0)
        self.looks.ahead_s = None
        reply = client.submit("Filter", [("Operation", "Add"), ("Filter", event_filter(HANDLED))]).result()
        if reply.failed:
            log.info("The AMI user may not filter events (class system in write=): all of them come, and that is fine.")
            return
        client.submit("Events", [("EventMask", f"{CLASSES},dialplan")]).result()

    def _follow(self, events: Subscription, stop: threading.Event) -> None:
        handed_at = looked_at = time.monotonic()
        while not stop.is_set():
            item = events.get(HAND_OVER_S)
            if isinstance(item, ConnectionGap):
                self._miss(item, events)
            elif item is not None:
                self._take(item)
            elif events.closed:
                return
            now = time.monotonic()
            if item is None or now - handed_at >= HAND_OVER_S:
                handed_at = now
                self._hand_over(events)
            if now - looked_at >= LOOK_S:
                looked_at = now
                if self._replaced():
                    return

    def _replaced(self) -> bool:
        """Whether another PBX was set up, or this one in another way."""
        try:
            return active_connection(self._engine, self._settings) != self._active
        except PbxError:  # the database is away: the writer tells
            return False

    def _take(self, message: Message) -> None:
        self.events += 1
        at, name = self._now(), message.event
        self._history.take(message, at)
        if name in SHOWN:
            self.looks.wake(device_at=datetime.now(UTC) if name in DEVICES else None)

    def _hand_over(self, events: Subscription) -> None:
        """Give the writer what was told; find out when something is missing."""
        now = self._now()
        if self.client.connected and not events.waiting:
            self._heard_until = now
        if self._history.legs.recording_ended:
            self._history.legs.recording_ended = False
            self._recording_ended_at = time.monotonic()
        if self._history.overfull:
            raise AmiTooLarge(
                f"{self._active.connection.host} reports more than {MOST_OPEN:,} calls at once, which no PBX has.",
                "Check that it is Asterisk that answers there.",
            )
        facts = self._history.facts(now)
        told_s = self.looks.ahead_s
        set_by_s = 0.0 if told_s is None else told_s - self._ahead.total_seconds()
        snapshot, self._seen = self._seen, None
        if snapshot is not None and self._listening and not events.waiting:
            self._compare(snapshot)
        if not self._listening:
            self._recover(events)
        elif events.dropped > self._dropped:
            self._lose("More happened than could be taken in.")
        elif self.writer.dropped > self._unstored:
            self._unstored = self.writer.dropped
            self._lose("Some of it could not be stored; the log says why.")
        elif abs(set_by_s) > CLOCK_SET_S:
            self._set_clock(facts, set_by_s)
        elif not self.writer.add(facts, self._heard_until):
            self._lose(f"The database was away for long. {self.writer.fault}".strip())

    def _lose(self, why: str) -> None:
        log.error("What happens from now on is missing. %s", why)
        self.writer.end(self._heard_until, why)
        self._listening = self._known = False

    def _set_clock(self, facts: Facts, by_s: float) -> None:
        """The PBX's clock was set: times from now on are by the new one, and no span may hold both."""
        log.warning("The PBX's clock was set %s by %.0f s.", "forward" if by_s > 0 else "back", abs(by_s))
        self.writer.add(facts, self._heard_until)
        self.writer.end(self._heard_until, "The PBX's clock was set.")
        self._ahead += timedelta(seconds=by_s)
        self._heard_until = self._now()
        self._listening = False

    def _recover(self, events: Subscription) -> None:
        """Go on once there is room in the writer and a look at everything can be taken."""
        if not self.writer.has_room or not self.client.connected:
            return
        try:
            self._resume(events)
        except PbxError as error:
            log.debug("%s", error)
        else:
            self._history.retell()
            log.info("Listening again.")

    def _miss(self, gap: ConnectionGap, events: Subscription) -> None:
        away_s = (gap.to_at - gap.from_at).total_seconds()
        log.warning("%s was away for %.0f s (%s).", self._active.connection.host, away_s, gap.reason)
        if self._listening:
            self.writer.add(self._history.facts(self._now()), self._heard_until)
            self.writer.end(gap.from_at + self._ahead, gap.reason)
        self._listening = False
        try:
            self._prepare(self.client)
        except PbxError as error:
            log.debug("%s", error)  # away again: another gap follows
        self._recover(events)
        self.looks.wake()

    def _resume(self, events: Subscription) -> None:
        """Look at all queues and channels, and go on from there. Raises Unreachable, Deadline."""
        asked_at = self._now()
        asked = [self.client.submit(action) for action in ("QueueStatus", "CoreShowChannels")]
        queues, channels = (future.result() for future in asked)
        self._dropped = events.dropped
        for _ in range(events.waiting):  # what came before the answers
            item = events.get(0)
            if isinstance(item, Message):
                self._take(item)
            elif item is not None:
                self._prepare(self.client)
        for reply in (queues, channels):
            if reply.failed:
                log.warning("What goes on already can't be seen in full. %s", reply.reason)
        if not self._known:
            self._read_known(channels, asked_at)
        self._history.resume(asked_at, queues.items, channels.items)
        self._listening = True
        self.writer.begin(asked_at)

    def _read_known(self, channels: AmiReply, at: datetime) -> None:
        with reading(self._engine) as session:
            visits = open_visits(session, self._active.id, "watch")
            legs = open_legs(session, self._active.id, at)
            self._history.legs.trunks = {*self._history.legs.trunks, *known_trunks(session, self._active.id)}
        self._history.add_known(visits, legs, channels.items)
        self._known = True

    def _see(self, snapshot: Snapshot) -> None:
        self._seen = snapshot
        names = {trunk.name for trunk in snapshot.trunks}
        if not names <= set(self._history.legs.trunks):
            self._history.legs.trunks = {*self._history.legs.trunks, *names}

    def _compare(self, snapshot: Snapshot) -> None:
        """Compare a look with what was heard; say once which events this user doesn't hear."""
        queues = {} if snapshot.parts["queues"].state != "ok" else {queue.name: queue for queue in snapshot.queues}
        there = {(caller.uniqueid, name) for name, queue in queues.items() for caller in queue.callers}
        old_at = snapshot.taken_at + self._ahead - timedelta(seconds=UNHEARD_S)
        if snapshot.parts["queues"].state == "ok":
            self._history.visits.lose_absent(queues, there, old_at)
        waiting = [one for queue in queues.values() for one in queue.callers if one.wait_s >= UNHEARD_S]
        calls = [call for call in snapshot.active_calls if call.duration_s >= UNHEARD_S]
        unheard = {
            "agent": any(one.uniqueid and not self._history.visits.queue_of(one.uniqueid) for one in waiting),
            "call": bool(calls) and not self._history.legs.channels,
        }
        for name, missing in unheard.items():
            if missing and name not in self._said:
                self._said.add(name)
                log.warning("The AMI user hears no events of the class %s: add it to read= in manager.conf.", name)

    def _ask_sync(self) -> None:
        """Ask for a sync soon after a recording ended: at once for all that ended meanwhile, and not for ever.

        On a PBX with very many recordings a sync takes its time, as ARI lists all of them or none: then it is asked for
        the more seldom, but not for hours after the first one, which fetched them all.
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
        if job.state == "queued":  # one that runs already may have listed the recordings before this one was complete
            self._synced_at = now
            if self._recording_ended_at == ended_at:
                self._recording_ended_at = 0.0

    def _now(self) -> datetime:
        """Now, by the PBX's clock: what queue_log and the CDR will say."""
        return datetime.now(UTC) + self._ahead


def listen_inline(settings: Settings, engine: Engine, stop: threading.Event) -> None:
    """Listen in this process until `stop` is set. Raises DataError while someone listens already."""
    slot = try_process_lock(settings.pbx_data_dir, SLOT)
    if slot is None:
        raise DataError(
            "Someone listens to the PBX already: a worker, or another `python -m pbx watch`.",
            "Let it, or set FREEPBX_WATCH=false for the worker and start it again.",
        )
    with slot:
        keep_listening(engine, settings, stop, slot=slot)
