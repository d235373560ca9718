"""Indexes by which a queue's calls, and the agents there are, are found without reading the others."""

from alembic import op

revision = "0009"
down_revision = "0008"

_QUEUE = ("connection_id", "queue", "started_at", "id", "direction", "state", "from_number", "to_number")


def upgrade() -> None:
    op.drop_index("ix_calls_queue", "calls")
    op.create_index("ix_calls_queue", "calls", [*_QUEUE, "transcription"])
    op.create_index("ix_calls_agent", "calls", ["connection_id", "agent"])
