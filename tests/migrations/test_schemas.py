"""Migrations: the command works, again and again, and makes the tables that the code describes."""

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine
from sqlalchemy.pool import NullPool

from local.stack import Stack
from services.messages.tables import METADATA as MESSAGES
from services.sessions.store import METADATA as SESSIONS
from services.users.store import METADATA as USERS
from tests.migrations.upgrading import upgrade

TABLES = {"users": USERS, "sessions": SESSIONS, "messages": MESSAGES}


@pytest.fixture
def connection(stack: Stack) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(stack.admin_url),
        poolclass=NullPool,
    )
    with engine.connect() as opened:
        yield opened


@pytest.mark.parametrize("service", TABLES)
def test_the_command_migrates_and_can_be_repeated(stack: Stack, service: str) -> None:
    environment = {
        **stack.service(service).environment,
        "INGLENOOK_ADMIN_DATABASE_URL": stack.admin_url,
    }
    migrate = [sys.executable, "-m", f"services.{service}", "migrate"]
    done = subprocess.run(migrate, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("service", "described"), TABLES.items())
def test_the_migrations_make_what_the_code_describes(
    connection: Connection, service: str, described: MetaData
) -> None:
    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == service,
            "version_table_schema": service,
            "compare_type": True,
        },
    )
    assert compare_metadata(context, described) == []


@pytest.mark.parametrize(("service", "described"), TABLES.items())
def test_data_keys_from_before_uses_were_counted_are_used_up_and_their_keks_on_the_books(
    empty_database: str, service: str, described: MetaData
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as database:
        database.execute(f"CREATE SCHEMA {service}".encode())
        upgrade(empty_database, service, "0001")
        scope = [column.name for column in described.tables[f"{service}.data_keys"].primary_key]
        values = ", ".join("gen_random_uuid()" for _ in scope)
        stored = [("kek-a", "2026-01-02"), ("kek-b", "2026-02-01"), ("kek-a", "2026-01-01")]
        for kek_id, day in stored:
            database.execute(
                f"INSERT INTO {service}.data_keys"  # noqa: S608
                f" ({', '.join(scope)}, kek_id, wrapped, create_time)"
                f" VALUES ({values}, %s, 'wrapped', %s)".encode(),
                (kek_id, day),
            )
        upgrade(empty_database, service, "head")
        books = database.execute(
            f"SELECT kek_id, create_time::date::text, retire_time"  # noqa: S608
            f" FROM {service}.key_encryption_keys ORDER BY kek_id".encode()
        ).fetchall()
        assert books == [("kek-a", "2026-01-01", None), ("kek-b", "2026-02-01", None)]
        uses = database.execute(f"SELECT uses FROM {service}.data_keys".encode()).fetchall()  # noqa: S608
        assert uses == [(1 << 32,)] * 3
