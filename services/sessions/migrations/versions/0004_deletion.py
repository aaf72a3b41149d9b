"""Deleted sessions leave a mark, erased people a memory, and both are owed to other services."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sessions", sa.Column("delete_time", sa.DateTime(timezone=True)), schema="sessions"
    )
    op.create_table(
        "outbox",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("session_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("set_aside_time", sa.DateTime(timezone=True)),
        schema="sessions",
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["kind", "due_time", "user_id", "session_id"],
        postgresql_where=sa.text("set_aside_time IS NULL"),
        schema="sessions",
    )
    op.create_table(
        "erased_people",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("erase_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conversations", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("key_ids", ARRAY(sa.Uuid), nullable=False),
        schema="sessions",
    )
