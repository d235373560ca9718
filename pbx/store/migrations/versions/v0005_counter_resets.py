"""When the counters of the PBX restarted."""

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import refer, text, time

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "counter_resets",
        sa.Column("id", sa.Integer, primary_key=True),
        refer("connection_id", "connections.id"),
        time("happened_at", null=False),
        text("queue"),
        text("what"),
    )
    op.create_index("ix_counter_resets", "counter_resets", ["connection_id", "happened_at"])
