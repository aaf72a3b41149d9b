"""How long sessions are kept, and finding those that are due."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("retention_days", sa.Integer), schema="sessions")
    with op.get_context().autocommit_block():
        op.create_index(
            "sessions_by_last_activity",
            "sessions",
            ["last_activity_time", "user_id", "session_id"],
            postgresql_where=sa.text("delete_time IS NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
            schema="sessions",
        )
        op.create_index(
            "sessions_by_own_retention",
            "sessions",
            ["user_id", "session_id", "last_activity_time", "retention_days"],
            postgresql_where=sa.text("delete_time IS NULL AND retention_days IS NOT NULL"),
            postgresql_concurrently=True,
            if_not_exists=True,
            schema="sessions",
        )
