"""Creates and stores rows of history for tests of figures, and reads figures from rows and from sealed days."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlmodel import Session

from pbx.analytics.sealing import seal_history
from pbx.store.engine import reading, writing
from pbx.store.models import AgentEventRow, CallRow, LegRow, RingRow, Table, VisitRow

Result = TypeVar("Result")


def store(engine: Engine, *rows: Table) -> None:
    with writing(engine) as session:
        for legs in (False, True):  # legs after the calls they refer to
            session.add_all(row for row in rows if isinstance(row, LegRow) is legs)
            session.flush()


def visit(joined_at: datetime, outcome: str = "answered", wait_s: float | None = 10.0, **values: Any) -> VisitRow:
    """A visit to queue `sales` of PBX 1."""
    answered = outcome in ("answered", "transferred")
    defaults: dict[str, Any] = {
        "connection_id": 1,
        "uniqueid": f"{joined_at.timestamp():.0f}.1",
        "queue": "sales",
        "connected_at": joined_at + timedelta(seconds=wait_s or 0) if answered else None,
        "talk_s": 60.0 if answered else None,
        "agent": "Anna" if answered else "",
    }
    return VisitRow(joined_at=joined_at, outcome=outcome, wait_s=wait_s, **defaults | values)


def ring(rung_at: datetime, agent: str = "Anna", queue: str = "sales", ring_s: float = 15.0) -> RingRow:
    uniqueid = f"{rung_at.timestamp():.0f}.1"
    return RingRow(connection_id=1, rung_at=rung_at, agent=agent, queue=queue, uniqueid=uniqueid, ring_s=ring_s)


def agent_event(at: datetime, agent: str, kind: str, queue: str = "sales", reason: str = "") -> AgentEventRow:
    return AgentEventRow(connection_id=1, happened_at=at, agent=agent, queue=queue, kind=kind, reason=reason)


def call(call_id: int, started_at: datetime | None, direction: str = "inbound", **values: Any) -> CallRow:
    defaults: dict[str, Any] = {"connection_id": 1, "linkedid": f"{call_id}.0", "disposition": "ANSWERED"}
    return CallRow(id=call_id, started_at=started_at, direction=direction, **defaults | values)


def leg(call_id: int, started_at: datetime, channel: str, dst_channel: str = "", **values: Any) -> LegRow:
    defaults: dict[str, Any] = {
        "connection_id": 1,
        "linkedid": f"{call_id}.0",
        "uniqueid": f"{call_id}.1",
        "trunk": "carrier",
    }
    defaults |= {"disposition": "ANSWERED", "duration_s": 60.0, "billsec_s": 60.0}
    return LegRow(call_id=call_id, started_at=started_at, channel=channel, dst_channel=dst_channel, **defaults | values)


def read_both_ways(engine: Engine, query: Callable[[Session], Result]) -> Result:
    """The query's result from rows, after checking that sealed days give the same."""
    with reading(engine) as session:
        from_rows = query(session)
    assert seal_history(engine, 1) > 0
    with reading(engine) as session:
        from_files = query(session)
    assert from_files == from_rows
    return from_rows
