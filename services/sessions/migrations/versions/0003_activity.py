"""What the messages service tells of a session, and a version that this does not change.

Lists are ordered by the time that they show. The column `activity`, which ordered them before,
stays for processes of the release before, which still write it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("message_count", "activity_revision"):
        op.add_column(
            "sessions",
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")),
            schema="sessions",
        )
    op.add_column(
        "sessions",
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        schema="sessions",
    )
    op.execute("UPDATE sessions.sessions SET version = revision")
    op.alter_column("sessions", "activity", server_default=sa.text("0"), schema="sessions")
    op.drop_index("sessions_by_activity", "sessions", schema="sessions")
    op.create_index(
        "sessions_by_activity",
        "sessions",
        ["user_id", "last_activity_time", "session_id"],
        schema="sessions",
    )
