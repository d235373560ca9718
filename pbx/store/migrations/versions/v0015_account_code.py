"""The account code of a call's leg."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("call_legs", sa.Column("account_code", sa.String, nullable=False, server_default=""))
