"""Messages that grow: their state, who writes them, and the parts that they have got so far."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("state", sa.SmallInteger, nullable=False, server_default=sa.text("1")),
        sa.Column("length", sa.Integer),
        sa.Column("begun_revision", sa.BigInteger),
        sa.Column("writer", sa.Uuid),
        sa.Column("writer_service", sa.Text),
        sa.Column("writer_deadline", sa.DateTime(timezone=True)),
    ):
        op.add_column("messages", column, schema="messages")
    op.create_index(
        "messages_growing",
        "messages",
        ["writer_deadline"],
        postgresql_where=sa.text("state = 2"),
        schema="messages",
    )
    op.create_table(
        "message_parts",
        sa.Column("session_id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("message_id", sa.Uuid, primary_key=True),
        sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        schema="messages",
    )
