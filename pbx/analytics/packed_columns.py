"""The kinds of rows that are packed by day, and their columns: see pbx.analytics.packed_days.

After a change to a shape, a migration must drop the packs of its kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Select, case, func, literal, or_, select, type_coerce, union_all

from pbx.store.models import Table

PackKind = Literal["visits", "rings", "agent_events", "calls", "conversations", "seizures", "trunk_samples"]
VISITS, RINGS, EVENTS, CALLS, LEGS = (
    Table.metadata.tables[name].c for name in ("queue_visits", "agent_rings", "agent_events", "calls", "call_legs")
)
UNKNOWN_DURATION_S = -1.0  # duration of a seizure that is over but whose end was not recorded
SAMPLES, SUBJECTS = (Table.metadata.tables[name].c for name in ("trunk_samples", "subjects"))


@dataclass(frozen=True)
class PackLayout:
    """How rows of one kind are read and packed.

    `fields` maps each selected column to its type: "int" (of any size; a pack stores it as narrow as its day allows),
    "f8" (a float), "?" (a flag), "name" (an index into a list of names), "key" (a `number_key`), or "outcome" (an
    index into OUTCOMES).
    """

    rows: Select[Any]
    at: ColumnElement[Any]  # the moment that decides which day a row belongs to
    connection_id: ColumnElement[Any]
    fields: dict[str, str]
    earlier_days: int = 0  # how many days a row's own moment may be after the day it belongs to
    begins: Callable[[int], Select[Any]] | None = None  # a faster query for the moment of a PBX's first row


def epoch_seconds(column: ColumnElement[Any]) -> ColumnElement[int]:
    """A column of moments as the integer seconds that the database stores."""
    return type_coerce(column, BigInteger)


def _seizures() -> Select[Any]:
    """One row per channel on a trunk. Legs of a call that share the channel (a queue's ringing agents) are one seizure.

    A leg that came in by one trunk and continued on another seized both, and counts for each. The duration is NULL
    while the seizure is in progress, and `UNKNOWN_DURATION_S` when it is over but its end was not recorded.
    """
    onward = union_all(select(literal(0).label("onward")), select(literal(1))).subquery().c.onward
    trunk = case((onward == 1, LEGS.onward_trunk), else_=LEGS.trunk)
    on_trunk = or_(*(LEGS.dst_channel.contains("/" + LEGS.trunk + end) for end in "-/"))  # DAHDI/i1/5550101-1a
    goes_out = (LEGS.onward_trunk == "") & on_trunk
    out = case(((onward == 1) | goes_out, 1), else_=0)
    began, won = epoch_seconds(LEGS.started_at), (LEGS.disposition == "ANSWERED") | LEGS.answered_at.is_not(None)
    ended = began + func.coalesce(LEGS.duration_s, 0)
    picked_up = func.coalesce(epoch_seconds(LEGS.answered_at), ended - func.coalesce(LEGS.billsec_s, 0))
    alone = func.count() == 1
    unended = func.count(LEGS.duration_s) < func.count()
    going_on = unended & (func.min(LEGS.disposition) == "")
    return (
        select(
            CALLS.id,
            func.min(began),
            trunk,
            out,
            case((func.max(case((won, 1), else_=0)) == 1, "ANSWERED"), else_=func.max(LEGS.disposition)),
            func.coalesce(func.max(LEGS.cause), -1),
            case(
                (going_on, None),
                (unended, UNKNOWN_DURATION_S),
                (alone, func.max(LEGS.duration_s)),
                else_=func.max(ended) - func.min(began),
            ),
            case(
                (unended, None),
                (alone, func.max(LEGS.billsec_s)),
                else_=func.max(case((won, ended))) - func.min(case((won, picked_up))),
            ),
            func.min(LEGS.pdd_s),
        )
        .join_from(LEGS.id.table, CALLS.id.table, LEGS.call_id == CALLS.id)
        .join(onward.table, (onward == 0) | (LEGS.onward_trunk > ""))
        .where(LEGS.trunk > "")
        .group_by(CALLS.id, trunk, out, case((out == 1, LEGS.dst_channel), else_=LEGS.channel))
    )


def _first_sample(connection_id: int) -> Select[Any]:
    """The moment of a PBX's first trunk sample, by one index lookup per trunk."""
    first = select(func.min(epoch_seconds(SAMPLES.taken_at))).where(SAMPLES.subject_id == SUBJECTS.id)
    first = first.correlate(SUBJECTS.id.table)
    firsts = select(first.scalar_subquery().label("at")).where(
        SUBJECTS.connection_id == connection_id, SUBJECTS.kind == "trunk"
    )
    return select(func.min(firsts.subquery().c.at))


# Conversations are answered outbound calls, and inbound calls that an agent answered without a queue. For an inbound
# call the CDR's ANSWERED isn't enough: a queue or a menu answers it before any agent does. Calls in queues have visits.
_OUT = CALLS.direction == "outbound"
PACK_LAYOUTS: dict[PackKind, PackLayout] = {
    "visits": PackLayout(
        select(
            VISITS.id,
            epoch_seconds(VISITS.joined_at),
            *(VISITS.queue, VISITS.agent, VISITS.did, VISITS.outcome),
            VISITS.connected_at.is_not(None) | VISITS.outcome.in_(("answered", "transferred")),
            *(VISITS.wait_s, VISITS.talk_s, VISITS.caller, VISITS.target),
        ),
        VISITS.joined_at,
        VISITS.connection_id,
        {"id": "int", "at": "int", "queue": "name", "agent": "name", "did": "name", "outcome": "outcome"}
        | {"answered": "?", "wait_s": "f8", "talk_s": "f8", "caller": "key", "target": "name"},
    ),
    "rings": PackLayout(
        select(epoch_seconds(RINGS.rung_at), RINGS.agent, RINGS.queue, RINGS.ring_s),
        RINGS.rung_at,
        RINGS.connection_id,
        {"at": "int", "agent": "name", "queue": "name", "ring_s": "f8"},
    ),
    "agent_events": PackLayout(
        select(epoch_seconds(EVENTS.happened_at), EVENTS.agent, EVENTS.queue, EVENTS.kind, EVENTS.reason),
        EVENTS.happened_at,
        EVENTS.connection_id,
        {"at": "int", "agent": "name", "queue": "name", "kind": "name", "reason": "name"},
    ),
    "calls": PackLayout(
        select(
            CALLS.id,
            epoch_seconds(CALLS.started_at),
            *(CALLS.direction, CALLS.disposition, CALLS.did, CALLS.queue, CALLS.answered_in, CALLS.agent),
            *(CALLS.from_number, CALLS.to_number, CALLS.talk_s, CALLS.wait_s, CALLS.duration_s),
        ),
        CALLS.started_at,
        CALLS.connection_id,
        {"id": "int", "at": "int"}
        | dict.fromkeys(("direction", "disposition", "did", "queue", "answered_in", "agent"), "name")
        | {"from": "key", "to": "key", "talk_s": "f8", "wait_s": "f8", "duration_s": "f8"},
    ),
    "conversations": PackLayout(
        select(case((_OUT, CALLS.to_number), else_=CALLS.from_number), epoch_seconds(CALLS.started_at)).where(
            CALLS.disposition == "ANSWERED",
            _OUT | ((CALLS.direction == "inbound") & (CALLS.agent > "") & (CALLS.queue == "")),
        ),
        CALLS.started_at,
        CALLS.connection_id,
        {"number": "key", "at": "int"},
    ),
    "seizures": PackLayout(
        _seizures(),
        CALLS.started_at,
        CALLS.connection_id,
        {"call_id": "int", "at": "int", "trunk": "name", "outbound": "?", "disposition": "name", "cause": "int"}
        | {"duration_s": "f8", "billsec_s": "f8", "pdd_s": "f8"},
        earlier_days=1,  # a call of the day before may have seized a trunk after midnight
    ),
    "trunk_samples": PackLayout(
        select(epoch_seconds(SAMPLES.taken_at), SUBJECTS.name, SAMPLES.state, SAMPLES.channels, SAMPLES.roundtrip_ms)
        .join_from(SUBJECTS.id.table, SAMPLES.taken_at.table, SAMPLES.subject_id == SUBJECTS.id)
        .where(SUBJECTS.kind == "trunk"),
        SAMPLES.taken_at,
        SUBJECTS.connection_id,
        {"at": "int", "trunk": "name", "state": "name", "channels": "int", "roundtrip_ms": "f8"},
        begins=_first_sample,
    ),
}
