"""Bytes: how much of a person's quota each conversation takes."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What there is is counted when needed: nothing is filled in.
    for name in ("bytes", "counted_revision"):
        op.add_column(
            "conversations",
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")),
            schema="messages",
        )
