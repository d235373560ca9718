"""The CDR into the cache: from a database, by ranges of time, or from Master.csv. Reading again is harmless.

What is read is stored together with the mark of how far it was read, so that an import may end at any moment.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.formats.cdr import BadRow, Clock, learn_clock, local_moment, parse_cdr_row
from pbx.asterisk.formats.master_csv import Layout, join_lines, layout_of, link_legs, parse_master_csv_line
from pbx.errors import PbxError
from pbx.imports.cdr_tables import CdrTable, RowBatch
from pbx.imports.databases import database_mark, open_source, source_url
from pbx.imports.file_types import check_read, refuse_other
from pbx.imports.files import (
    HEAD_BYTES,
    is_finished,
    leave_out_blank,
    mark_of,
    open_history,
    read_lines,
    skip_to,
    source_of,
)
from pbx.imports.time_range import WHATEVER_IS_NEW, TimeRange
from pbx.model.history import Leg
from pbx.progress import Progress
from pbx.store.connections import ActiveConnection
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import ImportCursor, load_cursors, move_cursor
from pbx.store.legs import known_trunks, store_legs
from pbx.store.recordings import learn_utc_offset, utc_offset_s
from pbx.store.snapshots import record_snapshot

CdrRow = Mapping[str, Any]
_ANY_ZONE = timedelta(hours=15)  # further no clock is from UTC
_OVERLAP = timedelta(days=1)  # read again: a row is dated by its call's start and written at its end
_BEFORE = timedelta(hours=2)  # and so much before it, for rows without a linkedid whose call had begun
_STORE_AT_ONCE = 5000  # rows per transaction, so that other writers get their turn
_CARRIED = 200  # lines of a file whose call may go on in the next block


class CdrResult(BaseModel):
    """What an import read. `legs` and `calls` were not known before; `faults` are the first bad rows: [number, why].

    `failure`: why nothing or not all of it could be read, for people.
    """

    source: str
    rows: int = 0
    legs: int = 0
    calls: int = 0
    bad: int = 0
    faults: list[tuple[int, str]] = []
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _CdrImport:
    """Where to, and how rows are understood."""

    engine: Engine
    connection_id: int
    trunks: frozenset[str]
    zone: tzinfo | None  # the PBX's, if it is known
    certain: bool
    within: TimeRange

    @classmethod
    def of(cls, engine: Engine, active: ActiveConnection, within: TimeRange) -> "_CdrImport":
        with reading(engine) as session:
            trunks = known_trunks(session, active.id)
            offset_s = utc_offset_s(session, active.id)
        if not trunks and active.connection.ami_username:
            trunks = _fetch_trunks(engine, active)
        if active.connection.timezone:
            return cls(engine, active.id, trunks, ZoneInfo(active.connection.timezone), True, within)
        zone = None if offset_s is None else timezone(timedelta(seconds=offset_s))
        return cls(engine, active.id, trunks, zone, False, within)

    def wanted(self, legs: Sequence[Leg]) -> Sequence[Leg]:
        """Those of the stretch that is read."""
        return [leg for leg in legs if self.within.holds(leg.started_at.timestamp())] if self.within else legs

    def store(self, legs: Sequence[Leg], mark: ImportCursor | None, told: CdrResult) -> None:
        """Store legs, and in the same transaction how far was read, and count what is new."""
        with writing(self.engine) as session:
            stored = store_legs(session, self.connection_id, legs, "cdr")
            if mark is not None and not self.within:
                move_cursor(session, self.connection_id, "cdr", mark)
        told.legs, told.calls = told.legs + stored.legs, told.calls + stored.calls


def _fetch_trunks(engine: Engine, active: ActiveConnection) -> frozenset[str]:
    """The PBX's trunks from a new snapshot; none when the PBX can't be reached.

    Without them no call counts as outbound, and calls imported like that stay so.
    """
    with suppress(PbxError):
        with AmiClient.connect(active.connection) as client:
            snapshot = take_snapshot(client)
        with writing(engine) as session:
            record_snapshot(session, active.id, snapshot)
        return frozenset(trunk.name for trunk in snapshot.trunks)
    return frozenset()


def import_cdr_database(
    engine: Engine,
    active: ActiveConnection,
    address: str,
    *,
    table: str = "cdr",
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> CdrResult:
    """Read what is new in a database's CDR, and its last known day once more; or the calls that began in a stretch.

    The database is read only, and not locked. It works without any index: ranges of time are as long as their number of
    rows allows. `progress(done, total)` is in seconds of the time covered. Raises SettingsError for an address that
    isn't one, Unreachable, DataError when the table isn't there or isn't a CDR.
    """
    url = source_url(address)
    target, mark = _CdrImport.of(engine, active, within), database_mark(engine, active.id, "cdr", url, table)
    if within:
        mark = ImportCursor(mark.source, mark.label)
    with open_source(url) as source, source.connect() as connection:
        work = _DatabaseImport(target, CdrTable(connection, table), mark, stop or threading.Event(), progress)
        return work.run()


def count_cdr(connection: Connection, mark: ImportCursor) -> int:
    """How many rows of the table cdr were never read. Raises DataError when it isn't a CDR."""
    return CdrTable(connection, "cdr").count(_local(mark.position) if mark.position else None)


