"""Stores the visits, rings and agent events of one queue_log source, block by block."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from pbx.asterisk.formats.queue_log import UnreadableLine, parse_queue_log_line
from pbx.imports.files import leave_out_blank
from pbx.imports.run import ImportRun, RowCounts
from pbx.imports.visits_from_queue_log import QueueLogFold
from pbx.model.history import Visit
from pbx.store.import_cursors import ImportCursor
from pbx.store.visits import store_agent_events, store_rings, store_visits


class QueueLogResult(RowCounts):
    """What an import read from one queue_log file or table.

    `visits`, `rings` and `agent_events` count what was added to the cache or completed there. `unknown` counts
    events of unknown types by name.
    """

    kind: Literal["queue_log"] = "queue_log"
    visits: int = 0
    rings: int = 0
    agent_events: int = 0
    unknown: dict[str, int] = Field(default_factory=dict)


class QueueLogWriter:
    """Folds the events of one source into visits; `commit` stores what was added since the last one.

    `fold` is shared by all files of an import, because a visit may begin in one file and end in the next.
    """

    def __init__(self, run: ImportRun, fold: QueueLogFold, cursor: ImportCursor, source: str) -> None:
        self.run, self.fold, self.cursor = run, fold, cursor
        self.result = QueueLogResult(source=source)
        self._unreadable_before = cursor.unreadable
        self._unknown_before = Counter(fold.unknown)
        self._unfinished: set[tuple[str, str, datetime]] = set()

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Fold lines of a file; unreadable ones are counted and noted by their number."""
        cursor, add = self.cursor, self.fold.add
        contains = self.run.within.contains if self.run.within else None
        rows, outside = cursor.rows, 0
        for line in lines:
            cursor.rows += 1
            try:
                event = parse_queue_log_line(line)
            except UnreadableLine as error:
                cursor.add_unreadable(cursor.rows, str(error), line)
            else:
                if contains is not None and event is not None and not contains(event.at_s):
                    outside += 1
                elif event is not None:
                    add(event)
        self.result.rows += cursor.rows - rows - outside
        leave_out_blank(cursor, lines)

    def commit(self, position: int, *, at_end: bool = False) -> None:
        """Store what was added, together with the position up to which the source was read.

        `at_end`: no more events follow, so the fold hands out what it held back.
        """
        found = self.fold.take(at_end=at_end)
        result, connection_id = self.result, self.run.connection_id
        self.cursor.position = position
        with self.run.storing("queue_log", self.cursor) as session:
            stored = store_visits(session, connection_id, found.visits, "queue_log")
            result.rings += store_rings(session, connection_id, found.rings)
            result.agent_events += store_agent_events(session, connection_id, found.agent_events)
        result.visits += max(stored - self._counted_before(found.visits), 0)

    def finish(self) -> QueueLogResult:
        """Store what was held back, and return the counts."""
        self.commit(self.cursor.position, at_end=True)
        self.result.unknown = dict(self.fold.unknown - self._unknown_before)
        self.result.count_unreadable(self.cursor, self._unreadable_before)
        return self.result

    def _counted_before(self, visits: Iterable[Visit]) -> int:
        """How many of these visits were counted when they were stored in progress."""
        counted = 0
        for visit in visits:
            key = visit.uniqueid, visit.queue, visit.joined_at
            counted += key in self._unfinished
            (self._unfinished.add if visit.outcome == "in_progress" else self._unfinished.discard)(key)
        return counted
