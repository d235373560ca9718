"""Imports the CDR: from a database, by ranges of time, or from Master.csv. Reading it again changes nothing.

Rows are stored together with the cursor that shows how far their source was read, so an import may end at any moment.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, BinaryIO, Literal
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from pbx.asterisk.ami.client import AmiClient
from pbx.asterisk.ami.queries import take_snapshot
from pbx.asterisk.formats.cdr import Clock, UnreadableRow, learn_clock, local_moment, parse_cdr_row
from pbx.asterisk.formats.master_csv import CsvLayout, join_lines, layout_of, link_legs, parse_master_csv_line
from pbx.errors import PbxError
from pbx.imports.cdr_database import MAX_UTC_OFFSET, CdrTable, RowBatch, local_time, seconds_of
from pbx.imports.databases import open_source, source_url
from pbx.imports.files import leave_out_blank, read_lines
from pbx.imports.run import ImportRun, RowCounts
from pbx.model.history import Leg
from pbx.store.chunks import chunks
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import ImportCursor
from pbx.store.legs import known_trunks, store_legs
from pbx.store.recordings import learn_utc_offset, utc_offset_s
from pbx.store.snapshots import record_snapshot

CdrRow = Mapping[str, Any]
_OVERLAP = timedelta(days=1)  # read again: a row is dated by its call's start and written at the call's end
_BEFORE_OVERLAP = timedelta(hours=2)  # read too, for rows without a linkedid whose call began before the overlap
_ROWS_PER_TRANSACTION = 5000  # so that other writers get their turn
_CARRIED = 200  # last legs of a block, whose call may continue in the next block


class CdrResult(RowCounts):
    """What an import read from a CDR file or table. `legs` and `calls` count those that were not known before."""

    kind: Literal["cdr"] = "cdr"
    legs: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class _LegStore:
    """Where legs are stored, and what is needed to understand CDR rows: the trunks and the PBX's clock."""

    run: ImportRun
    trunks: frozenset[str]
    zone: tzinfo | None  # the PBX's, where it is known
    certain: bool

    @classmethod
    def of(cls, run: ImportRun) -> "_LegStore":
        with reading(run.engine) as session:
            trunks = known_trunks(session, run.connection_id)
            offset_s = utc_offset_s(session, run.connection_id)
        connection = run.active.connection
        if not trunks and connection.ami_username:
            trunks = _fetch_trunks(run)
        if connection.timezone:
            return cls(run, trunks, ZoneInfo(connection.timezone), True)
        zone = None if offset_s is None else timezone(timedelta(seconds=offset_s))
        return cls(run, trunks, zone, False)

    def in_range(self, legs: Sequence[Leg]) -> Sequence[Leg]:
        """The legs that began in the run's time range; all of them without one."""
        within = self.run.within
        return [leg for leg in legs if within.contains(leg.started_at.timestamp())] if within else legs

    def store(self, legs: Sequence[Leg], cursor: ImportCursor | None, result: CdrResult) -> None:
        """Store legs and, in the same transaction, how far was read; count those that are new."""
        with self.run.storing("cdr", cursor) as session:
            stored = store_legs(session, self.run.connection_id, legs, "cdr")
        result.legs, result.calls = result.legs + stored.legs, result.calls + stored.calls


def _fetch_trunks(run: ImportRun) -> frozenset[str]:
    """The PBX's trunks from a new snapshot; none when the PBX can't be reached.

    Without them no call counts as outbound, and the calls imported now stay that way.
    """
    with suppress(PbxError):
        with AmiClient.connect(run.active.connection) as client:
            snapshot = take_snapshot(client)
        with writing(run.engine) as session:
            record_snapshot(session, run.connection_id, snapshot)
        return frozenset(trunk.name for trunk in snapshot.trunks)
    return frozenset()


def import_cdr_database(run: ImportRun, address: str, *, table: str = "cdr") -> CdrResult:
    """Read what is new in a database's CDR, and its last known day again; or the calls in the run's time range.

    The table is only read, not locked, and needs no index: each statement covers as much time as its number of rows
    allows. Raises SettingsError for an address that isn't one, Unreachable, DataError when the table doesn't exist or
    isn't a CDR.
    """
    url = source_url(address)
    legs, cursor = _LegStore.of(run), run.table_cursor("cdr", url, table)
    with open_source(url) as source, source.connect() as connection:
        return _TableImport(run, legs, CdrTable(connection, table), cursor).import_rows()


