"""Locked people."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "locked_people",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("is_locked", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("change_time", sa.DateTime(timezone=True), nullable=False),
        schema="messages",
    )
