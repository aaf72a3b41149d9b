"""People who were erased are remembered by their ids."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "erased_people",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("erase_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("conversations", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("key_ids", ARRAY(sa.Uuid), nullable=False),
        schema="messages",
    )
