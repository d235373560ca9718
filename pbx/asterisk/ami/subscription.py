"""A bounded queue of events for one consumer. The reader never waits for it: events without room are counted."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pbx.asterisk.ami.protocol import Message

MAX_EVENT_BYTES = 16 * 1024  # far larger than any event of Asterisk
MAX_WAITING_BYTES = 64 * 1024 * 1024  # twice the size of 50,000 events of a busy PBX


@dataclass(frozen=True)
class ConnectionGap:
    """A time without a connection, whose events are missing."""

    from_at: datetime
    to_at: datetime
    reason: str


class Subscription:
    """Events in order, with a ConnectionGap where some are missing. Iterate over it, or `get` one at a time.

    `dropped` counts events that came while `limit` events or `limit_bytes` bytes were waiting, and events larger than
    any of Asterisk. Gaps are never dropped.
    """

    def __init__(self, limit: int, limit_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        self._limit, self._limit_bytes = limit, limit_bytes
        self._bytes = 0  # of the waiting events
        self._waiting: deque[bytes | ConnectionGap] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, events: list[bytes]) -> None:
        """Add the events that there is room for, as frames of the parser. Only the client's reader calls it."""
        with self._changed:
            for event in events:
                room = len(self._waiting) < self._limit and self._bytes + len(event) <= self._limit_bytes
                if room and len(event) <= MAX_EVENT_BYTES:
                    self._waiting.append(event)
                    self._bytes += len(event)
                else:
                    self.dropped += 1
            self._changed.notify_all()

    def report(self, gap: ConnectionGap) -> None:
        """Add a gap in place of the missing events. Only the client's reader calls it."""
        with self._changed:
            self._waiting.append(gap)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> Message | ConnectionGap | None:
        """The next event or gap; None after `timeout_s` seconds without one, or once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            item = self._waiting.popleft() if self._waiting else None
            self._bytes -= len(item) if isinstance(item, bytes) else 0
            return Message(item) if isinstance(item, bytes) else item

    def __iter__(self) -> Iterator[Message | ConnectionGap]:
        """All events and gaps, until the subscription or its client is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                taken, self._waiting, self._bytes = self._waiting, deque(), 0
            if not taken:
                return
            for item in taken:
                yield Message(item) if isinstance(item, bytes) else item

    def close(self) -> None:
        """End the subscription. Waiting events can still be read; no more are added."""
        with self._changed:
            self._closed = True
            self._limit = 0
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether no more events will be added."""
        return self._closed

    @property
    def waiting(self) -> int:
        """How many events and gaps are waiting."""
        return len(self._waiting)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
