"""Claims, reports, ends and requeues work in a table: the same rules apply to jobs and to transcriptions.

A row is queued until a worker claims it. Every later update is conditional on the worker that claimed the row, so a
worker can't change a row that was cancelled or claimed by another worker in the meantime. A worker is identified by its
process lock (pbx.process_lock). If the lock is free, the worker is dead and its rows are requeued, or fail after three
attempts.
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
    """A table whose rows are units of work, with its own names for their states.

    The table needs the columns state, worker, attempts, started_at, ended_at and error. `key` is the name of its
    primary key. `running` and `done` are its states for work in progress and work that succeeded. `died_text` returns
    the error text for a number of attempts that all ended because the worker died. `ended_values` are set whenever a
    row ends.
    """

    table: Table
    key: str
    running: str
    done: str
    died_text: Callable[[int], str]
    ended_values: Mapping[str, Any] = field(default_factory=dict)

    def claim(self, session: Session, worker: str, keys: Sequence[Any]) -> int:
        """Claim queued rows for a worker and count the attempt; returns how many of them were still queued."""
        columns = self.table.c
        values = {"state": self.running, "worker": worker, "started_at": now(), "attempts": columns.attempts + 1}
        queued = and_(columns[self.key].in_(keys), columns.state == "queued")
        return session.connection().execute(update(self.table).where(queued).values(values)).rowcount

    def report(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        """Store progress; returns False if the row is no longer claimed by this worker."""
        mine = and_(self.table.c[self.key] == key, self.claimed_by(worker))
        return session.connection().execute(update(self.table).where(mine).values(values)).rowcount > 0

    def complete(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        """Mark a row as done; returns False if it is no longer claimed by this worker."""
        return self._end(session, worker, key, state=self.done, error="", **values)

    def fail(self, session: Session, worker: str, key: Any, error: str, **values: Any) -> bool:
        """Mark a row as failed, with an error for the user; returns False if it is no longer claimed by this worker."""
        return self._end(session, worker, key, state="failed", error=error, **values)

    def requeue(self, session: Session, worker: str, *, died: bool) -> list[tuple[Any, str]]:
        """Requeue a worker's rows; returns (key, "queued" or "failed") for each.

        A row fails instead if its worker died and this was the last attempt. A clean stop doesn't count as an attempt.
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
        """Return the names of the workers that have claimed rows."""
        columns = self.table.c
        return sorted(set(session.connection().scalars(select(columns.worker).where(self._is_running()))))

    def dead_workers(self, engine: Engine, data_dir: Path) -> Iterator[str]:
        """Yield the dead workers that have claimed rows, holding the process lock of each until the next one."""
        with reading(engine) as session:
            workers = self.workers(session)
        for worker in workers:
            lock = try_process_lock(data_dir, worker)
            if lock is not None:
                with lock:
                    yield worker

    def claimed_by(self, worker: str) -> ColumnElement[bool]:
        """Return the SQL condition for the rows that a worker has claimed."""
        return and_(self._is_running(), self.table.c.worker == worker)

    def _is_running(self) -> ColumnElement[bool]:
        # A literal, because SQLite doesn't use a partial index on this state if the state is a parameter.
        return self.table.c.state == literal_column(f"'{self.running}'")

    def _end(self, session: Session, worker: str, key: Any, **values: Any) -> bool:
        return self.report(session, worker, key, ended_at=now(), **self.ended_values, **values)
