"""Waiting for what follows by itself, and looking at what is stored."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from local.stack import Stack
from services import SERVICES

_SECONDS = 60


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what follows by itself, for as long as a slow machine may need."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def rows(stack: Stack, query: str, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a query, as a role that sees everything."""
    with psycopg.connect(stack.admin_url, autocommit=True) as database:
        return database.execute(query.encode(), values).fetchall()


def waits_for_a_lock(stack: Stack, name: str) -> bool:
    """Whether a connection of this name, as its `Database` gave it, waits for a lock."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
    )
    return rows(stack, query, name) != []


def everything_written(stack: Stack) -> bytes:
    """The data folder of PostgreSQL, its WAL among it, and every log."""
    assert stack.postgres is not None
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    files = [*stack.postgres.data.rglob("*"), *stack.home.logs.rglob("*")]
    return b"".join(content(path) for path in files if path.is_file())


def content(file: Path) -> bytes:
    """What is in a file of a server that runs, which may have removed it just now."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def owed(stack: Stack) -> int:
    """How many events wait in all outboxes, or were set aside."""
    return sum(rows(stack, f"SELECT count(*) FROM {name}.outbox")[0][0] for name in SERVICES)  # noqa: S608


def tables_with(stack: Stack, column: str, value: object) -> dict[str, int]:
    """Every table of the services that has rows with this value, and how many."""
    found = rows(
        stack,
        "SELECT table_schema, table_name FROM information_schema.columns"
        " WHERE column_name = %s AND table_schema = ANY(%s)",
        column,
        list(SERVICES),
    )
    counts = {
        f"{schema}.{table}": rows(
            stack,
            f"SELECT count(*) FROM {schema}.{table} WHERE {column} = %s",  # noqa: S608
            value,
        )[0][0]
        for schema, table in found
    }
    return {table: count for table, count in counts.items() if count}
