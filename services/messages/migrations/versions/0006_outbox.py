"""What is owed to other services, and when something was last said in a conversation."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("session_id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("set_aside_time", sa.DateTime(timezone=True)),
        schema="messages",
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["kind", "due_time", "session_id", "user_id"],
        postgresql_where=sa.text("set_aside_time IS NULL"),
        schema="messages",
    )
    op.add_column(
        "conversations", sa.Column("activity_time", sa.DateTime(timezone=True)), schema="messages"
    )
    # Of what was said before, the sessions service was never told.
    op.execute(
        "UPDATE messages.conversations SET activity_time ="
        " (SELECT max(create_time) FROM messages.messages"
        " WHERE messages.session_id = conversations.session_id"
        " AND messages.user_id = conversations.user_id)"
    )
    op.execute(
        "INSERT INTO messages.outbox (session_id, user_id, kind, create_time, due_time, tries)"
        " SELECT session_id, user_id, 'activity', now(), now(), 0 FROM messages.conversations"
        " WHERE activity_time IS NOT NULL"
    )
