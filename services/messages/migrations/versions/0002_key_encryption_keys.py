"""The books of key-encryption keys, and the uses of data keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_encryption_keys",
        sa.Column("kek_id", sa.Text, primary_key=True),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retire_time", sa.DateTime(timezone=True)),
        schema="messages",
    )
    op.execute(
        "INSERT INTO messages.key_encryption_keys (kek_id, create_time)"
        " SELECT kek_id, min(create_time) FROM messages.data_keys GROUP BY kek_id"
    )
    # Nobody counted the uses of the data keys so far: all 2^32 may have been made.
    op.add_column(
        "data_keys",
        sa.Column("uses", sa.BigInteger, nullable=False, server_default="4294967296"),
        schema="messages",
    )
