"""Reading a person's messages over all conversations: the newest first, and session by session."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "messages_by_person",
        "messages",
        ["user_id", "create_time", "session_id", "sequence"],
        postgresql_where=sa.text("body IS NOT NULL"),
        schema="messages",
    )
    op.create_index(
        "conversations_by_person",
        "conversations",
        ["user_id", "session_id"],
        unique=True,
        schema="messages",
    )
