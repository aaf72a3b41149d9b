"""Bringing a service's schema up to date: its role, its rights, its tables.

Each service has a schema, which the migrating role owns, and a login role that may read and write
the rows in it, but only add to the access log and read it, and do nothing else anywhere. Tables are
Alembic's: one history for each service, in its own folder, recorded in its own schema.

It is done while services run. A migration that cannot have a table at once does not queue for it,
for everyone behind it would queue too: it gives way and tries again. A migration is a transaction,
and done as a whole or not at all; one that builds indexes beside others' work cannot be, and is
written so that it can be begun anew wherever it was cut.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg
from alembic import command, context, op
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from services.runtime.audit.log import ENTRIES
from services.runtime.settings import MigrationSettings

_log = logging.getLogger(__name__)

_VERSION_TABLE = "alembic_version"
_LOCK_TIMEOUT = "2s"
_TRIES = 30
_PAUSE_SECONDS = 1.0
# Services migrate side by side, and PostgreSQL does not let two grants on one database meet.
_LOCK = 0x1461E


def migrate(settings: MigrationSettings, schema: str, migrations: Path) -> None:
    """Makes the service's role and schema where they are missing, and upgrades the tables.

    Raises:
        psycopg.Error: the database refused, or cannot be reached, or its tables were never free.
    """
    service = conninfo_to_dict(settings.database_url)
    role, password = str(service["user"]), service.get("password")
    with psycopg.connect(settings.admin_database_url, autocommit=True) as connection:
        _take_turn(connection)
        _provide_role(connection, role, None if password is None else str(password))
        _provide_schema(connection, schema, role)
        _upgrade(settings.admin_database_url, schema, migrations)
        _grant_rows(connection, schema, role)


def run_migrations(metadata: MetaData) -> None:
    """Runs a service's migrations on the connection that `migrate` made: for each `env.py`."""
    connection: SqlConnection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        version_table=_VERSION_TABLE,
        version_table_schema=metadata.schema,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def build_index(name: str, table: str, columns: Sequence[str], *, where: str, schema: str) -> None:
    """Builds a partial index while others write; anew, if that was begun before and cut.

    For a migration's `autocommit_block`. An index is of use once every transaction that was open
    meanwhile has ended, a backup's among them. That is waited for, however long it takes: nobody
    has to wait behind it, and to give way would leave an index that writes keep up for no query.
    """
    op.execute("SET lock_timeout = 0")
    op.drop_index(name, table, schema=schema, if_exists=True, postgresql_concurrently=True)
    op.create_index(
        name,
        table,
        list(columns),
        schema=schema,
        postgresql_where=text(where),
        postgresql_concurrently=True,
    )
    op.execute("RESET lock_timeout")


def _take_turn(connection: psycopg.Connection) -> None:
    """Waits until no other service migrates.

    It asks again and again: one that waits inside the database is a transaction that CREATE INDEX
    CONCURRENTLY, of whoever has the lock, would wait for in turn.
    """
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK,)).fetchone()
        if row is not None and row[0]:
            return
        time.sleep(_PAUSE_SECONDS)


def _provide_role(connection: psycopg.Connection, role: str, password: str | None) -> None:
    name = sql.Identifier(role)
    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if found is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    if password is not None:
        # The verifier is made here (RFC 5803), so that the server's log cannot hold the password.
        verifier = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier.decode()))
        )


def _provide_schema(connection: psycopg.Connection, schema: str, role: str) -> None:
    database = sql.Identifier(connection.info.dbname)
    names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role), "database": database}
    for statement in (
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO {role}",
        "CREATE SCHEMA IF NOT EXISTS {schema}",
        "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
    ):
        connection.execute(sql.SQL(statement).format(**names))


def _upgrade(admin_url: str, schema: str, migrations: Path) -> None:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(admin_url, options=f"-c lock_timeout={_LOCK_TIMEOUT}"),
        poolclass=NullPool,
    )
    config = Config()
    config.set_main_option("script_location", migrations.as_posix().replace("%", "%%"))
    for tries_left in reversed(range(_TRIES)):
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            config.attributes["schema"] = schema
            try:
                command.upgrade(config, "head")
            except OperationalError as error:
                is_in_use = isinstance(error.orig, LockNotAvailable | DeadlockDetected)
                if not is_in_use or not tries_left:
                    raise
                _log.warning("a table is in use; trying again", extra={"schema": schema})
            else:
                return
        time.sleep(_PAUSE_SECONDS)


def _grant_rows(connection: psycopg.Connection, schema: str, role: str) -> None:
    names = {
        "schema": sql.Identifier(schema),
        "role": sql.Identifier(role),
        "version": sql.Identifier(schema, _VERSION_TABLE),
        "access_log": sql.Identifier(schema, ENTRIES),
    }
    # At once, so that what may only grow may at no moment be changed.
    with connection.transaction():
        for statement in (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
            "REVOKE INSERT, UPDATE, DELETE ON {version} FROM {role}",
            "REVOKE UPDATE, DELETE ON {access_log} FROM {role}",
            "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC",
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
        ):
            connection.execute(sql.SQL(statement).format(**names))
