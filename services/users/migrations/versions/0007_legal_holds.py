"""Legal holds, as the sessions service tells of them."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "legal_holds",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("session_id", sa.Uuid, primary_key=True),
        sa.Column("is_held", sa.Boolean, nullable=False),
        sa.Column("change_time", sa.DateTime(timezone=True), nullable=False),
        schema="users",
    )
