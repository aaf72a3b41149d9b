"""Deleted messages leave a tombstone, edited ones know what was first said, imported ones when."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("messages", "body", nullable=True, schema="messages")
    op.add_column("messages", sa.Column("original", sa.LargeBinary), schema="messages")
    op.add_column(
        "messages", sa.Column("import_time", sa.DateTime(timezone=True)), schema="messages"
    )
    op.add_column(
        "conversations", sa.Column("delete_time", sa.DateTime(timezone=True)), schema="messages"
    )
