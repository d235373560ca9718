"""The trunk by which an incoming call left again; existing legs are searched for theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("call_legs", sa.Column("onward_trunk", sa.String, nullable=False, server_default=""))
    op.execute(
        "UPDATE call_legs SET onward_trunk = coalesce((SELECT name FROM subjects"
        " WHERE subjects.connection_id = call_legs.connection_id AND kind = 'trunk'"
        " AND dst_channel LIKE '%/' || name || '-%' ORDER BY length(name) DESC LIMIT 1), '')"
        " WHERE trunk > '' AND channel LIKE '%/' || trunk || '-%' AND dst_channel LIKE '%/%-%'"
        " AND dst_channel NOT LIKE 'Local/%'"
    )
    op.execute("DELETE FROM day_packs WHERE kind = 'seizures'")
