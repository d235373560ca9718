"""The capacity of each trunk, as entered by the analyst."""

import sqlalchemy as sa
from alembic import op

from pbx.store.migrations.columns import number

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "trunk_limits",
        sa.Column("connection_id", sa.Integer, sa.ForeignKey("connections.id"), primary_key=True),
        sa.Column("trunk", sa.String, primary_key=True),
        number("lines"),
    )
