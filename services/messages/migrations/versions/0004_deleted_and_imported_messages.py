"""Deleted messages leave a tombstone, changed ones know what was first said, imported ones when.

The indexes of order become partial: each serves its own queries only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
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
    for column, condition in (("sequence", "body IS NOT NULL"), ("revision", "revision > 0")):
        op.drop_index(f"messages_by_{column}", "messages", schema="messages")
        op.create_index(
            f"messages_by_{column}",
            "messages",
            ["session_id", "user_id", column],
            unique=True,
            postgresql_where=sa.text(condition),
            schema="messages",
        )
