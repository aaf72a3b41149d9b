"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("key_id", sa.Uuid, primary_key=True),
        sa.Column("kek_id", sa.Text, nullable=False),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        schema="sessions",
    )
    op.create_index("ix_sessions_data_keys_kek_id", "data_keys", ["kek_id"], schema="sessions")
    op.create_table(
        "people",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        schema="sessions",
    )
    op.create_table(
        "sessions",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("session_id", sa.Uuid, primary_key=True),
        sa.Column("title", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("activity", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_activity_time", sa.DateTime(timezone=True), nullable=False),
        schema="sessions",
    )
    op.create_index(
        "sessions_by_activity", "sessions", ["user_id", "activity"], unique=True, schema="sessions"
    )
    op.create_index(
        "sessions_by_revision", "sessions", ["user_id", "revision"], unique=True, schema="sessions"
    )
