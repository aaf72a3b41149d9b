"""Bringing a service's schema up to date: its role, its rights, its tables.

Each service has a schema, which the migrating role owns, and a login role that may read and write
the rows in it, and do nothing else anywhere. Tables are Alembic's: one history for each service, in
its own folder, recorded in its own schema.
"""

from pathlib import Path

import psycopg
from alembic import command, context
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

from services.runtime.settings import MigrationSettings

_VERSION_TABLE = "alembic_version"
# Services migrate side by side, and PostgreSQL does not let two grants on one database meet.
_LOCK = 0x1461E


def migrate(settings: MigrationSettings, schema: str, migrations: Path) -> None:
    """Makes the service's role and schema where they are missing, and upgrades the tables.

    Raises:
        psycopg.Error: the database refused, or cannot be reached.
    """
    service = conninfo_to_dict(settings.database_url)
    role, password = str(service["user"]), service.get("password")
    with psycopg.connect(settings.admin_database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
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
        "postgresql+psycopg://", creator=lambda: psycopg.connect(admin_url), poolclass=NullPool
    )
    config = Config()
    config.set_main_option("script_location", migrations.as_posix().replace("%", "%%"))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        config.attributes["schema"] = schema
        command.upgrade(config, "head")


def _grant_rows(connection: psycopg.Connection, schema: str, role: str) -> None:
    names = {
        "schema": sql.Identifier(schema),
        "role": sql.Identifier(role),
        "version": sql.Identifier(schema, _VERSION_TABLE),
    }
    for statement in (
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON {version} FROM {role}",
    ):
        connection.execute(sql.SQL(statement).format(**names))
