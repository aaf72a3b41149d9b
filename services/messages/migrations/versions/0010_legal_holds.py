"""Legal holds, as the sessions service tells of them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "conversations",
        sa.Column("is_held", sa.Boolean, nullable=False, server_default=sa.text("false")),
        schema="messages",
    )
    op.add_column(
        "conversations",
        sa.Column("hold_change_time", sa.DateTime(timezone=True)),
        schema="messages",
    )
