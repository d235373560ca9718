"""Calls learn from visits in which queues they were and where they were answered; numbers and packs of any width.

Before, a call seen live whose caller no agent's telephone rang for was in a "queue" named as the number it had called.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_CHUNK = 5000
_KINDS = ("visits", "rings", "changes", "calls", "talks", "seizures", "looks")
_LONGEST = 500
# The last queue that the caller of a leg was in.
_ITS_QUEUE = (
    "(SELECT queue FROM queue_visits AS visit WHERE visit.connection_id = call_legs.connection_id"
    " AND visit.uniqueid = call_legs.uniqueid ORDER BY joined_at DESC, id DESC LIMIT 1)"
)
_WRONG = "source = 'watch' AND last_app = 'Queue' AND dst_channel = '' AND did > '' AND dst = did"
_VISITED = """
SELECT call_id, queue, max(CASE WHEN connected_at IS NOT NULL OR outcome IN ('answered', 'transferred')
 THEN 1 ELSE 0 END) AS answered
FROM (SELECT id AS call_id, connection_id, linkedid AS uniqueid FROM calls
 UNION SELECT call_id, connection_id, uniqueid FROM call_legs) AS channels
JOIN queue_visits AS visit ON visit.connection_id = channels.connection_id AND visit.uniqueid = channels.uniqueid
GROUP BY call_id, queue ORDER BY call_id, min(joined_at), queue
"""
# What PostgreSQL keeps in four bytes, and what the outside decides: AMI's counters, positions, file sizes.
_COUNTS = {
    "queue_visits": ("position", "original_position"),
    "call_legs": ("sequence", "cause"),
    "queue_samples": (
        *("calls", "longest_wait_s", "agents_available", "agents", "agents_paused"),
        *("completed", "abandoned", "hold_time_s", "talk_time_s"),
    ),
    "trunk_samples": ("channels",),
    "member_samples": ("status",),
    "snapshots": ("took_ms", "active_calls", "channels"),
    "recordings": ("size_bytes",),
    "import_marks": ("rows", "bad"),
    "trunk_limits": ("lines",),
    "jobs": ("done", "total"),
    "day_packs": ("rows",),
}


def upgrade() -> None:
    op.execute(f"DELETE FROM day_packs WHERE kind IN {_KINDS}")  # noqa: S608 - first: no trigger has anything to do then
    op.add_column("day_packs", sa.Column("types", sa.String, nullable=False, server_default=""))
    op.add_column("calls", sa.Column("answered_in", sa.String, nullable=False, server_default=""))
    _name_queues_in_legs()
    _ask_visits()
    _watch_answers()
    if op.get_bind().dialect.name == "postgresql":
        for table, columns in _COUNTS.items():
            _widen(table, columns)


def _widen(table: str, columns: tuple[str, ...]) -> None:
    """PostgreSQL changes no type of a column that a trigger is defined by."""
    triggers = op.get_bind().execute(
        sa.text(
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgrelid = CAST(:name AS regclass)"
        ),
        {"name": table},
    )
    found = triggers.all()
    for name, _ in found:
        op.execute(f"DROP TRIGGER {name} ON {table}")
    op.execute(f"ALTER TABLE {table} {', '.join(f'ALTER COLUMN {column} TYPE BIGINT' for column in columns)}")
    for _, definition in found:
        op.execute(definition)


def _name_queues_in_legs() -> None:
    wrong = f"SELECT call_id FROM call_legs WHERE {_WRONG}"  # noqa: S608 - a constant above
    op.execute(f"UPDATE calls SET queue = '' WHERE queue > '' AND queue = did AND id IN ({wrong})")  # noqa: S608
    its_queue = f"SELECT {_ITS_QUEUE} FROM call_legs WHERE call_id = calls.id AND {_WRONG} LIMIT 1"  # noqa: S608
    op.execute(
        f"UPDATE calls SET to_number = coalesce(({its_queue}), to_number)"  # noqa: S608
        f" WHERE to_number > '' AND to_number = did AND id IN ({wrong})"
    )
    op.execute(f"UPDATE call_legs SET dst = coalesce({_ITS_QUEUE}, dst) WHERE {_WRONG}")  # noqa: S608


def _ask_visits() -> None:
    """As pbx.store.queues_of_calls does since."""
    op.execute("UPDATE calls SET answered_in = queue WHERE queue > '' AND disposition = 'ANSWERED'")
    connection = op.get_bind()
    change = sa.text("UPDATE calls SET queue = :queue, answered_in = :answered_in WHERE id = :call_id")
    told: list[dict[str, Any]] = []
    for call in _visited(connection):
        told.append(call)
        if len(told) == _CHUNK:
            connection.execute(change, told)
            told = []
    if told:
        connection.execute(change, told)


def _visited(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    rows = connection.exec_driver_sql(_VISITED).all()
    for call_id, visits in groupby(rows, key=lambda row: row[0]):
        queues = [(queue, answered) for _, queue, answered in visits]
        answered_in = _joined(queue for queue, answered in queues if answered)
        yield {"call_id": call_id, "queue": _joined(queue for queue, _ in queues), "answered_in": answered_in}


def _joined(names: Iterator[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= _LONGEST else text[: _LONGEST + 1].rpartition(", ")[0] or text[:_LONGEST]


def _watch_answers() -> None:
    """The triggers of step 0004 for `calls` see the new column too."""
    forget = " ".join(
        f"DELETE FROM day_packs WHERE connection_id = {row}.connection_id AND kind = 'calls'"  # noqa: S608
        f" AND day = {row}.started_at / 86400;"
        for row in ("OLD", "NEW")
    )
    name, when = "forget_calls_answers", "AFTER UPDATE OF answered_in"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} {when} ON calls BEGIN {forget} END")
        return
    op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {forget} RETURN NULL; END $$")
    op.execute(f"CREATE TRIGGER {name} {when} ON calls FOR EACH ROW EXECUTE FUNCTION {name}()")
