"""Lists of the calls and seizures that add up to a figure of calls or trunks, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from pbx.analytics.calls import CallQuestion, load_calls
from pbx.analytics.columns import Columns
from pbx.analytics.datasets import UNKNOWN_DURATION_S
from pbx.analytics.engine import load_columns
from pbx.analytics.formulas.intervals import Ints, interval_edges, interval_of, week_cells
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.rows_to_columns import number_key
from pbx.analytics.trunks import SEIZURE_COLUMNS
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
    found = load_calls(session, wanted).narrowed({"disposition": chosen.disposition})
    if chosen.number is not None:
        found = found.where(_other_party(found) == number_key(chosen.number))
    if chosen.weekday is not None or chosen.hour is not None:
        found = found.where(_in_week(found.columns["at_s"], wanted, chosen, zone))
    ids = found["call_id"]
    page = [int(call) for call in ids[newest_indexes(found.columns["at_s"], ids, offset, limit)]]
    rows = {call.id: call for call in session.exec(select_rows(CallRow).where(col(CallRow.id).in_(page)))}
    return len(found), [rows[call] for call in page]


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
    found = load_columns(session, "trunk_calls", connection_id, since, until, SEIZURE_COLUMNS)
    found = found.narrowed({"trunk": trunk, "disposition": chosen.disposition})
    if chosen.cause is not None:
        found = found.where(found.columns["cause"] == chosen.cause)
    of = found.columns
    page = newest_indexes(of["at_s"], of["call_id"], offset, limit)
    numbers = _numbers(session, [int(of["call_id"][i]) for i in page])
    return len(found), [_seizure(found, int(i), numbers) for i in page]


def newest_indexes(at_s: Ints, ids: Ints, offset: int, limit: int) -> Ints:
    """The indexes of one page of rows, newest first; of rows in the same second, the highest id first.

    Only the rows up to that page are sorted, so a page of millions of rows is quick.
    """
    places: Ints = np.arange(len(at_s))
    reached = offset + limit
    if reached < len(at_s):
        oldest = -np.partition(-at_s, reached)[reached]
        places = np.flatnonzero(at_s >= oldest)
    order = np.lexsort((-ids[places], -at_s[places]))
    page: Ints = places[order][offset:reached]
    return page


def _other_party(found: Columns) -> Ints:
    """The other party of each call, as in `call_counts` by number.

    It is the caller of an inbound call and the called party of an outbound one, 0 for internal calls.
    """
    of = found.columns
    outbound = of["direction"] == found.code("direction", "outbound")
    other: Ints = np.where(outbound, of["to_key"], of["from_key"])
    other[of["direction"] == found.code("direction", "internal")] = 0
    return other


def _in_week(at_s: Ints, wanted: CallQuestion, chosen: CallSelection, zone: tzinfo) -> Flags:
    edges = interval_edges(wanted.since, wanted.until, zone, "hour")
    if not edges:
        return np.zeros(len(at_s), np.bool_)
    cell = week_cells(edges, zone)[interval_of(at_s, edges)]
    inside: Flags = np.ones(len(at_s), np.bool_)
    if chosen.weekday is not None:
        inside &= cell // 24 == chosen.weekday
    if chosen.hour is not None:
        inside &= cell % 24 == chosen.hour
    return inside


def _numbers(session: Session, call_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    query = select(_C.id, _C.from_number, _C.to_number).where(_C.id.in_(call_ids))
    return {row.id: (row.from_number, row.to_number) for row in session.connection().execute(query)}


def _seizure(found: Columns, i: int, numbers: dict[int, tuple[str, str]]) -> Seizure:
    of, call_id = found.columns, int(found.columns["call_id"][i])

    def known(name: str) -> float | None:
        value: Any = of[name][i]
        return None if np.isnan(value) or value == UNKNOWN_DURATION_S else float(value)

    return Seizure(
        call_id,
        datetime.fromtimestamp(int(of["at_s"][i]), UTC),
        found.names["trunk"][of["trunk"][i]],
        bool(of["outbound"][i]),
        *numbers.get(call_id, ("", "")),
        found.names["disposition"][of["disposition"][i]],
        None if of["cause"][i] < 0 else int(of["cause"][i]),
        *(known(name) for name in ("duration_s", "talk_s", "pdd_s")),
    )
