"""Days copied to Parquet files instead of packed days, and triggers that reopen a day when one of its rows changes.

A trigger names the datasets that contain its table's columns, and the moment that decides to which day a row belongs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import text

revision = "0016"
down_revision = "0015"


class _Watched(NamedTuple):
    """A change of these columns of a table reopens days of these datasets."""

    table: str
    columns: str
    at: str  # SQL of the moment
    datasets: Sequence[str]
    connection_id: str = "{row}.connection_id"
    days: Sequence[int] = (0,)  # 0: the day of the moment, 1: the day after it
    changes: Sequence[str] = ("insert", "update", "delete")


_OF_CALL = "(SELECT {column} FROM calls WHERE id = {{row}}.call_id)"
_OF_RECORDING = (
    "(SELECT {column} FROM calls JOIN recordings ON call_id = calls.id WHERE recordings.id = {{row}}.recording_id)"
)
_CALL_AT, _CALL_PBX = (_OF_CALL.format(column=name) for name in ("started_at", "calls.connection_id"))
_HEARD_AT, _HEARD_PBX = (_OF_RECORDING.format(column=name) for name in ("calls.started_at", "calls.connection_id"))
_WATCHED = {
    "calls": _Watched(
        "calls",
        "id, connection_id, started_at, linkedid, source, direction, disposition, did, queue, answered_in, agent,"
        " from_number, from_name, to_number, talk_s, wait_s, duration_s, transcription",
        "{row}.started_at",
        ("calls",),
    ),
    "calls_of_legs": _Watched(
        "calls", "connection_id, started_at", "{row}.started_at", ("trunk_calls",), changes=("update",)
    ),
    # A visit names its call, which may have begun the day before.
    "calls_of_visits": _Watched("calls", "id, linkedid", "{row}.started_at", ("queue_visits",), days=(0, 1)),
    "legs": _Watched(
        "call_legs",
        "id, call_id, trunk, onward_trunk, channel, dst_channel, disposition, cause, started_at, answered_at,"
        " duration_s, billsec_s, pdd_s, ended_by",
        _CALL_AT,
        ("calls", "trunk_calls"),
        _CALL_PBX,
    ),
    "legs_of_visits": _Watched("call_legs", "call_id, uniqueid", _CALL_AT, ("queue_visits",), _CALL_PBX, days=(0, 1)),
    "visits": _Watched(
        "queue_visits",
        "id, connection_id, joined_at, queue, agent, did, outcome, connected_at, wait_s, ring_s, talk_s, caller,"
        " caller_name, target, ended_by, original_position, position, uniqueid",
        "{row}.joined_at",
        ("queue_visits",),
    ),
    # A call's `hung_up_by` may come from its visit, and the call may have begun the day before.
    "visits_of_calls": _Watched(
        "queue_visits", "joined_at, outcome, ended_by, uniqueid", "{row}.joined_at", ("calls",), days=(-1, 0)
    ),
    "rings": _Watched(
        "agent_rings", "connection_id, rung_at, agent, queue, ring_s, uniqueid", "{row}.rung_at", ("agent_rings",)
    ),
    "agent_events": _Watched(
        "agent_events", "connection_id, happened_at, agent, queue, kind, reason", "{row}.happened_at", ("agent_events",)
    ),
    "trunk_samples": _Watched(
        "trunk_samples",
        "subject_id, taken_at, state, channels, roundtrip_ms",
        "{row}.taken_at",
        ("trunk_samples",),
        "(SELECT connection_id FROM subjects WHERE id = {row}.subject_id)",
    ),
    "recordings": _Watched("recordings", "call_id", _CALL_AT, ("calls",), _CALL_PBX),
    "transcripts": _Watched("transcripts", "recording_id, language, current", _HEARD_AT, ("calls",), _HEARD_PBX),
    "notes": _Watched("call_notes", "call_id, rating", _CALL_AT, ("calls",), _CALL_PBX),
}
_ROWS = {"insert": ("NEW",), "update": ("OLD", "NEW"), "delete": ("OLD",)}


def upgrade() -> None:
    _drop_packs()
    op.create_table(
        "sealed_days",
        sa.Column("connection_id", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        sa.Column("dataset", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        text("file"),
        sa.Column("size_bytes", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
    )
    for name, watched in _WATCHED.items():
        for change in watched.changes:
            _watch(name, watched, change)


def _watch(name: str, watched: _Watched, change: str) -> None:
    datasets = ", ".join(f"'{dataset}'" for dataset in watched.datasets)
    reopen = " ".join(
        f"DELETE FROM sealed_days WHERE connection_id = {watched.connection_id.format(row=row)}"  # noqa: S608 - above
        f" AND dataset IN ({datasets}) AND day IN ({_days(watched, row)});"
        for row in _ROWS[change]
    )
    when = f"AFTER {change.upper()}" + (f" OF {watched.columns}" if change == "update" else "")
    trigger = f"reopen_{name}_{change}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {trigger} {when} ON {watched.table} BEGIN {reopen} END")
        return
    body = f"BEGIN {reopen} RETURN NULL; END"
    op.execute(f"CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    op.execute(f"CREATE TRIGGER {trigger} {when} ON {watched.table} FOR EACH ROW EXECUTE FUNCTION {trigger}()")


def _days(watched: _Watched, row: str) -> str:
    day = f"{watched.at.format(row=row)} / 86400"
    return ", ".join(f"{day} + {offset}" for offset in watched.days)


def _drop_packs() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'forget\\_%' ESCAPE '\\'"
        for name in connection.exec_driver_sql(triggers).scalars().all():
            op.execute(f"DROP TRIGGER {name}")
    else:
        functions = sa.text(
            "SELECT proname FROM pg_proc"
            " WHERE proname LIKE 'forget\\_%' AND pronamespace = CAST(current_schema() AS regnamespace)"
        )
        for name in connection.execute(functions).scalars().all():
            op.execute(f"DROP FUNCTION {name}() CASCADE")
    op.drop_table("day_packs")
