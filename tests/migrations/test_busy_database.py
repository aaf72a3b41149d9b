"""Migrations wait for who is busy in their database, or give way, and are done in the end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import IsolationLevel
from sqlalchemy.exc import SQLAlchemyError

from contract.folders import ROOT
from local.stack import Stack
from services.runtime import migration
from services.runtime.settings import MigrationSettings
from tests.integration.eventually import eventually
from tests.migrations.upgrading import upgrade

_WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE %s
"""
_BUILDING = "CREATE INDEX CONCURRENTLY%"
_INDEXES = """
    SELECT indexrelid::regclass::text, indisvalid FROM pg_index
    WHERE indrelid = 'sessions.sessions'::regclass AND indpred IS NOT NULL
    ORDER BY 1
"""
_WHOLE = [
    ("sessions.sessions_by_last_activity", True),
    ("sessions.sessions_by_own_retention", True),
]


@dataclass(frozen=True)
class Migrating:
    """A database of its own, and a connection to it."""

    url: str
    admin: psycopg.Connection
    stack: Stack

    def up_to(self, service: str, revision: str) -> None:
        """Makes a service's tables as they were at a revision."""
        self.admin.execute(f"CREATE SCHEMA {service}".encode())
        upgrade(self.url, service, revision)

    def migrate(self, service: str) -> None:
        """As the command does."""
        role = self.stack.service(service).environment["INGLENOOK_DATABASE_URL"]
        here = urlsplit(role)._replace(path=urlsplit(self.url).path).geturl()
        settings = MigrationSettings(database_url=here, admin_database_url=self.url)
        migration.migrate(settings, service, ROOT / "services" / service / "migrations")

    def waiting(self, query: str) -> list[int]:
        """The processes of the server in which such a query waits for a lock."""
        return [pid for (pid,) in self.rows(_WAITING, query)]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.admin.execute(query.encode(), values).fetchall()


@pytest.fixture
def migrating(stack: Stack, empty_database: str) -> Iterator[Migrating]:
    with psycopg.connect(empty_database, autocommit=True) as admin:
        yield Migrating(empty_database, admin, stack)


@pytest.fixture
def reading(migrating: Migrating) -> Iterator[psycopg.Connection]:
    """A connection whose transaction sees one state for as long as it lasts, as a backup's does."""
    with psycopg.connect(migrating.url) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        yield connection


def test_an_index_is_built_however_long_a_backup_takes(
    migrating: Migrating, reading: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating.up_to("sessions", "0007")
    monkeypatch.setattr(migration, "_LOCK_TIMEOUT", "50ms")
    reading.execute("SELECT 1")
    with ThreadPoolExecutor(1) as others:
        done = others.submit(migrating.migrate, "sessions")
        eventually(lambda: migrating.waiting(_BUILDING) != [])
        # For longer than any other lock is waited for.
        reading.execute("SELECT pg_sleep(0.2)")
        reading.rollback()
        done.result()
    assert migrating.rows(_INDEXES) == _WHOLE


def test_a_migration_that_was_cut_while_it_built_an_index_is_finished_by_the_next_one(
    migrating: Migrating, reading: psycopg.Connection
) -> None:
    migrating.up_to("sessions", "0007")
    reading.execute("SELECT 1")
    with ThreadPoolExecutor(1) as others:
        done = others.submit(migrating.migrate, "sessions")
        eventually(lambda: migrating.waiting(_BUILDING) != [])
        (pid,) = migrating.waiting(_BUILDING)
        migrating.rows("SELECT pg_terminate_backend(%s)", pid)
        with pytest.raises(SQLAlchemyError):
            done.result()
    assert migrating.rows(_INDEXES) == [("sessions.sessions_by_last_activity", False)]
    reading.rollback()
    migrating.migrate("sessions")
    assert migrating.rows(_INDEXES) == _WHOLE


def test_a_migration_that_waits_in_a_circle_gives_way_and_tries_again(
    migrating: Migrating,
) -> None:
    migrating.up_to("users", "0005")
    with psycopg.connect(migrating.url) as busy, ThreadPoolExecutor(1) as others:
        # It must not be the one who gives way.
        busy.execute("SET deadlock_timeout = '1h'")
        busy.execute("LOCK TABLE users.receipts IN ROW EXCLUSIVE MODE")
        done = others.submit(migrating.migrate, "users")
        eventually(lambda: migrating.waiting("%ALTER TABLE users.receipts%") != [])
        busy.execute("LOCK TABLE users.erased_people IN ROW EXCLUSIVE MODE")
        busy.commit()
        done.result()
    held = "SELECT count(*) FROM users.receipts WHERE identity_provider IS NULL"
    assert migrating.rows(held) == [(0,)]
