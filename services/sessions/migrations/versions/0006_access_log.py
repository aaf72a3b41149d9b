"""Access logs: who else than a person had to do with what is theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The service's role may not delete entries: this erases those of whoever is remembered as erased,
# and nobody else's. The head first: who adds an entry holds it, so that the entries are seen then.
_ERASE = """
CREATE FUNCTION sessions.erase_access_log(person uuid) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
    DELETE FROM sessions.access_log_heads AS head USING sessions.erased_people AS gone
    WHERE head.user_id = person AND gone.user_id = person;
    WITH erased AS (
        DELETE FROM sessions.access_log AS entry USING sessions.erased_people AS gone
        WHERE entry.user_id = person AND gone.user_id = person
        RETURNING entry.sequence
    )
    SELECT count(*) FROM erased;
$$
"""


def upgrade() -> None:
    op.create_table(
        "access_log",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.SmallInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("session_id", sa.Uuid),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        schema="sessions",
    )
    op.create_table(
        "access_log_heads",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("seal", sa.LargeBinary, nullable=False),
        schema="sessions",
    )
    op.execute(_ERASE)
    op.execute("REVOKE EXECUTE ON FUNCTION sessions.erase_access_log(uuid) FROM PUBLIC")
    op.add_column(
        "erased_people",
        sa.Column("access_log_entries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        schema="sessions",
    )
