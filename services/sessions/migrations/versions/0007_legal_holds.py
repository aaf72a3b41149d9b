"""Legal holds."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "sessions",
        sa.Column("is_held", sa.Boolean, nullable=False, server_default=sa.text("false")),
        schema="sessions",
    )
    op.add_column(
        "sessions", sa.Column("hold_change_time", sa.DateTime(timezone=True)), schema="sessions"
    )
    op.add_column("sessions", sa.Column("hold_reference", sa.Text), schema="sessions")
