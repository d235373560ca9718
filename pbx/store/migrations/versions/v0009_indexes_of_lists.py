"""Indexes that find the calls of a queue and the names of agents without reading other rows."""

from alembic import op

revision = "0009"
down_revision = "0008"

_QUEUE = ("connection_id", "queue", "started_at", "id", "direction", "state", "from_number", "to_number")


def upgrade() -> None:
    op.drop_index("ix_calls_queue", "calls")
    op.create_index("ix_calls_queue", "calls", [*_QUEUE, "transcription"])
    op.create_index("ix_calls_agent", "calls", ["connection_id", "agent"])