def count_cdr(connection: Connection, cursor: ImportCursor) -> int:
    """How many rows of the table cdr were never read. Raises DataError when it isn't a CDR."""
    return CdrTable(connection, "cdr").count(local_time(cursor.position) if cursor.position else None)


def import_cdr_file(run: ImportRun, path: Path) -> CdrResult:
    """Read what is new in a CDR file, plain or gzip, under whatever name; or the calls in the run's time range.

    An unfinished last row is left for the next import. Raises SettingsError when there is no such file, UnreadableFile
    when it, or every row of it, can't be read.
    """
    store = _LegStore.of(run)
    with run.open_file(path, "cdr") as file:
        cursor, result, unreadable_before = file.cursor, CdrResult(source=path.name), file.cursor.unreadable
        layout = layout_of(file.head.partition(b"\n")[0])
        carried: list[Leg] = []
        for rows, position in _read_rows(file.stream, cursor.position, layout, to_the_end=file.complete):
            parsed, linked = _parse_lines(rows, layout, store, cursor)
            leave_out_blank(cursor, rows)
            result.rows += len(rows) - len(parsed) + len(store.in_range(parsed))
            legs = link_legs([*carried, *parsed], linked)
            cursor.position = position
            store.store(store.in_range(legs), cursor, result)
            carried = legs[-_CARRIED:]
            run.report_bytes(file.raw.tell())
            if run.stopped:
                break
        result.count_unreadable(cursor, unreadable_before)
    return result


def _read_rows(
    stream: BinaryIO, position: int, layout: CsvLayout, *, to_the_end: bool
) -> Iterator[tuple[list[bytes], int]]:
    """Blocks of complete rows without the header, each with the position after it."""
    unfinished: list[bytes] = []
    for lines, end in read_lines(stream, position, to_the_end=to_the_end):
        body = lines[1:] if layout.columns and position == 0 else lines
        rows, unfinished = join_lines([*unfinished, *body], layout)
        yield rows, end - sum(map(len, unfinished)) - len(unfinished)
        position = end
    if unfinished and to_the_end:
        yield [b"\n".join(unfinished)], position


def _parse_lines(
    lines: Sequence[bytes], layout: CsvLayout, store: _LegStore, cursor: ImportCursor
) -> tuple[list[Leg], set[str]]:
    """The legs of a file's rows, each row counted by the cursor, and the uniqueids of those that have a linkedid."""
    numbered: list[tuple[int, CdrRow]] = []
    for line in lines:
        cursor.rows += 1
        try:
            if (row := parse_master_csv_line(line, layout)) is not None:
                numbered.append((cursor.rows, row))
        except UnreadableRow as error:
            cursor.add_unreadable(cursor.rows, str(error), line)
    clock = learn_clock((row for _, row in numbered), store.zone, certain=store.certain)
    return _parse_rows(numbered, clock, store, cursor)


def _parse_rows(
    numbered: Sequence[tuple[int | None, CdrRow]], clock: Clock, store: _LegStore, cursor: ImportCursor
) -> tuple[list[Leg], set[str]]:
    """The legs of rows, and the uniqueids of those that have a linkedid.

    An unreadable row with a number is noted by the cursor; one without was seen by an earlier import.
    """
    legs, linked = [], set()
    for number, row in numbered:
        try:
            legs.append(leg := parse_cdr_row(row, clock, store.trunks))
        except UnreadableRow as error:
            if number is not None:
                cursor.add_unreadable(number, str(error), ", ".join(str(value) for value in row.values() if value))
        else:
            if row.get("linkedid"):
                linked.add(leg.uniqueid)
    return legs, linked


