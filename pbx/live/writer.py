"""Writes live updates to the database: a thread of its own collects, merges and commits them in batches.

So the listener never waits for the database. While the database can't be written, updates are kept up to a limit.
Beyond it they are refused, and the listener ends its listening span: what is missing shows as a gap.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session

from pbx.errors import PbxError
from pbx.live.events import LiveUpdates
from pbx.model.history import AgentEvent, Leg, Ring, Visit
from pbx.store.engine import writing
from pbx.store.legs import store_legs
from pbx.store.listening_spans import begin_span, end_spans, prolong_span
from pbx.store.visits import store_agent_events, store_rings, store_visits

COMMIT_INTERVAL_S = 1.0
MAX_BATCH = 500  # this many updates are committed before COMMIT_INTERVAL_S is over
MAX_WAITING = 50_000  # updates that may wait for the database
PROLONG_INTERVAL_S = 5.0  # how far a stored span may lag behind while nothing happens

log = logging.getLogger("pbx.watch")


@dataclass
class _Span:
    """A listening span; it has an `id` once it is stored."""

    from_at: datetime
    until_at: datetime
    ended_by: str = ""
    id: int | None = None
    stored_until: datetime | None = None

    @property
    def due(self) -> bool:
        """Whether the stored span needs an update."""
        outdated = (
            self.stored_until is None or (self.until_at - self.stored_until).total_seconds() >= PROLONG_INTERVAL_S
        )
        return outdated or bool(self.ended_by)


@dataclass
class _PendingWrites:
    """Updates to be written; of several updates to the same visit or leg, the last one."""

    visits: dict[tuple[str, str, datetime], Visit] = field(default_factory=dict)
    legs: dict[tuple[str, str, str], Leg] = field(default_factory=dict)
    rings: list[Ring] = field(default_factory=list)
    agent_events: list[AgentEvent] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.visits) + len(self.legs) + len(self.rings) + len(self.agent_events)

    def add(self, updates: LiveUpdates) -> None:
        """Add newer updates."""
        self.visits |= {(one.uniqueid, one.queue, one.joined_at): one for one in updates.visits}
        self.legs |= {(one.linkedid, one.channel, one.dst_channel): one for one in updates.legs}
        self.rings += updates.rings
        self.agent_events += updates.agent_events

    def add_older(self, older: "_PendingWrites") -> None:
        """Add updates that could not be stored; those here are newer."""
        self.visits = older.visits | self.visits
        self.legs = older.legs | self.legs
        self.rings = older.rings + self.rings
        self.agent_events = older.agent_events + self.agent_events


class EventWriter:
    """Stores the updates and listening spans of one PBX. Closing it commits everything.

    `after_commit` is called on the writer's thread after each commit, and about once in COMMIT_INTERVAL_S. With the
    first span, the spans of listeners that were killed are ended.
    """

    def __init__(
        self,
        engine: Engine,
        connection_id: int,
        *,
        limit: int = MAX_WAITING,
        after_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.fault = ""  # why the database can't be written; "" while it can
        self.stored = 0  # updates
        self.dropped = 0  # updates lost by a bug
        self._engine, self._connection_id, self._limit, self._each_time = engine, connection_id, limit, after_commit
        self._batch = _PendingWrites()
        self._spans: list[_Span] = []
        self._writing = 0  # updates being committed now
        self._first = True
        self._closing = False
        self._changed = threading.Condition()  # guards the attributes above
        self._thread = threading.Thread(target=self._run, name="event writer", daemon=True)
        self._thread.start()

    def begin(self, at: datetime) -> None:
        """Start a listening span: from this moment on, every event is received."""
        with self._changed:
            self._spans.append(_Span(at, at))

    def add(self, updates: LiveUpdates, complete_until: datetime) -> bool:
        """Queue updates and extend the span to a moment; returns False and queues nothing when too many are waiting."""
        with self._changed:
            if len(self._batch) + self._writing + len(updates) > self._limit:
                return False
            self._batch.add(updates)
            if self._spans and not self._spans[-1].ended_by:
                self._spans[-1].until_at = max(complete_until, self._spans[-1].until_at)
            if len(self._batch) >= MAX_BATCH:
                self._changed.notify_all()
            return True

    def end(self, at: datetime, why: str) -> None:
        """End the listening span at a moment, possibly before its present end: a lost connection is noticed late."""
        with self._changed:
            if self._spans and not self._spans[-1].ended_by:
                span = self._spans[-1]
                span.until_at, span.ended_by = max(at, span.from_at), why
                self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many updates are not stored yet."""
        with self._changed:
            return len(self._batch) + self._writing

    @property
    def has_room(self) -> bool:
        """Whether the queue has enough room to continue after updates were refused."""
        return self.waiting < self._limit // 2

    def close(self, deadline_s: float = 10.0) -> None:
        """Commit what is waiting, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self._batch) >= MAX_BATCH, COMMIT_INTERVAL_S)
                closing = self._closing
                batch, self._batch = self._batch, _PendingWrites()
                self._writing = len(batch)
                spans = [
                    (span, span.until_at, span.ended_by) for span in self._spans if span.due or len(batch) or closing
                ]
            stored = self._store(batch, spans)
            if closing:
                return
            if not stored:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, COMMIT_INTERVAL_S)
            try:
                self._each_time()
            except PbxError as error:
                log.warning("%s", error.advice)

    def _store(self, batch: _PendingWrites, spans: list[tuple[_Span, datetime, str]]) -> bool:
        ids: list[int | None] = []
        try:
            if len(batch) or spans:
                with writing(self._engine) as session:
                    ids = self._write(session, batch, spans)
        except PbxError as error:  # the database may recover soon
            if error.advice != self.fault:
                log.error("Events can't be stored at present; they are kept in memory. %s", error.advice)
            self.fault = error.advice
            with self._changed:
                self._batch.add_older(batch)
                self._writing = 0
            return False
        except Exception:  # a bug must not repeat with every commit
            log.exception("%d updates could not be stored", len(batch))
            with self._changed:
                self.dropped += len(batch)
                self._writing = 0
            return False
        with self._changed:
            self.fault, self._first, self._writing = "", self._first and not spans, 0
            self.stored += len(batch)
            for (span, until_at, _), span_id in zip(spans, ids, strict=bool(spans)):
                span.id, span.stored_until = span_id, until_at
            ended = [span for span, _, ended_by in spans if ended_by]
            self._spans = [span for span in self._spans if span not in ended]
        return True

    def _write(
        self, session: Session, batch: _PendingWrites, spans: list[tuple[_Span, datetime, str]]
    ) -> list[int | None]:
        mine = self._connection_id
        if batch.visits:
            store_visits(session, mine, list(batch.visits.values()), "live")
        if batch.rings:
            store_rings(session, mine, batch.rings)
        if batch.agent_events:
            store_agent_events(session, mine, batch.agent_events)
        if batch.legs:
            store_legs(session, mine, list(batch.legs.values()), "live")
        if self._first and spans:
            end_spans(session, mine)
        ids: list[int | None] = []
        for span, until_at, ended_by in spans:
            span_id = span.id or begin_span(session, mine, span.from_at)
            prolong_span(session, span_id, until_at, ended_by)
            ids.append(span_id)
        return ids
