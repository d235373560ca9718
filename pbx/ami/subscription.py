"""A consumer's bounded queue of events: the reader never waits for it, and what found no room is counted."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

from pbx.ami.protocol import Message


@dataclass(frozen=True)
class Gap:
    """A time without connection: what happened on the PBX in it was not heard."""

    from_at: datetime
    to_at: datetime
    reason: str


class Subscription:
    """Events in the order they came, a Gap where some are missing. Iterate over it, or `get` one at a time.

    `dropped` counts the events that came while `limit` of them were waiting; gaps are never dropped.
    """

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: deque[bytes | Gap] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, events: list[bytes]) -> None:
        """Take what there is room for, as the parser's frames; for the client's reader."""
        with self._changed:
            room = max(self._limit - len(self._waiting), 0)
            self._waiting.extend(events[:room])
            self.dropped += max(len(events) - room, 0)
            self._changed.notify_all()

    def report(self, gap: Gap) -> None:
        """Put a gap where the missing events would stand; for the client's reader."""
        with self._changed:
            self._waiting.append(gap)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> Message | Gap | None:
        """The next event or gap; None after `timeout_s` seconds without one, or once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            item = self._waiting.popleft() if self._waiting else None
            return Message(item) if isinstance(item, bytes) else item

    def __iter__(self) -> Iterator[Message | Gap]:
        """All that comes, until the subscription or its client is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                taken, self._waiting = self._waiting, deque()
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
