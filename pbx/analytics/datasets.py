"""The datasets: what the figures and questions of the app are about, as columns of the cache's tables.

Past days of each dataset are copied to Parquet files (pbx.analytics.sealing), and DuckDB reads them
(pbx.analytics.engine). Times are integer seconds since 1970 UTC. Text is never NULL, an unknown number is.

After a change to a dataset's columns, a migration must delete its rows of `sealed_days`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, Select, and_, case, exists, func, literal, or_, select, type_coerce
from sqlalchemy import union_all as union_of

from pbx.store.models import Table

DatasetName = Literal["calls", "queue_visits", "agent_rings", "agent_events", "trunk_calls", "trunk_samples"]
ColumnType = Literal["text", "integer", "number", "flag", "number_key"]
_C, _L, _V, _R, _E, _S, _SUBJECTS, _RECORDINGS, _TRANSCRIPTS, _NOTES = (
    Table.metadata.tables[name].c
    for name in (
        *("calls", "call_legs", "queue_visits", "agent_rings", "agent_events", "trunk_samples", "subjects"),
        *("recordings", "transcripts", "call_notes"),
    )
)
UNKNOWN_DURATION_S = -1.0  # duration of a seizure that is over but whose end was not recorded


@dataclass(frozen=True)
class Dataset:
    """How the rows of a dataset are read from the tables.

    `types` gives the type of each column that `rows` selects. A "number_key" is selected as a telephone number and
    stored as its `number_key`. `at`: the moment that decides to which UTC day a row belongs.
    """

    rows: Select[Any]
    types: Mapping[str, ColumnType]
    at: ColumnElement[Any]
    connection_id: ColumnElement[Any]
    earlier_days: int = 0  # how many days a row's own moment may be after the day it belongs to
    first: Callable[[int], Select[Any]] | None = None  # a faster query for the moment of a PBX's first row


def epoch_seconds(column: ColumnElement[Any]) -> ColumnElement[int]:
    """A column of moments as the integer seconds that the database stores."""
    return type_coerce(column, BigInteger)


def _in_order(column: ColumnElement[Any]) -> ColumnElement[int]:
    """A column to sort the few rows of one call by. Without the sum, databases walk its index through all calls."""
    return epoch_seconds(column) + 0


def _dataset(
    at: ColumnElement[Any],
    connection_id: ColumnElement[Any],
    columns: Mapping[str, tuple[ColumnType, ColumnElement[Any]]],
    narrow: Callable[[Select[Any]], Select[Any]] = lambda rows: rows,
    **more: Any,
) -> Dataset:
    rows = select(*(value.label(name) for name, (_, value) in columns.items()))
    return Dataset(narrow(rows), {name: type_ for name, (type_, _) in columns.items()}, at, connection_id, **more)


def _calls() -> Dataset:
    mine = _L.call_id == _C.id
    trunk = select(_L.trunk).where(mine, _L.trunk > "").order_by(_in_order(_L.id)).limit(1).scalar_subquery()
    its_agent = case((_C.direction == "outbound", literal("caller")), else_=literal("called"))
    by_leg = select(case((_L.ended_by == its_agent, "agent"), else_=_L.ended_by)).where(mine, _L.ended_by > "")
    visits = and_(_V.connection_id == _C.connection_id, _V.uniqueid == _C.linkedid)
    in_queue = case(
        (_V.outcome == "abandoned", "caller"), (_V.ended_by.in_(("caller", "agent")), _V.ended_by), else_=""
    )
    by_visit = select(in_queue).where(visits).order_by(_in_order(_V.joined_at).desc(), _V.id.desc()).limit(1)
    # A conversation is an answered outbound call, or an inbound call that an agent answered without a queue. For an
    # inbound call the CDR's ANSWERED isn't enough: a queue or a menu answers it before any agent.
    out = _C.direction == "outbound"
    in_without_queue = (_C.direction == "inbound") & (_C.agent > "") & (_C.queue == "")
    spoken_to = case(
        (_C.disposition != "ANSWERED", ""), (out, _C.to_number), (in_without_queue, _C.from_number), else_=""
    )
    language = (
        select(_TRANSCRIPTS.language)
        .join_from(_RECORDINGS.id.table, _TRANSCRIPTS.id.table, _TRANSCRIPTS.recording_id == _RECORDINGS.id)
        .where(_RECORDINGS.call_id == _C.id, _TRANSCRIPTS.current.is_(True))
        .order_by(_in_order(_TRANSCRIPTS.id))
        .limit(1)
    )
    hung_up_by = func.coalesce(
        by_leg.order_by(_in_order(_L.id).desc()).limit(1).scalar_subquery(), by_visit.scalar_subquery(), literal("")
    )
    return _dataset(
        _C.started_at,
        _C.connection_id,
        {
            "call_id": ("integer", _C.id),
            "at_s": ("integer", epoch_seconds(_C.started_at)),
            "linkedid": ("text", _C.linkedid),
            "source": ("text", _C.source),
            "direction": ("text", _C.direction),
            "disposition": ("text", _C.disposition),
            "did": ("text", _C.did),
            "queue": ("text", _C.queue),
            "answered_in": ("text", _C.answered_in),
            "agent": ("text", _C.agent),
            "from_number": ("text", _C.from_number),
            "from_name": ("text", _C.from_name),
            "to_number": ("text", _C.to_number),
            "from_key": ("number_key", _C.from_number),
            "to_key": ("number_key", _C.to_number),
            "conversation_key": ("number_key", spoken_to),  # the other party's number, if they were spoken to
            "talk_s": ("number", _C.talk_s),
            "wait_s": ("number", _C.wait_s),
            "duration_s": ("number", _C.duration_s),
            "trunk": ("text", func.coalesce(trunk, literal(""))),
            "hung_up_by": ("text", hung_up_by),
            "recorded": ("flag", exists().where(_RECORDINGS.call_id == _C.id)),
            "transcription": ("text", _C.transcription),
            "language": ("text", func.coalesce(language.scalar_subquery(), literal(""))),
            "rating": ("integer", select(_NOTES.rating).where(_NOTES.call_id == _C.id).scalar_subquery()),
        },
    )


def _queue_visits() -> Dataset:
    # The call with the visit's uniqueid, or the call of a leg with that uniqueid.
    same = _C.connection_id == _V.connection_id, _C.linkedid == _V.uniqueid
    of_leg = _L.connection_id == _V.connection_id, _L.uniqueid == _V.uniqueid
    call_id = func.coalesce(
        select(_C.id).where(*same).scalar_subquery(), select(func.min(_L.call_id)).where(*of_leg).scalar_subquery()
    )
    return _dataset(
        _V.joined_at,
        _V.connection_id,
        {
            "visit_id": ("integer", _V.id),
            "at_s": ("integer", epoch_seconds(_V.joined_at)),
            "call_id": ("integer", call_id),
            "queue": ("text", _V.queue),
            "agent": ("text", _V.agent),
            "did": ("text", _V.did),
            "outcome": ("text", _V.outcome),
            "answered": ("flag", _V.connected_at.is_not(None) | _V.outcome.in_(("answered", "transferred"))),
            "wait_s": ("number", _V.wait_s),
            "ring_s": ("number", _V.ring_s),
            "talk_s": ("number", _V.talk_s),
            "caller": ("text", _V.caller),
            "caller_name": ("text", _V.caller_name),
            "caller_key": ("number_key", _V.caller),
            "target": ("text", _V.target),
            "ended_by": ("text", _V.ended_by),
            "position_joined": ("integer", _V.original_position),
            "position_left": ("integer", _V.position),
        },
    )


def _trunk_calls() -> Dataset:
    """One row per channel on a trunk. Legs of a call that share the channel (a queue's ringing agents) are one seizure.

    A leg that came in by one trunk and continued on another seized both, and counts for each. The duration is NULL
    while the seizure is in progress, and `UNKNOWN_DURATION_S` when it is over but its end was not recorded.
    """
    onward = union_of(select(literal(0).label("onward")), select(literal(1))).subquery().c.onward
    trunk = case((onward == 1, _L.onward_trunk), else_=_L.trunk)
    on_trunk = or_(*(_L.dst_channel.contains("/" + _L.trunk + end) for end in "-/"))  # DAHDI/i1/5550101-1a
    goes_out = (_L.onward_trunk == "") & on_trunk
    out = case(((onward == 1) | goes_out, 1), else_=0)
    began, won = epoch_seconds(_L.started_at), (_L.disposition == "ANSWERED") | _L.answered_at.is_not(None)
    ended = began + func.coalesce(_L.duration_s, 0)
    picked_up = func.coalesce(epoch_seconds(_L.answered_at), ended - func.coalesce(_L.billsec_s, 0))
    alone = func.count() == 1
    unended = func.count(_L.duration_s) < func.count()
    going_on = unended & (func.min(_L.disposition) == "")

    def of_legs(rows: Select[Any]) -> Select[Any]:
        return (
            rows.join_from(_L.id.table, _C.id.table, _L.call_id == _C.id)
            .join(onward.table, (onward == 0) | (_L.onward_trunk > ""))
            .where(_L.trunk > "")
            .group_by(_C.id, trunk, out, case((out == 1, _L.dst_channel), else_=_L.channel))
        )

    return _dataset(
        _C.started_at,
        _C.connection_id,
        {
            "call_id": ("integer", _C.id),
            "at_s": ("integer", func.min(began)),
            "trunk": ("text", trunk),
            "outbound": ("flag", out),
            "disposition": (
                "text",
                case((func.max(case((won, 1), else_=0)) == 1, "ANSWERED"), else_=func.max(_L.disposition)),
            ),
            "cause": ("integer", func.max(_L.cause)),
            "duration_s": (
                "number",
                case(
                    (going_on, None),
                    (unended, UNKNOWN_DURATION_S),
                    (alone, func.max(_L.duration_s)),
                    else_=func.max(ended) - func.min(began),
                ),
            ),
            "talk_s": (
                "number",
                case(
                    (unended, None),
                    (alone, func.max(_L.billsec_s)),
                    else_=func.max(case((won, ended))) - func.min(case((won, picked_up))),
                ),
            ),
            "pdd_s": ("number", func.min(_L.pdd_s)),
        },
        of_legs,
        earlier_days=1,  # a call of the day before may have seized a trunk after midnight
    )


def _first_sample(connection_id: int) -> Select[Any]:
    """The moment of a PBX's first trunk sample, by one index lookup per trunk."""
    first = select(func.min(epoch_seconds(_S.taken_at))).where(_S.subject_id == _SUBJECTS.id)
    first = first.correlate(_SUBJECTS.id.table)
    firsts = select(first.scalar_subquery().label("at")).where(
        _SUBJECTS.connection_id == connection_id, _SUBJECTS.kind == "trunk"
    )
    return select(func.min(firsts.subquery().c.at))


DATASETS: dict[DatasetName, Dataset] = {
    "calls": _calls(),
    "queue_visits": _queue_visits(),
    "agent_rings": _dataset(
        _R.rung_at,
        _R.connection_id,
        {
            "at_s": ("integer", epoch_seconds(_R.rung_at)),
            "agent": ("text", _R.agent),
            "queue": ("text", _R.queue),
            "ring_s": ("number", _R.ring_s),
            "uniqueid": ("text", _R.uniqueid),
        },
    ),
    "agent_events": _dataset(
        _E.happened_at,
        _E.connection_id,
        {
            "at_s": ("integer", epoch_seconds(_E.happened_at)),
            "agent": ("text", _E.agent),
            "queue": ("text", _E.queue),
            "kind": ("text", _E.kind),
            "reason": ("text", _E.reason),
        },
    ),
    "trunk_calls": _trunk_calls(),
    "trunk_samples": _dataset(
        _S.taken_at,
        _SUBJECTS.connection_id,
        {
            "at_s": ("integer", epoch_seconds(_S.taken_at)),
            "trunk": ("text", _SUBJECTS.name),
            "state": ("text", _S.state),
            "channels": ("integer", _S.channels),
            "roundtrip_ms": ("number", _S.roundtrip_ms),
        },
        lambda rows: rows.join_from(_SUBJECTS.id.table, _S.taken_at.table, _S.subject_id == _SUBJECTS.id).where(
            _SUBJECTS.kind == "trunk"
        ),
        first=_first_sample,
    ),
}