def import_cdr_file(
    engine: Engine,
    active: ActiveConnection,
    path: Path,
    *,
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> CdrResult:
    """Read what is new in a CDR file, plain or gzip, under whatever name; or the calls that began in a stretch.

    `progress(done, total)` is in bytes.

    A row that isn't finished is left for the next time. Raises SettingsError when there is no such file, DataError
    when it, or all that is in it, can't be read.
    """
    target = _CdrImport.of(engine, active, within)
    with reading(engine) as session:
        marks = [] if within else load_cursors(session, active.id, "cdr")
    total = path.stat().st_size if path.is_file() else None
    with open_history(path) as (stream, raw):
        finished, head = is_finished(path), stream.read(HEAD_BYTES)
        mark = mark_of(head, [mark for mark in marks if mark.source[:1].isdecimal()]) or ImportCursor(source_of(head))
        mark.source, mark.label = source_of(head), path.name
        if mark.rows == mark.bad:
            refuse_other(path, "cdr")
        stream.seek(0)
        if mark.rows == mark.bad or not skip_to(stream, mark.position):
            # Nothing could be read of it yet, or it was cut and has the same first lines.
            mark.position = mark.rows = mark.bad = 0
            mark.faults = []
        told, bad = CdrResult(source=path.name), mark.bad
        layout = layout_of(head.partition(b"\n")[0])
        carried: list[Leg] = []
        for rows, position in _read_rows(stream, mark.position, layout, to_the_end=finished):
            read, linked = _legs_of(rows, layout, target, mark)
            leave_out_blank(mark, rows)
            told.rows += len(rows) - len(read) + len(target.wanted(read))
            legs = link_legs([*carried, *read], linked)
            mark.position = position
            target.store(target.wanted(legs), mark, told)
            carried = legs[-_CARRIED:]
            if progress is not None:
                progress(raw.tell(), total)
            if stop is not None and stop.is_set():
                break
    check_read(path, mark, "cdr")
    return _ended(told, mark, bad)


def _read_rows(
    stream: BinaryIO, position: int, layout: Layout, *, to_the_end: bool
) -> Iterator[tuple[list[bytes], int]]:
    """Blocks of complete rows without the header, and the position behind each block."""
    begun: list[bytes] = []
    for lines, behind in read_lines(stream, position, to_the_end=to_the_end):
        rows, begun = join_lines([*begun, *(lines[1:] if layout.columns and position == 0 else lines)], layout)
        yield rows, behind - sum(map(len, begun)) - len(begun)
        position = behind
    if begun and to_the_end:
        yield [b"\n".join(begun)], position


def _legs_of(
    rows: Sequence[bytes], layout: Layout, target: _CdrImport, mark: ImportCursor
) -> tuple[list[Leg], set[str]]:
    """Rows as legs, each counted in the mark, and the uniqueids of those that have a linkedid."""
    numbered: list[tuple[int, CdrRow]] = []
    for line in rows:
        mark.rows += 1
        try:
            if (row := parse_master_csv_line(line, layout)) is not None:
                numbered.append((mark.rows, row))
        except BadRow as fault:
            mark.note_bad(mark.rows, str(fault), line)
    clock = learn_clock((row for _, row in numbered), target.zone, certain=target.certain)
    return _parsed(numbered, clock, target, mark)


def _parsed(
    numbered: Sequence[tuple[int | None, CdrRow]], clock: Clock, target: _CdrImport, mark: ImportCursor
) -> tuple[list[Leg], set[str]]:
    """Rows as legs, and the uniqueids of those that have a linkedid.

    Rows with a number are noted in the mark when they are bad; the others were seen before.
    """
    legs, linked = [], set()
    for number, row in numbered:
        try:
            legs.append(leg := parse_cdr_row(row, clock, target.trunks))
        except BadRow as fault:
            if number is not None:
                mark.note_bad(number, str(fault), ", ".join(str(value) for value in row.values() if value))
        else:
            if row.get("linkedid"):
                linked.add(leg.uniqueid)
    return legs, linked


class _DatabaseImport:
    """One import from a table."""

    def __init__(
        self, target: _CdrImport, table: CdrTable, mark: ImportCursor, stop: threading.Event, progress: Progress | None
    ) -> None:
        self.target, self.table, self.mark, self.stop, self.progress = target, table, mark, stop, progress
        self.zone = target.zone
        self.known_until = _local(mark.position)  # rows from before were counted when they were read first
        self.begun_s: int | None = None
        self.told = CdrResult(source=mark.label)

    def run(self) -> CdrResult:
        """Read and store, batch by batch."""
        bad = self.mark.bad
        carried: list[Leg] = []
        for rows, until, last in self._batches():
            clock = learn_clock(rows, self.zone, certain=self.target.certain)
            if self.zone is None and clock.zone is not UTC:
                self.zone = clock.zone
                self._tell_offset(clock)
            legs, linked = _parsed(self._counted(rows), clock, self.target, self.mark)
            self.told.rows -= len(legs) - len(self.target.wanted(legs))
            if any(leg.uniqueid not in linked for leg in legs):  # of FreePBX up to 12, or of Issabel
                legs = link_legs(sorted([*carried, *legs], key=lambda leg: leg.started_at), linked)
                carried = legs[-_CARRIED:]
            wanted = [leg for leg in self.target.wanted(legs) if leg.started_at >= self._stored_from(clock)]
            while True:
                part, wanted = wanted[:_STORE_AT_ONCE], wanted[_STORE_AT_ONCE:]
                if not wanted and until is not None:
                    # A date that lies ahead was wrong, and must not hide what comes.
                    now_s = _seconds_of(datetime.now(clock.zone).replace(tzinfo=None))
                    self.mark.position = max(self.mark.position, min(_seconds_of(until), now_s))
                # Rows come in no order: the mark moves, and they are counted, once the range is read to its end.
                self.target.store(part, None if wanted else self.mark, self.told)
                if not wanted:
                    break
            self._tell_progress(until, last)
            if self.stop.is_set():
                break
        return _ended(self.told, self.mark, bad)

    def _stored_from(self, clock: Clock) -> datetime:
        """From when on legs are stored; those before only show which call they belong to."""
        if self.target.within or self.known_until <= _local(0) + _OVERLAP:
            return datetime.min.replace(tzinfo=UTC)
        return clock.to_utc(self.known_until - _OVERLAP, None)

    def _batches(self) -> Iterator[RowBatch]:
        within = self.target.within
        if not within:
            return self.table.batches(self.known_until - _OVERLAP - _BEFORE if self.mark.position else None)
        since, until = within.since or datetime.fromtimestamp(0, UTC), within.until or datetime.now(UTC) + _OVERLAP
        # Whatever the PBX's zone is: legs outside are left out once their time is understood.
        return self.table.batches(
            *(at.astimezone(UTC).replace(tzinfo=None) + by for at, by in ((since, -_ANY_ZONE), (until, _ANY_ZONE)))
        )

    def _counted(self, rows: Sequence[CdrRow]) -> list[tuple[int | None, CdrRow]]:
        numbered: list[tuple[int | None, CdrRow]] = []
        for row in rows:
            local = local_moment(row[self.table.dated_by])
            new = local is None or local >= self.known_until
            self.mark.rows += new
            self.told.rows += new
            numbered.append((self.mark.rows if new else None, row))
        return numbered

    def _tell_offset(self, clock: Clock) -> None:
        """The recordings' names may not tell the PBX's offset to UTC: keep what its CDR does."""
        ahead = clock.zone.utcoffset(None)
        if ahead:
            with writing(self.target.engine) as session:
                learn_utc_offset(session, self.target.connection_id, int(ahead.total_seconds()))

    def _tell_progress(self, until: datetime | None, last: datetime) -> None:
        if until is not None and self.progress is not None:
            at_s = _seconds_of(until)
            self.begun_s = at_s if self.begun_s is None else self.begun_s
            self.progress(at_s - self.begun_s, max(_seconds_of(last) - self.begun_s, 1))


def _ended(told: CdrResult, mark: ImportCursor, bad_before: int) -> CdrResult:
    told.bad, told.faults = mark.bad - bad_before, mark.faults[bad_before:]
    return told


def _local(position: int) -> datetime:
    """A mark's position as local time: seconds since 1970 by the PBX's own clock, whatever its zone."""
    return datetime.fromtimestamp(position, UTC).replace(tzinfo=None)


def _seconds_of(local: datetime) -> int:
    return int(local.replace(tzinfo=UTC).timestamp())
