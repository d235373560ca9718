"""Facts on their way into the database: gathered, coalesced and committed in batches by a thread of its own.

Whoever listens never waits for the database. While it can't be written facts are kept, up to a limit; beyond that they
are refused, and the listener ends its span there: what is missing is a gap, not a guess.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session

from pbx.errors import PbxError
from pbx.live.events import Facts
from pbx.model.history import AgentEvent, Leg, Ring, Visit
from pbx.store.engine import writing
from pbx.store.legs import store_legs
from pbx.store.listening import begin_span, end_spans, prolong_span
from pbx.store.visits import store_agent_changes, store_rings, store_visits

COMMIT_S = 1.0
BATCH = 500  # so many facts are committed at once, before COMMIT_S is over
LIMIT = 50_000  # facts that may wait for the database
PROLONG_S = 5.0  # how far behind a quiet span may be in the database

log = logging.getLogger("pbx.watch")


@dataclass
class _Span:
    """A stretch of listening; `id` once it is stored."""

    from_at: datetime
    until_at: datetime
    ended_by: str = ""
    id: int | None = None
    stored_until: datetime | None = None

    @property
    def due(self) -> bool:
        behind = self.stored_until is None or (self.until_at - self.stored_until).total_seconds() >= PROLONG_S
        return behind or bool(self.ended_by)


@dataclass
class _PendingWrites:
    """Facts that wait; of one thing the last word."""

    visits: dict[tuple[str, str, datetime], Visit] = field(default_factory=dict)
    legs: dict[tuple[str, str, str], Leg] = field(default_factory=dict)
    rings: list[Ring] = field(default_factory=list)
    changes: list[AgentEvent] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.visits) + len(self.legs) + len(self.rings) + len(self.changes)

    def add(self, facts: Facts) -> None:
        self.visits |= {(one.uniqueid, one.queue, one.joined_at): one for one in facts.visits}
        self.legs |= {(one.linkedid, one.channel, one.dst_channel): one for one in facts.legs}
        self.rings += facts.rings
        self.changes += facts.changes

    def put_under(self, older: "_PendingWrites") -> None:
        """Take in what could not be stored; what came meanwhile is newer."""
        self.visits = older.visits | self.visits
        self.legs = older.legs | self.legs
        self.rings = older.rings + self.rings
        self.changes = older.changes + self.changes


class EventWriter:
    """Stores facts and the spans of listening of one PBX. Close it to have all committed.

    `each_time` is called on the writer's thread after each commit, and about once in COMMIT_S. Whoever died while
    listening is marked when the first span is stored.
    """

    def __init__(
        self,
        engine: Engine,
        connection_id: int,
        *,
        limit: int = LIMIT,
        each_time: Callable[[], None] = lambda: None,
    ) -> None:
        self.fault = ""  # why the database can't be written; "" while it can
        self.stored = 0  # facts
        self.dropped = 0  # facts that a mistake of ours lost
        self._engine, self._connection_id, self._limit, self._each_time = engine, connection_id, limit, each_time
        self._batch = _PendingWrites()
        self._spans: list[_Span] = []
        self._writing = 0  # facts being committed now
        self._first = True
        self._closing = False
        self._changed = threading.Condition()  # guards all of it
        self._thread = threading.Thread(target=self._run, name="live rows", daemon=True)
        self._thread.start()

    def begin(self, at: datetime) -> None:
        """From now on all is heard."""
        with self._changed:
            self._spans.append(_Span(at, at))

    def add(self, facts: Facts, heard_until: datetime) -> bool:
        """Take facts, and prolong the span up to a moment. False, and nothing is taken, when too many wait already."""
        with self._changed:
            if len(self._batch) + self._writing + len(facts) > self._limit:
                return False
            self._batch.add(facts)
            if self._spans and not self._spans[-1].ended_by:
                self._spans[-1].until_at = max(heard_until, self._spans[-1].until_at)
            if len(self._batch) >= BATCH:
                self._changed.notify_all()
            return True

    def end(self, at: datetime, why: str) -> None:
        """The span ends at a moment, which may lie before what `add` said: a connection is found lost afterwards."""
        with self._changed:
            if self._spans and not self._spans[-1].ended_by:
                span = self._spans[-1]
                span.until_at, span.ended_by = max(at, span.from_at), why
                self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many facts are not stored yet."""
        with self._changed:
            return len(self._batch) + self._writing

    @property
    def has_room(self) -> bool:
        return self.waiting < self._limit // 2

    def close(self, deadline_s: float = 10.0) -> None:
        """Commit what is left, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or len(self._batch) >= BATCH, COMMIT_S)
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
                    self._changed.wait_for(lambda: self._closing, COMMIT_S)
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
        except PbxError as error:  # it may be well again soon
            if error.advice != self.fault:
                log.error("What happens can't be stored now; it is kept. %s", error.advice)
            self.fault = error.advice
            with self._changed:
                self._batch.put_under(batch)
                self._writing = 0
            return False
        except Exception:  # a mistake of ours must not come back with every commit
            log.exception("%d facts could not be stored", len(batch))
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
            store_visits(session, mine, list(batch.visits.values()), "watch")
        if batch.rings:
            store_rings(session, mine, batch.rings)
        if batch.changes:
            store_agent_changes(session, mine, batch.changes)
        if batch.legs:
            store_legs(session, mine, list(batch.legs.values()), "watch")
        if self._first and spans:
            end_spans(session, mine)
        ids: list[int | None] = []
        for span, until_at, ended_by in spans:
            span_id = span.id or begin_span(session, mine, span.from_at)
            prolong_span(session, span_id, until_at, ended_by)
            ids.append(span_id)
        return ids
