"""A consumer's bounded queue of events: the reader never waits for it, and what found no room is counted."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from pbx.asterisk.ami.protocol import Message

MAX_EVENT_BYTES = 16 * 1024  # no event of Asterisk's comes near it
MAX_WAITING_BYTES = 64 * 1024 * 1024  # twice what 50,000 events of a busy PBX take


@dataclass(frozen=True)
class ConnectionGap:
    """A time without connection: what happened on the PBX in it was not heard."""

    from_at: datetime
    to_at: datetime
    reason: str


class Subscription:
    """Events in the order they came, a Gap where some are missing. Iterate over it, or `get` one at a time.

    `dropped` counts the events that came while `limit` of them, or `limit_bytes` bytes, were waiting, and those larger
    than any of Asterisk's; gaps are never dropped.
    """

    def __init__(self, limit: int, limit_bytes: int = MAX_WAITING_BYTES) -> None:
        self.dropped = 0
        self._limit, self._limit_bytes = limit, limit_bytes
        self._bytes = 0  # of the events that wait
        self._waiting: deque[bytes | ConnectionGap] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, events: list[bytes]) -> None:
        """Take what there is room for, as the parser's frames; for the client's reader."""
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
        """Put a gap where the missing events would stand; for the client's reader."""
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
        """All that comes, until the subscription or its client is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                taken, self._waiting, self._bytes = self._waiting, deque(), 0
            if not taken:
                return
            for item in taken:
                yield Message(item) if isinstance(item, bytes) else item

    def close(self) -> None:
        """Wake the consumer; what is waiting can still be read, nothing more comes."""
        with self._changed:
            self._closed = True
            self._limit = 0
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def waiting(self) -> int:
        """How many events and gaps wait to be taken."""
        return len(self._waiting)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
