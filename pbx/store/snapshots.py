"""Stores snapshots, and reads the history of queues from them.

Each snapshot is one row. Queues and trunks have a sample for every snapshot, members and extensions only for changes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlmodel
from pydantic import ValidationError
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    delete,
    func,
    insert,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlmodel import Session

from pbx.model.snapshot import Queue, Snapshot, Trunk
from pbx.store.counter_resets import store_resets
from pbx.store.models import LatestSnapshot, SnapshotRow, SubjectKind, Table, UtcSeconds, now
from pbx.store.safe_values import bounded_text

GAP_INTERVALS = 2.5  # intervals without a snapshot that make a gap; a single missed snapshot doesn't

Values = dict[str, Any]
TableColumns = ReadOnlyColumnCollection[str, Column[Any]]
Conditions = list[ColumnElement[bool]]

SUBJECTS, QUEUES, TRUNKS, MEMBERS, EXTENSIONS = (
    Table.metadata.tables[name]
    for name in ("subjects", "queue_samples", "trunk_samples", "member_samples", "extension_samples")
)
SUBJECT = SUBJECTS.c
_GONE_MEMBER: Values = {"status": None, "paused": False, "pause_reason": "", "in_call": False}


class SubjectKey(NamedTuple):
    """Identifies a subject of a PBX. A trunk has no `tech`: it stays the same subject if its technology changes."""

    kind: SubjectKind
    name: str
    tech: str = ""
    parent: str = ""


SampledValues = dict[SubjectKey, Values]


@dataclass(frozen=True)
class QueuePoint:
    """The extremes of a queue within a bucket of time: most calls, longest wait, fewest available agents.

    `taken_at` is the time of the first snapshot in the bucket.
    """

    taken_at: datetime
    calls: int
    longest_wait_s: int
    agents_available: int
    agents: int
    agents_paused: int


def record_snapshot(session: Session, connection_id: int, snapshot: Snapshot) -> None:
    """Store a snapshot. A part that isn't `ok` adds no samples, because unknown is not the same as empty.

    If two snapshots were taken in the same second, the first one is kept.
    """
    if not _add_row(session, connection_id, snapshot):
        return
    writer = _Writer(session.connection(), connection_id, snapshot.taken_at)
    ok = {name for name, part in snapshot.parts.items() if part.state == "ok"}
    if "queues" in ok:
        members = {_key("member", m.interface, parent=q.name): m for q in snapshot.queues for m in q.members}
        writer.add_all(QUEUES, "queue", {_key("queue", queue.name): _queue_values(queue) for queue in snapshot.queues})
        writer.name_subjects("member", {key: bounded_text(member.name) for key, member in members.items()})
        writer.add_changes(
            MEMBERS,
            "member",
            {key: member.model_dump(include=set(_GONE_MEMBER)) for key, member in members.items()},
            gone=_GONE_MEMBER,
        )
    if "trunks" in ok:
        writer.add_all(TRUNKS, "trunk", _trunk_samples(snapshot.trunks))
    if "extensions" in ok:
        found = {_key("extension", e.extension, e.tech): {"status": e.status} for e in snapshot.extensions}
        writer.add_changes(EXTENSIONS, "extension", found, gone={"status": ""})


def _key(kind: SubjectKind, name: str, tech: str = "", parent: str = "") -> SubjectKey:
    return SubjectKey(kind, *map(bounded_text, (name, tech, parent)))


def store_latest(session: Session, connection_id: int, snapshot: Snapshot) -> None:
    """Make a snapshot the latest one, without adding it to the history.

    A snapshot older than the latest one is ignored, unless the latest one is in the future because the clock was set
    back. Counters that restarted since the previous snapshot are recorded: see pbx.store.counter_resets.
    """
    at = snapshot.taken_at.replace(microsecond=0)
    latest = session.get(LatestSnapshot, connection_id)
    if latest is None or latest.taken_at <= at or latest.taken_at > now():
        if latest is not None and (before := _parse(latest)) is not None:
            store_resets(session, connection_id, before, snapshot)
        session.merge(LatestSnapshot(connection_id=connection_id, taken_at=at, document=snapshot.model_dump_json()))


def store_trunk_changes(session: Session, connection_id: int, at: datetime, trunks: Iterable[Trunk]) -> None:
    """Add a sample of each of these trunks at the time `at` of its change, replacing any sample of the same second."""
    _Writer(session.connection(), connection_id, at.replace(microsecond=0)).add_all(
        TRUNKS, "trunk", _trunk_samples(trunks)
    )


def latest_snapshot(session: Session, connection_id: int) -> Snapshot | None:
    """Return the latest snapshot in full.

    None before the first one, or if another version of the app stored it in a different format.
    """
    row = session.get(LatestSnapshot, connection_id)
    return None if row is None else _parse(row)


def _parse(row: LatestSnapshot) -> Snapshot | None:
    try:
        return Snapshot.model_validate_json(row.document)
    except ValidationError:
        return None


def latest_taken_at(session: Session, connection_id: int) -> datetime | None:
    """Return when the latest snapshot was taken; None before the first one."""
    column = LatestSnapshot.__table__.c  # type: ignore[attr-defined]
    mine = select(column.taken_at).where(column.connection_id == connection_id)
    return session.connection().scalar(mine)


def queue_history(
    session: Session, connection_id: int, queue: str, since: datetime, until: datetime, points: int = 1500
) -> list[QueuePoint]:
    """Return the history of a queue from `since` up to `until`, in about `points` buckets at most.

    With fewer snapshots, each has a point of its own. Times without a snapshot have no point: see `snapshot_gaps`.
    """
    sample = QUEUES.c
    query = (
        select(
            func.min(sample.taken_at),
            func.max(sample.calls),
            func.max(sample.longest_wait_s),
            func.min(sample.agents_available),
            func.max(sample.agents),
            func.max(sample.agents_paused),
        )
        .where(*_samples_of(sample, connection_id, "queue", queue), *_within(sample.taken_at, since, until))
        .group_by(_seconds(sample.taken_at) // _bucket_s(since, until, points))
        .order_by(func.min(sample.taken_at))
    )
    return [QueuePoint(*row) for row in session.connection().execute(query)]


def snapshot_gaps(
    session: Session, connection_id: int, since: datetime, until: datetime, interval_s: int
) -> list[tuple[datetime, datetime]]:
    """Return the (start, end) times of gaps in the snapshots, if one was due every `interval_s` seconds.

    A gap extends from the last snapshot before it to the first one after it, limited to `since` and `until` (or now, if
    that is earlier).
    """
    until = min(until, datetime.now(UTC))
    if since >= until:
        return []
    row = Table.metadata.tables["snapshots"].c
    execute, mine = session.connection().execute, row.connection_id == connection_id
    first = execute(select(func.max(row.taken_at)).where(mine, row.taken_at <= since)).scalar() or since
    last = execute(select(func.min(row.taken_at)).where(mine, row.taken_at >= until)).scalar() or until
    before = func.lag(row.taken_at, 1, literal(first, UtcSeconds()), type_=UtcSeconds()).over(order_by=row.taken_at)
    looks = select(row.taken_at, before.label("before")).where(mine, row.taken_at.between(first, last)).subquery().c
    tolerance_s = interval_s * GAP_INTERVALS
    missed = _seconds(looks.taken_at) - _seconds(looks.before) > tolerance_s
    gaps = [tuple(gap) for gap in execute(select(looks.before, looks.taken_at).where(missed).order_by(looks.before))]
    newest = execute(select(func.max(row.taken_at)).where(mine, row.taken_at <= last)).scalar() or first
    if (last - newest).total_seconds() > tolerance_s:
        gaps.append((newest, last))
    return [(max(start, since), min(end, until)) for start, end in gaps]


def _add_row(session: Session, connection_id: int, snapshot: Snapshot) -> bool:
    at = snapshot.taken_at.replace(microsecond=0)
    query = sqlmodel.select(SnapshotRow).where(SnapshotRow.connection_id == connection_id, SnapshotRow.taken_at == at)
    if session.exec(query).first() is not None:
        return False
    session.add(
        SnapshotRow(
            connection_id=connection_id,
            taken_at=at,
            took_ms=snapshot.took_ms,
            active_calls=len(snapshot.active_calls),
            channels=snapshot.system.channels if snapshot.system else 0,
            incomplete_parts={name: part.model_dump() for name, part in snapshot.parts.items() if part.state != "ok"},
        )
    )
    store_latest(session, connection_id, snapshot)
    return True


def _trunk_samples(trunks: Iterable[Trunk]) -> SampledValues:
    own = {"state", "roundtrip_ms", "channels"}
    return {_key("trunk", trunk.name): trunk.model_dump(include=own) for trunk in trunks}


def _queue_values(queue: Queue) -> Values:
    return {
        "calls": queue.calls,
        "longest_wait_s": queue.longest_wait_s,
        "agents_available": queue.agents_available,
        "agents": len(queue.members),
        "agents_paused": sum(member.paused for member in queue.members),
        "completed": queue.completed,
        "abandoned": queue.abandoned,
        "hold_time_s": queue.hold_time_s,
        "talk_time_s": queue.talk_time_s,
    }


@dataclass(frozen=True)
class _Writer:
    """Writes the samples of one snapshot."""

    connection: Connection
    connection_id: int
    taken_at: datetime

    def add_all(self, table: SqlTable, kind: SubjectKind, found: SampledValues) -> None:
        ids = self._ids(kind, found)
        again = table.c.subject_id.in_([ids[key] for key in found]), table.c.taken_at == self.taken_at
        self.connection.execute(delete(table).where(*again))  # the sample of a live change in the same second
        self._insert(table, {ids[key]: values for key, values in found.items()})

    def add_changes(self, table: SqlTable, kind: SubjectKind, found: SampledValues, gone: Values) -> None:
        """Add samples that differ from the last stored ones. Subjects that no longer exist get the values `gone`."""
        ids = self._ids(kind, found)
        older = table.alias().c
        newest = select(func.max(older.taken_at)).where(older.subject_id == SUBJECT.id, older.taken_at < self.taken_at)
        query = select(table).where(
            *_samples_of(table.c, self.connection_id, kind),
            table.c.taken_at == newest.correlate(SUBJECTS).scalar_subquery(),
        )
        rows = self.connection.execute(query).mappings()
        last = {row["subject_id"]: {name: row[name] for name in gone} for row in rows}
        current = dict.fromkeys(last, gone) | {ids[key]: values for key, values in found.items()}
        self._insert(table, {id_: values for id_, values in current.items() if last.get(id_) != values})

    def name_subjects(self, kind: SubjectKind, labels: dict[SubjectKey, str]) -> None:
        """Store the labels that have changed."""
        ids = self._ids(kind, labels)
        mine = select(SUBJECT.id, SUBJECT.label).where(
            SUBJECT.connection_id == self.connection_id, SUBJECT.kind == kind
        )
        stored = {row.id: row.label for row in self.connection.execute(mine)}
        for key, label in labels.items():
            if stored[ids[key]] != label:
                self.connection.execute(update(SUBJECTS).where(SUBJECT.id == ids[key]).values(label=label))

    def _ids(self, kind: SubjectKind, keys: Iterable[SubjectKey]) -> dict[SubjectKey, int]:
        """Add the subjects in `keys` that are new, and return the ids of all subjects of this kind."""
        query = select(SUBJECT.id, SUBJECT.name, SUBJECT.tech, SUBJECT.parent).where(
            SUBJECT.connection_id == self.connection_id, SUBJECT.kind == kind
        )
        ids = {SubjectKey(kind, *key): id_ for id_, *key in self.connection.execute(query)}
        new = [key._asdict() | {"connection_id": self.connection_id, "label": ""} for key in keys if key not in ids]
        if not new:
            return ids
        self.connection.execute(insert(SUBJECTS), new)
        return {SubjectKey(kind, *key): id_ for id_, *key in self.connection.execute(query)}

    def _insert(self, table: SqlTable, samples: dict[int, Values]) -> None:
        if samples:
            rows = [values | {"subject_id": id_, "taken_at": self.taken_at} for id_, values in samples.items()]
            self.connection.execute(insert(table), rows)


def _samples_of(sample: TableColumns, connection_id: int, kind: SubjectKind, name: str | None = None) -> Conditions:
    conditions = [sample.subject_id == SUBJECT.id, SUBJECT.connection_id == connection_id, SUBJECT.kind == kind]
    return conditions if name is None else [*conditions, SUBJECT.name == name]


def _within(column: ColumnElement[Any], since: datetime, until: datetime) -> Conditions:
    return [column >= since, column < until]


def _seconds(column: ColumnElement[Any]) -> ColumnElement[int]:
    return type_coerce(column, BigInteger)


def _bucket_s(since: datetime, until: datetime, points: int) -> int:
    return max(1, math.ceil((until - since).total_seconds() / points))
