"""The path prefix of the PBX's web server."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("connections", sa.Column("ari_prefix", sa.String, nullable=False, server_default=""))
