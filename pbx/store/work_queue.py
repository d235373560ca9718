"""How work in a table is claimed, reported, ended and queued again: the same rules for jobs and for transcriptions.

A row is queued until a worker claims it. Every later update is conditional on the worker that claimed the row, so a
worker changes nothing in a row that was cancelled or given to another worker in the meantime. A worker is known by its
process lock (pbx.process_lock): rows of a worker whose lock is free are queued again, and fail after three attempts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, literal_column, select, update
from sqlmodel import Session

from pbx.process_lock import try_process_lock
from pbx.store.engine import reading
from pbx.store.models import now

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class WorkQueue:
    """A table whose rows are work, with its own words for the states.

    The table needs the columns state, worker, attempts, started_at, ended_at and error. `key` names its primary key,
    `running` and `done` are its states for work in progress and for work that succeeded. `died_text` gives the error
    for a number of attempts that all ended with the death of a worker. `ended_values` are set whenever a row ends.
    """

    table: Table
    key: str
    running: str
    done: str
    died_text: Callable[[int], str]
    ended_values: Mapping[str, Any] = field(default_factory=dict)

    def claim(self, session: Session, worker: str, keys: Sequence[Any]) -> int:
        """Give queued rows to a worker and count the attempt; returns how many of them were still queued."""
        columns = self.table.c
        values = {"state": self.running, "worker": worker, "started_at": now(), "attempts": columns.attempts + 1}
        queued = and_(columns[self.key].in_(keys), columns.state == "queued")
        return session.connection().execute(update(self.table).where(queued).values(values)).rowcount

    def report(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        """Store progress; False when the row no longer belongs to this worker."""
        mine = and_(self.table.c[self.key] == key, self.claimed_by(worker))
        return session.connection().execute(update(self.table).where(mine).values(values)).rowcount > 0

    def complete(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        """End a row as done; False when it no longer belongs to this worker."""
        return self._end(session, worker, key, state=self.done, error="", **values)

    def fail(self, session: Session, worker: str, key: Any, error: str, **values: Any) -> bool:
        """End a row as failed, with a sentence for the user; False when it no longer belongs to this worker."""
        return self._end(session, worker, key, state="failed", error=error, **values)

    def requeue(self, session: Session, worker: str, *, died: bool) -> list[tuple[Any, str]]:
        """Queue a worker's rows again; returns (key, "queued" or "failed") of each.

        A row fails instead when its worker died and this was the last attempt. An orderly stop counts no attempt.
        """
        columns = self.table.c
        rows = session.connection().execute(select(columns[self.key], columns.attempts).where(self.claimed_by(worker)))
        requeued = []
        for key, attempts in rows.all():
            if died and attempts >= MAX_ATTEMPTS:
                self.fail(session, worker, key, self.died_text(attempts))
                requeued.append((key, "failed"))
            else:
                self.report(session, worker, key, state="queued", attempts=attempts - (not died))
                requeued.append((key, "queued"))
        return requeued

    def workers(self, session: Session) -> list[str]:
        """The names of the workers that have claimed rows."""
        columns = self.table.c
        return sorted(set(session.connection().scalars(select(columns.worker).where(self._is_running()))))

    def dead_workers(self, engine: Engine, data_dir: Path) -> Iterator[str]:
        """The workers that claimed rows and no longer run; the process lock of each is held until the next one."""
        with reading(engine) as session:
            workers = self.workers(session)
        for worker in workers:
            lock = try_process_lock(data_dir, worker)
            if lock is not None:
                with lock:
                    yield worker

    def claimed_by(self, worker: str) -> ColumnElement[bool]:
        """The condition for the rows that a worker has claimed."""
        return and_(self._is_running(), self.table.c.worker == worker)

    def _is_running(self) -> ColumnElement[bool]:
        # A literal, not a parameter: only then does SQLite use a partial index on this state.
        return self.table.c.state == literal_column(f"'{self.running}'")

    def _end(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        return self.report(session, worker, key, ended_at=now(), **self.ended_values, **values)
