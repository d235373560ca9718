"""CEL into the legs that the CDR, or live events, told of: causes, who hung up, when they could talk, transfers.

It makes no legs: what the CDR doesn't have yet is read again with the next import, which begins a day before the last
ended. Reading again is harmless.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from pbx.asterisk.formats.cdr import BadRow, local_moment
from pbx.asterisk.formats.cel import CallEvents, add_row, told_leg
from pbx.formatting import zone_of
from pbx.imports.cdr_tables import CelTable
from pbx.imports.databases import database_mark, open_source, source_url, tables_of
from pbx.imports.time_range import WHATEVER_IS_NEW, TimeRange
from pbx.progress import Progress
from pbx.store.connections import ActiveConnection
from pbx.store.engine import reading, writing
from pbx.store.import_cursors import ImportCursor, move_cursor
from pbx.store.legs import legs_of_linkedids, store_legs
from pbx.store.recordings import utc_offset_s

_OVERLAP = timedelta(days=1)  # read again: a call's CDR may come after its events
_ANY_ZONE = timedelta(hours=15)  # further no clock is from UTC
_CALLS_AT_ONCE = 500


class CelResult(BaseModel):
    """What an import read. `rows`: those that tell anything, and are new; `told`: legs of which more is known now."""

    source: str
    rows: int = 0
    told: int = 0
    bad: int = 0
    faults: list[tuple[int, str]] = []


def import_cel_if_there(
    engine: Engine, active: ActiveConnection, address: str, *, within: TimeRange, progress: Progress | None = None
) -> CelResult | None:
    """As `import_cel`; None when the database has no table cel."""
    with open_source(source_url(address)) as source, source.connect() as connection:
        there = "cel" in tables_of(connection)
    return import_cel(engine, active, address, within=within, progress=progress) if there else None


def import_cel(
    engine: Engine,
    active: ActiveConnection,
    address: str,
    *,
    within: TimeRange = WHATEVER_IS_NEW,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> CelResult:
    """Read what is new in a database's table cel, or what lies within a stretch; read only, with or without indexes.

    Call it behind the import of the CDR. `progress(done, total)` is in seconds of the PBX's time, whose end isn't
    known. Raises SettingsError for an address that isn't one, Unreachable, DataError when the table isn't CEL.
    """
    url = source_url(address)
    mark = database_mark(engine, active.id, "cel", url, "cel")
    if within:
        mark = ImportCursor(mark.source, mark.label)
    result, bad, known_until = CelResult(source=mark.label), mark.bad, _local(mark.position)
    with open_source(url) as source, source.connect() as connection:
        for rows in CelTable(connection).pages(*_bounds(within, mark)):
            calls, newest = _events(rows, mark, known_until, result)
            _store(engine, active, calls, result)
            mark.position = max(mark.position, newest)
            if not within:
                with writing(engine) as session:
                    move_cursor(session, active.id, "cel", mark)
            if progress is not None:
                progress(max(newest - int(known_until.replace(tzinfo=UTC).timestamp()), 0), None)
            if stop is not None and stop.is_set():
                break
    result.bad, result.faults = mark.bad - bad, mark.faults[bad:]
    return result


def count_cel(connection: Connection, mark: ImportCursor) -> int:
    """How many rows of the table cel that tell anything were never read. Raises DataError when it isn't CEL."""
    return CelTable(connection).count(_local(mark.position + 1) if mark.position else None)


def _bounds(within: TimeRange, mark: ImportCursor) -> tuple[datetime | None, datetime | None]:
    """The local times to read from and up to; a stretch's are wide enough for any zone."""
    if not within:
        return (_local(mark.position) - _OVERLAP if mark.position else None), None
    since = within.since.astimezone(UTC).replace(tzinfo=None) - _ANY_ZONE if within.since else None
    return since, within.until.astimezone(UTC).replace(tzinfo=None) + _ANY_ZONE if within.until else None


def _events(
    rows: Sequence[Mapping[str, Any]], mark: ImportCursor, known_until: datetime, result: CelResult
) -> tuple[dict[str, CallEvents], int]:
    """What rows tell, call by call, and the newest of their times in seconds; those not read before are counted."""
    calls: dict[str, CallEvents] = {}
    newest, latest = 0, datetime.now(UTC).replace(tzinfo=None) + _OVERLAP  # a row from the future must not hide others
    for row in rows:
        local = local_moment(row["eventtime"])
        new = local is None or local > known_until
        mark.rows, result.rows = mark.rows + new, result.rows + new
        try:
            add_row(calls, row)
        except BadRow as fault:
            if new:
                mark.note_bad(mark.rows, str(fault), ", ".join(str(value) for value in row.values() if value))
        if local is not None and local < latest:
            newest = max(newest, int(local.replace(tzinfo=UTC).timestamp()))
    return calls, newest


def _store(engine: Engine, active: ActiveConnection, calls: Mapping[str, CallEvents], result: CelResult) -> None:
    """Tell the legs that are known of these calls."""
    with reading(engine) as session:
        zone = zone_of(active.connection.timezone, utc_offset_s(session, active.id))
    for linkedids in _chunks(list(calls)):
        with writing(engine) as session:
            for source, legs in legs_of_linkedids(session, active.id, linkedids).items():
                told = [(leg, told_leg(leg, calls[leg.linkedid], zone)) for leg in legs]
                changed = [after for before, after in told if after != before]
                store_legs(session, active.id, changed, source)
                result.told += len(changed)


def _chunks(linkedids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (linkedids[at : at + _CALLS_AT_ONCE] for at in range(0, len(linkedids), _CALLS_AT_ONCE))


def _local(position: int) -> datetime:
    """A mark's position as local time: seconds since 1970 by the PBX's own clock, whatever its zone."""
    return datetime.fromtimestamp(position, UTC).replace(tzinfo=None)
