"""A person's profile and current session are a feed, which counts its changes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "users",
        sa.Column("feed_revision", sa.BigInteger, nullable=False, server_default=sa.text("1")),
        schema="users",
    )
