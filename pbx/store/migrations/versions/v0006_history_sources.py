"""The source of each PBX's history and its schedule, and the columns of a leg that CEL adds."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for table, name in (
        ("connections", "history_url_encrypted"),
        ("connections", "history_every"),
        ("call_legs", "ended_by"),
        ("call_legs", "transferred_to"),
    ):
        op.add_column(table, sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column("call_legs", sa.Column("bridged_at", sa.BigInteger, nullable=True))
