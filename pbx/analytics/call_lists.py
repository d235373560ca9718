"""Lists of the calls and seizures that add up to a figure of calls or trunks, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from pbx.analytics.calls import OTHER_PARTY, CallQuestion, selected_calls_sql
from pbx.analytics.datasets import UNKNOWN_DURATION_S
from pbx.analytics.engine import local_s, query, rows_of, text_literal
from pbx.analytics.formulas.intervals import HOUR_S
from pbx.analytics.rows_to_columns import DAY_S, number_key
from pbx.store.models import CallRow, Table

_C = Table.metadata.tables["calls"].c


@dataclass(frozen=True, slots=True)
class CallSelection:
    """The part of a chart of calls that was clicked; None means any.

    `number`: the other party's, in any notation. `weekday` (0 = Monday) and `hour` are in the PBX's time zone.
    """

    number: str | None = None
    disposition: str | None = None
    weekday: int | None = None
    hour: int | None = None


@dataclass(frozen=True, slots=True)
class SeizureSelection:
    """The part of a trunk's chart that was clicked; None means any. `cause` -1: calls without a known cause."""

    cause: int | None = None
    disposition: str | None = None


@dataclass(frozen=True, slots=True)
class Seizure:
    """One channel taken on a trunk, for a list, with the numbers of its call."""

    call_id: int
    started_at: datetime
    trunk: str
    outbound: bool
    from_number: str
    to_number: str
    disposition: str  # "" while it is in progress
    cause: int | None
    duration_s: float | None
    billsec_s: float | None
    pdd_s: float | None


def selected_calls(
    session: Session, wanted: CallQuestion, chosen: CallSelection, zone: tzinfo, *, offset: int, limit: int
) -> tuple[int, list[CallRow]]:
    """How many calls are in a selection, and one page of them, newest first."""
    columns = ("call_id", "disposition", "from_key", "to_key")
    calls = selected_calls_sql(session, wanted, columns)
    conditions = [f"disposition = {text_literal(chosen.disposition)}"] if chosen.disposition is not None else []
    if chosen.number is not None:
        conditions.append(f"{OTHER_PARTY} = {number_key(chosen.number)}")
    local = local_s("at_s", zone, wanted.since, wanted.until)
    if chosen.weekday is not None:
        conditions.append(f"({local} // {DAY_S} + 3) % 7 = {chosen.weekday}")  # 1970 began on a Thursday
    if chosen.hour is not None:
        conditions.append(f"{local} // {HOUR_S} % 24 = {chosen.hour}")
    total, page = _page(session, calls, conditions, "call_id", offset, limit)
    ids = [call_id for (call_id,) in page]
    rows = {call.id: call for call in session.exec(select_rows(CallRow).where(col(CallRow.id).in_(ids)))}
    return total, [rows[call_id] for call_id in ids]


def selected_seizures(
    session: Session,
    connection_id: int,
    trunk: str | None,
    since: datetime,
    until: datetime,
    chosen: SeizureSelection,
    *,
    offset: int,
    limit: int,
) -> tuple[int, list[Seizure]]:
    """How many seizures of a trunk (None: of all) are in a selection, and one page of them, newest first.

    Only seizures that began in the period count.
    """
    columns = ("call_id", "trunk", "outbound", "disposition", "cause", "duration_s", "talk_s", "pdd_s")
    seizures = rows_of(session, "trunk_calls", connection_id, columns, since, until)
    names = {"trunk": trunk, "disposition": chosen.disposition}
    conditions = [f"{column} = {text_literal(name)}" for column, name in names.items() if name is not None]
    if chosen.cause is not None:
        conditions.append(f"coalesce(cause, -1) = {chosen.cause}")
    total, page = _page(session, seizures, conditions, ", ".join(("at_s", *columns)), offset, limit)
    numbers = _numbers(session, [call_id for _, call_id, *_ in page])
    return total, [_seizure(row, numbers) for row in page]


def _page(
    session: Session, rows: str, conditions: Sequence[str], columns: str, offset: int, limit: int
) -> tuple[int, list[tuple[Any, ...]]]:
    """How many rows meet the conditions, and one page of them, newest first; of one second, the highest id first."""
    found = f"{rows} WHERE {' AND '.join(conditions) or 'true'}"
    ((total,),) = query(session, f"SELECT count(*) FROM {found}")
    order = f"ORDER BY at_s DESC, call_id DESC LIMIT {limit} OFFSET {offset}"
    return total, query(session, f"SELECT {columns} FROM {found} {order}")


def _numbers(session: Session, call_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    query = select(_C.id, _C.from_number, _C.to_number).where(_C.id.in_(call_ids))
    return {row.id: (row.from_number, row.to_number) for row in session.connection().execute(query)}


def _seizure(row: tuple[Any, ...], numbers: dict[int, tuple[str, str]]) -> Seizure:
    at_s, call_id, trunk, outbound, disposition, cause, duration_s, talk_s, pdd_s = row
    return Seizure(
        call_id,
        datetime.fromtimestamp(at_s, UTC),
        trunk,
        outbound,
        *numbers.get(call_id, ("", "")),
        disposition,
        cause,
        None if duration_s == UNKNOWN_DURATION_S else duration_s,
        talk_s,
        pdd_s,
    )