class _TableImport:
    """The import of one CDR table."""

    def __init__(self, run: ImportRun, store: _LegStore, table: CdrTable, cursor: ImportCursor) -> None:
        self.run, self.store, self.table, self.cursor = run, store, table, cursor
        self.zone = store.zone
        self.read_until = local_time(cursor.position)  # earlier rows were counted by an earlier import
        self.started_s: int | None = None
        self.result = CdrResult(source=cursor.label)

    def import_rows(self) -> CdrResult:
        """Read and store the rows, batch by batch."""
        unreadable_before = self.cursor.unreadable
        carried: list[Leg] = []
        for rows, until, last in self._batches():
            clock = learn_clock(rows, self.zone, certain=self.store.certain)
            if self.zone is None and clock.zone is not UTC:
                self.zone = clock.zone
                self._keep_offset(clock)
            legs, linked = _parse_rows(self._count_new(rows), clock, self.store, self.cursor)
            self.result.rows -= len(legs) - len(self.store.in_range(legs))
            if any(leg.uniqueid not in linked for leg in legs):  # of FreePBX up to 12, or of Issabel
                legs = link_legs(sorted([*carried, *legs], key=lambda leg: leg.started_at), linked)
                carried = legs[-_CARRIED:]
            self._store(legs, clock, until)
            self._report(until, last)
            if self.run.stopped:
                break
        self.result.count_unreadable(self.cursor, unreadable_before)
        return self.result

    def _store(self, legs: Sequence[Leg], clock: Clock, until: datetime | None) -> None:
        """Store the legs of a batch in several transactions. The last one moves the cursor: rows come in no order."""
        store_from = self._store_from(clock)
        new = [leg for leg in self.store.in_range(legs) if leg.started_at >= store_from]
        *earlier, last = chunks(new, _ROWS_PER_TRANSACTION) if new else [new]
        for part in earlier:
            self.store.store(part, None, self.result)
        if until is not None:
            # A date in the future is wrong, and must not hide the rows to come.
            now_s = seconds_of(datetime.now(clock.zone).replace(tzinfo=None))
            self.cursor.position = max(self.cursor.position, min(seconds_of(until), now_s))
        self.store.store(last, self.cursor, self.result)

    def _store_from(self, clock: Clock) -> datetime:
        """The moment from which legs are stored; earlier ones only show which call a leg belongs to."""
        if self.run.within or self.read_until <= local_time(0) + _OVERLAP:
            return datetime.min.replace(tzinfo=UTC)
        return clock.to_utc(self.read_until - _OVERLAP, None)

    def _batches(self) -> Iterator[RowBatch]:
        within = self.run.within
        if not within:
            return self.table.batches(self.read_until - _OVERLAP - _BEFORE_OVERLAP if self.cursor.position else None)
        since, until = within.since or datetime.fromtimestamp(0, UTC), within.until or datetime.now(UTC) + _OVERLAP
        # Wide enough for any zone: legs outside the range are left out once their time is understood.
        return self.table.batches(
            *(
                at.astimezone(UTC).replace(tzinfo=None) + by
                for at, by in ((since, -MAX_UTC_OFFSET), (until, MAX_UTC_OFFSET))
            )
        )

    def _count_new(self, rows: Sequence[CdrRow]) -> list[tuple[int | None, CdrRow]]:
        """The rows, each with its number in the table; None for one that an earlier import counted."""
        numbered: list[tuple[int | None, CdrRow]] = []
        for row in rows:
            local = local_moment(row[self.table.dated_by])
            new = local is None or local >= self.read_until
            self.cursor.rows += new
            self.result.rows += new
            numbered.append((self.cursor.rows if new else None, row))
        return numbered

    def _keep_offset(self, clock: Clock) -> None:
        """Keep the PBX's offset to UTC that its CDR shows, because the names of recordings may not show it."""
        offset = clock.zone.utcoffset(None)
        if offset:
            with writing(self.run.engine) as session:
                learn_utc_offset(session, self.run.connection_id, int(offset.total_seconds()))

    def _report(self, until: datetime | None, last: datetime) -> None:
        if until is not None:
            until_s = seconds_of(until)
            self.started_s = until_s if self.started_s is None else self.started_s
            self.run.report(until_s - self.started_s, max(seconds_of(last) - self.started_s, 1))
