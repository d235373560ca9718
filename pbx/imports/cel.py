"""Imports CEL: adds hangup causes, who hung up, when the parties could talk, and transfers to legs that are known.

CEL makes no legs of its own. Events whose call the CDR doesn't have yet are read again by the next import, which starts
a day before the last one ended. Reading them again changes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection

from pbx.asterisk.formats.cdr import UnreadableRow, local_moment
from pbx.asterisk.formats.cel import CallEvents, add_row, with_events
from pbx.imports.cdr_database import MAX_UTC_OFFSET, CelTable, local_time, seconds_of
from pbx.imports.databases import open_source, source_url
from pbx.imports.run import ImportRun, RowCounts
from pbx.imports.time_range import TimeRange
from pbx.store.chunks import chunks
from pbx.store.engine import writing
from pbx.store.import_cursors import ImportCursor
from pbx.store.legs import legs_of_linkedids, store_legs

_OVERLAP = timedelta(days=1)  # read again: a call's CDR may be written after its events
_CALLS_PER_TRANSACTION = 500


class CelResult(RowCounts):
    """What an import read from a table cel.

    `rows`: new rows of the event types that are used. `detailed_legs`: legs of which more is known now.
    """

    kind: Literal["cel"] = "cel"
    detailed_legs: int = 0


def import_cel(run: ImportRun, address: str) -> CelResult:
    """Read what is new in a database's table cel, or what is in the run's time range. Import the CDR first.

    The table is only read, with or without indexes. Raises SettingsError for an address that isn't one, Unreachable,
    DataError when the table isn't CEL.
    """
    url = source_url(address)
    cursor = run.table_cursor("cel", url, "cel")
    result, unreadable_before, read_until_s = CelResult(source=cursor.label), cursor.unreadable, cursor.position
    with open_source(url) as source, source.connect() as connection:
        for rows in CelTable(connection).pages(*_bounds(run.within, cursor)):
            calls, newest_s = _events_by_call(rows, cursor, read_until_s, result)
            _add_to_legs(run, calls, result)
            cursor.position = max(cursor.position, newest_s)
            with run.storing("cel", cursor):
                pass
            run.report(max(newest_s - read_until_s, 0))
            if run.stopped:
                break
    result.count_unreadable(cursor, unreadable_before)
    return result


def count_cel(connection: Connection, cursor: ImportCursor) -> int:
    """How many useful rows of the table cel were never read. Raises DataError when it isn't CEL."""
    return CelTable(connection).count(local_time(cursor.position + 1) if cursor.position else None)


def _bounds(within: TimeRange, cursor: ImportCursor) -> tuple[datetime | None, datetime | None]:
    """The local times to read from and up to; those of a time range are wide enough for any zone."""
    if not within:
        return (local_time(cursor.position) - _OVERLAP if cursor.position else None), None
    since = within.since.astimezone(UTC).replace(tzinfo=None) - MAX_UTC_OFFSET if within.since else None
    return since, within.until.astimezone(UTC).replace(tzinfo=None) + MAX_UTC_OFFSET if within.until else None


def _events_by_call(
    rows: Sequence[Mapping[str, Any]], cursor: ImportCursor, read_until_s: int, result: CelResult
) -> tuple[dict[str, CallEvents], int]:
    """The events of rows by linkedid, and the newest of their times in seconds. Rows not read before are counted."""
    calls: dict[str, CallEvents] = {}
    read_until = local_time(read_until_s)
    newest_s, latest = (
        0,
        datetime.now(UTC).replace(tzinfo=None) + _OVERLAP,
    )  # a row from the future must not hide others
    for row in rows:
        local = local_moment(row["eventtime"])
        new = local is None or local > read_until
        cursor.rows, result.rows = cursor.rows + new, result.rows + new
        try:
            add_row(calls, row)
        except UnreadableRow as error:
            if new:
                cursor.add_unreadable(cursor.rows, str(error), ", ".join(str(value) for value in row.values() if value))
        if local is not None and local < latest:
            newest_s = max(newest_s, seconds_of(local))
    return calls, newest_s


def _add_to_legs(run: ImportRun, calls: Mapping[str, CallEvents], result: CelResult) -> None:
    """Store what the events add to the legs of these calls that are in the cache."""
    zone = run.zone()
    for linkedids in chunks(list(calls), _CALLS_PER_TRANSACTION):
        with writing(run.engine) as session:
            for source, legs in legs_of_linkedids(session, run.connection_id, linkedids).items():
                detailed = [with_events(leg, calls[leg.linkedid], zone) for leg in legs]
                changed = [after for before, after in zip(legs, detailed, strict=True) if after != before]
                store_legs(session, run.connection_id, changed, source)
                result.detailed_legs += len(changed)
