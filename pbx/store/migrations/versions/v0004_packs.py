"""Days packed for the figures, and the triggers that drop a pack when a row of its day changes."""

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import text

revision = "0004"
down_revision = "0003"

# Per table: the columns that are packed, by which column a row belongs to a day, and the kinds of packs.
_MINE = {
    "queue_visits": (
        "joined_at, queue, agent, did, outcome, connected_at, wait_s, talk_s, caller, target",
        "{row}.joined_at",
        "'visits'",
    ),
    "agent_rings": ("rung_at, agent, queue, ring_s", "{row}.rung_at", "'rings'"),
    "agent_events": ("happened_at, agent, queue, kind, reason", "{row}.happened_at", "'changes'"),
    "calls": (
        "started_at, direction, disposition, did, queue, agent, from_number, to_number, talk_s, wait_s, duration_s",
        "{row}.started_at",
        "'calls', 'talks', 'seizures'",
    ),
    "call_legs": (
        "call_id, trunk, channel, dst_channel, disposition, cause, started_at, answered_at, duration_s, billsec_s,"
        " pdd_s",
        "(SELECT started_at FROM calls WHERE id = {row}.call_id)",
        "'seizures'",
    ),
}
_ROWS = {"INSERT": ("NEW",), "UPDATE": ("OLD", "NEW"), "DELETE": ("OLD",)}


def upgrade() -> None:
    op.create_table(
        "day_packs",
        sa.Column("connection_id", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rows", sa.Integer, nullable=False),
        text("names"),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    for table in _MINE:
        for change in _ROWS:
            watch(table, change)


def watch(table: str, change: str) -> None:
    columns, at, kinds = _MINE[table]
    forget = " ".join(
        f"DELETE FROM day_packs WHERE connection_id = {row}.connection_id AND kind IN ({kinds})"  # noqa: S608 - names above
        f" AND day = {at.format(row=row)} / 86400;"
        for row in _ROWS[change]
    )
    name = f"forget_{table}_{change.lower()}"
    when = f"AFTER {change} OF {columns}" if change == "UPDATE" else f"AFTER {change}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} {when} ON {table} BEGIN {forget} END")
        return
    op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {forget} RETURN NULL; END $$")
    op.execute(f"CREATE TRIGGER {name} {when} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
