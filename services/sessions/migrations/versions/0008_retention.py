"""How long sessions are kept, and finding those that are due."""

import sqlalchemy as sa
from alembic import op

from services.runtime.migration import build_index

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # It is there when the indexes were being built and that was cut.
    op.add_column(
        "sessions",
        sa.Column("retention_days", sa.Integer),
        schema="sessions",
        if_not_exists=True,
    )
    with op.get_context().autocommit_block():
        build_index(
            "sessions_by_last_activity",
            "sessions",
            ["last_activity_time", "user_id", "session_id"],
            where="delete_time IS NULL",
            schema="sessions",
        )
        build_index(
            "sessions_by_own_retention",
            "sessions",
            ["user_id", "session_id", "last_activity_time", "retention_days"],
            where="delete_time IS NULL AND retention_days IS NOT NULL",
            schema="sessions",
        )
