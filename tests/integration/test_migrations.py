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
    command = [sys.executable, "-m", f"services.{service}", "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
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
