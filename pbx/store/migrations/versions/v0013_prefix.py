"""The prefix of the PBX's web server; sizes of recordings beyond 2 GB, which are noted though not fetched."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("connections", sa.Column("ari_prefix", sa.String, nullable=False, server_default=""))
    if op.get_bind().dialect.name == "postgresql":  # SQLite's integers are as long as need be
        op.alter_column("recordings", "size_bytes", type_=sa.BigInteger)
