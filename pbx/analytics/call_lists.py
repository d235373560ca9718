"""The calls and seizures behind a figure of calls or trunks: lists of them, a page at a time, that add up to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlmodel import Session, col
from sqlmodel import select as select_rows

from pbx.analytics.calls import CallQuestion, load_calls
from pbx.analytics.formulas.intervals import Ints, interval_edges, interval_of, week_cells
from pbx.analytics.formulas.queues import Flags
from pbx.analytics.pack_columns import UNSEEN_S
from pbx.analytics.packs import Packed, load_columns, number_key
from pbx.store.models import CallRow, Table

_C = Table.metadata.tables["calls"].c


@dataclass(frozen=True, slots=True)
class CallSelection:
    """Part of a chart of calls somebody clicked on; None: whatever.

    `number`: the other party's, in any way of writing it. `weekday` (0 = Monday) and `hour` in the zone given.
    """

    number: str | None = None
    disposition: str | None = None
    weekday: int | None = None
    hour: int | None = None


@dataclass(frozen=True, slots=True)
class SeizureSelection:
    """Part of a trunk's chart somebody clicked on; None: whatever. `cause` -1: none was told."""

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
    disposition: str  # "" while it lasts
    cause: int | None
    duration_s: float | None
    billsec_s: float | None
    pdd_s: float | None


def selected_calls(
    session: Session, wanted: CallQuestion, chosen: CallSelection, zone: tzinfo, *, offset: int, limit: int
) -> tuple[int, list[CallRow]]:
    """How many calls were chosen, and a page of them, the newest first."""
    found = load_calls(session, wanted).narrowed({"disposition": chosen.disposition})
    if chosen.number is not None:
        found = found.where(_other_party(found) == number_key(chosen.number))
    if chosen.weekday is not None or chosen.hour is not None:
        found = found.where(_in_week(found.columns["at"], wanted, chosen, zone))
    ids = found.columns["id"]
    page = [int(call) for call in ids[newest(found.columns["at"], ids, offset, limit)]]
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
    """How many seizures of a trunk (None: of all) that began in the period were chosen, and a page, newest first."""
    found = load_columns(session, "seizures", connection_id, since, until)
    found = found.narrowed({"trunk": trunk, "disposition": chosen.disposition})
    if chosen.cause is not None:
        found = found.where(found.columns["cause"] == chosen.cause)
    of = found.columns
    page = newest(of["at"], of["call_id"], offset, limit)
    numbers = _numbers(session, [int(of["call_id"][i]) for i in page])
    return len(found), [_seizure(found, int(i), numbers) for i in page]


def newest(at_s: Ints, ids: Ints, offset: int, limit: int) -> Ints:
    """The places of a page of rows, the newest first, of one second the highest id: of many only those are sorted."""
    places: Ints = np.arange(len(at_s))
    reached = offset + limit
    if reached < len(at_s):
        oldest = -np.partition(-at_s, reached)[reached]
        places = np.flatnonzero(at_s >= oldest)
    order = np.lexsort((-ids[places], -at_s[places]))
    page: Ints = places[order][offset:reached]
    return page


def _other_party(found: Packed) -> Ints:
    """As `call_counts` by number: the caller of what came in, whom an outbound call went to; of internal calls none."""
    of = found.columns
    outbound = of["direction"] == found.code("direction", "outbound")
    other: Ints = np.where(outbound, of["to"], of["from"])
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


def _seizure(found: Packed, i: int, numbers: dict[int, tuple[str, str]]) -> Seizure:
    of, call_id = found.columns, int(found.columns["call_id"][i])

    def known(name: str) -> float | None:
        value: Any = of[name][i]
        return None if np.isnan(value) or value == UNSEEN_S else float(value)

    return Seizure(
        call_id,
        datetime.fromtimestamp(int(of["at"][i]), UTC),
        found.names["trunk"][of["trunk"][i]],
        bool(of["outbound"][i]),
        *numbers.get(call_id, ("", "")),
        found.names["disposition"][of["disposition"][i]],
        None if of["cause"][i] < 0 else int(of["cause"][i]),
        *(known(name) for name in ("duration_s", "billsec_s", "pdd_s")),
    )
