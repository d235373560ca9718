"""The first cache: connections, calls with recordings, snapshots with samples, jobs.

Times are whole epoch seconds. Samples are kept by subject, then time: what one chart reads lies together.
"""

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import flag, number, refer, text, time

revision = "0001"
down_revision = None


def upgrade() -> None:
    make_connections()
    make_calls()
    make_recordings()
    make_snapshots()
    make_samples("queue_samples", *map(number, QUEUE_NUMBERS))
    make_samples("trunk_samples", text("state"), sa.Column("roundtrip_ms", sa.Float), number("channels"))
    make_samples("member_samples", number("status", null=True), flag("paused"), text("pause_reason"), flag("in_call"))
    make_samples("extension_samples", text("status"))
    make_jobs()


QUEUE_NUMBERS = (
    "calls",
    "longest_wait_s",
    "agents_available",
    "agents",
    "agents_paused",
    "completed",
    "abandoned",
    "hold_time_s",
    "talk_time_s",
)


def make_connections() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("host", sa.String, nullable=False, unique=True),
        flag("saved"),
        flag("active"),
        number("ari_port"),
        flag("ari_tls"),
        text("ari_username"),
        text("ari_password_encrypted"),
        number("ami_port"),
        flag("ami_tls"),
        text("ami_username"),
        text("ami_password_encrypted"),
        sa.Column("ca_file", sa.String),
        sa.Column("timezone", sa.String),
        number("utc_offset_s", null=True),
        time("updated_at", null=False),
    )


def make_calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("connection_id", "connections.id"),
        text("source"),
        text("linkedid"),
        text("uniqueid"),
        text("direction"),
        text("from_number"),
        text("to_number"),
        text("queue"),
        text("agent"),
        time("started_at"),
        sa.Column("duration_s", sa.Float),
        text("state"),
        sa.UniqueConstraint("connection_id", "linkedid"),
    )
    filters = ["queue", "direction", "state", "from_number", "to_number"]
    op.create_index("ix_calls_started", "calls", ["connection_id", "started_at", "id", *filters])
    op.create_index("ix_calls_queue", "calls", ["connection_id", "queue"])


def make_recordings() -> None:
    op.create_table(
        "recordings",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("connection_id", "connections.id"),
        refer("call_id", "calls.id"),
        text("name"),
        text("format"),
        text("type"),
        text("uniqueid"),
        time("started_at"),
        text("state"),
        text("reason"),
        text("file"),
        number("size_bytes", null=True),
        sa.Column("duration_s", sa.Float),
        time("listed_at", null=False),
        time("downloaded_at"),
        time("gone_at"),
        sa.UniqueConstraint("connection_id", "name"),
    )
    op.create_index("ix_recordings_call", "recordings", ["call_id"])
    op.create_index("ix_recordings_state", "recordings", ["connection_id", "state"])


def make_snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("connection_id", "connections.id"),
        time("taken_at", null=False),
        number("took_ms"),
        number("active_calls"),
        number("channels"),
        sa.Column("not_ok", sa.JSON, nullable=False),
        sa.UniqueConstraint("connection_id", "taken_at"),
    )
    op.create_table(
        "latest_snapshots",
        sa.Column("connection_id", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        time("taken_at", null=False),
        text("document"),
    )
    op.create_table(
        "subjects",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("connection_id", "connections.id"),
        text("kind"),
        text("name"),
        text("tech"),
        text("parent"),
        text("label"),
        sa.UniqueConstraint("connection_id", "kind", "parent", "tech", "name"),
    )


def make_samples(table: str, *values: sa.Column) -> None:  # type: ignore[type-arg]  # of several types
    op.create_table(
        table,
        sa.Column("subject_id", sa.Integer, sa.ForeignKey("subjects.id"), primary_key=True),
        sa.Column("taken_at", sa.BigInteger, primary_key=True),
        *values,
        sqlite_with_rowid=False,
    )


def make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, primary_key=True),
        text("kind"),
        refer("connection_id", "connections.id", null=True),
        sa.Column("options", sa.JSON, nullable=False),
        text("state"),
        number("attempts"),
        text("asked_by"),
        time("asked_at", null=False),
        time("started_at"),
        time("ended_at"),
        text("worker"),
        number("done"),
        number("total", null=True),
        sa.Column("result", sa.JSON, nullable=False),
        text("error"),
    )
    op.create_index("ix_jobs_kind", "jobs", ["kind", "asked_at"])
