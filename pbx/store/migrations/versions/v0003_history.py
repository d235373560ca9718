"""What happened: visits to queues, agents' events, calls' legs, what was listened to and imported, alerts."""

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import flag, number, refer, text, time

revision = "0003"
down_revision = "0002"


def seconds(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Float)


def key() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def upgrade() -> None:
    for name in ("from_name", "did", "disposition"):
        op.add_column("calls", sa.Column(name, sa.String, nullable=False, server_default=""))
    for name in ("talk_s", "wait_s"):
        op.add_column("calls", seconds(name))
    make_visits()
    make_agents()
    make_legs()
    make_marks()
    make_alerts()


def make_visits() -> None:
    op.create_table(
        "queue_visits",
        key(),
        refer("connection_id", "connections.id"),
        text("uniqueid"),
        text("queue"),
        time("joined_at", null=False),
        time("connected_at"),
        time("ended_at"),
        text("outcome"),
        seconds("wait_s"),
        seconds("ring_s"),
        seconds("talk_s"),
        text("agent"),
        text("interface"),
        text("caller"),
        text("caller_name"),
        text("did"),
        number("position", null=True),
        number("original_position", null=True),
        text("ended_by"),
        text("target"),
        text("source"),
    )
    facts = ["queue", "outcome", "wait_s", "talk_s", "agent", "did"]
    op.create_index("ix_queue_visits_joined", "queue_visits", ["connection_id", "joined_at", *facts])
    op.create_index("ix_queue_visits_uniqueid", "queue_visits", ["connection_id", "uniqueid", "queue"])
    op.create_index("ix_queue_visits_caller", "queue_visits", ["connection_id", "caller", "joined_at"])
    op.create_index("ix_queue_visits_agent", "queue_visits", ["connection_id", "agent", "joined_at"])


def make_agents() -> None:
    op.create_table(
        "agent_rings",
        key(),
        refer("connection_id", "connections.id"),
        time("rung_at", null=False),
        text("agent"),
        text("queue"),
        text("uniqueid"),
        sa.Column("ring_s", sa.Float, nullable=False),
        sa.UniqueConstraint("connection_id", "rung_at", "agent", "queue", "uniqueid"),
    )
    op.create_table(
        "agent_events",
        key(),
        refer("connection_id", "connections.id"),
        time("happened_at", null=False),
        text("agent"),
        text("queue"),
        text("kind"),
        text("reason"),
        sa.UniqueConstraint("connection_id", "happened_at", "agent", "queue", "kind"),
    )


def make_legs() -> None:
    names = ("linkedid", "uniqueid")
    facts = ("channel", "dst_channel", "trunk", "src", "dst", "did", "context", "last_app")
    op.create_table(
        "call_legs",
        key(),
        refer("connection_id", "connections.id"),
        refer("call_id", "calls.id"),
        *map(text, names),
        number("sequence", null=True),
        *map(text, facts),
        time("started_at", null=False),
        time("answered_at"),
        time("ended_at"),
        seconds("duration_s"),
        seconds("billsec_s"),
        text("disposition"),
        number("cause", null=True),
        seconds("pdd_s"),
        text("recording_file"),
        text("source"),
        sa.UniqueConstraint("connection_id", "linkedid", "channel", "dst_channel"),
    )
    op.create_index("ix_call_legs_call", "call_legs", ["call_id"])
    op.create_index("ix_call_legs_uniqueid", "call_legs", ["connection_id", "uniqueid"])
    figures = ["trunk", "disposition", "billsec_s", "duration_s"]
    op.create_index("ix_call_legs_trunk", "call_legs", ["connection_id", "started_at", *figures])


def make_marks() -> None:
    op.create_table(
        "watch_spans",
        key(),
        refer("connection_id", "connections.id"),
        time("from_at", null=False),
        time("until_at", null=False),
        text("ended_by"),
    )
    op.create_index("ix_watch_spans", "watch_spans", ["connection_id", "from_at"])
    op.create_table(
        "import_marks",
        key(),
        refer("connection_id", "connections.id"),
        text("kind"),
        text("source"),
        text("label"),
        sa.Column("position", sa.BigInteger, nullable=False),
        number("rows"),
        number("bad"),
        sa.Column("faults", sa.JSON, nullable=False),
        time("read_at", null=False),
        sa.UniqueConstraint("connection_id", "kind", "source"),
    )


def make_alerts() -> None:
    op.create_table(
        "alert_rules",
        key(),
        refer("connection_id", "connections.id"),
        text("kind"),
        text("subject"),
        sa.Column("threshold", sa.Float, nullable=False),
        flag("enabled"),
        text("targets_encrypted"),
    )
    op.create_table(
        "alerts",
        key(),
        refer("rule_id", "alert_rules.id"),
        text("subject"),
        time("begun_at", null=False),
        time("ended_at"),
        text("about"),
        time("cleared_at"),
        flag("told_begin"),
        flag("told_end"),
        sa.Column("unsent", sa.JSON, nullable=False),
        number("attempts"),
        time("retry_at"),
        text("failure"),
    )
    op.create_index("ix_alerts_rule", "alerts", ["rule_id", "begun_at"])
