"""The tables of keys, as tests look at them, and a key file that counts what it is asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from services.runtime.database import Database
from services.runtime.encryption.data_key_table import DataKeyTable
from services.runtime.encryption.data_keys import DataKeys, Scope
from services.runtime.encryption.envelope import Place
from services.runtime.encryption.key_file import KeyFile, make_key_file
from services.runtime.encryption.key_provider import KeyProvider, WrappedKey


class CountedKeyFile(KeyFile):
    """A key file, made if it is not there, and how often data keys were unwrapped with it."""

    def __init__(self, path: Path) -> None:
        make_key_file(path)
        self.path = path
        self.unwrapped = 0
        super().__init__(path)

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        self.unwrapped += 1
        return await super().unwrap(wrapped, associated_data)


@dataclass(frozen=True)
class Books:
    """A schema with the tables of keys alone."""

    schema: str
    table: DataKeyTable
    database: Database
    admin: psycopg.Connection
    provider: CountedKeyFile

    def process(self, provider: KeyProvider | None = None, **limits: int) -> DataKeys:
        """What each process of a service has of its own."""
        return DataKeys(self.database, self.table, provider or self.provider, **limits)

    def rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """The rows of a query, in which `data_keys` and `key_encryption_keys` are this schema's."""
        for name in ("data_keys", "key_encryption_keys"):
            query = query.replace(name, f"{self.schema}.{name}")
        cursor = self.admin.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else ()

    def uses(self) -> dict[UUID, int]:
        """How many uses of each data key are reserved."""
        return {row[0]: row[1] for row in self.rows("SELECT key_id, uses FROM data_keys")}


def new_scope() -> Scope:
    return uuid4(), uuid4()


def place_in(scope: Scope) -> Place:
    return Place("messages", "body", owner=scope[-1], row=scope)


async def seal(keys: DataKeys, scope: Scope, text: bytes) -> bytes:
    keyring = await keys.sealing_or_make(scope)
    return keyring.seal(text, place_in(scope))


async def opened(keys: DataKeys, scope: Scope, envelope: bytes) -> bytes:
    return await keys.open(scope, envelope, place_in(scope))


async def waits_for_a_lock(books: Books) -> None:
    """Waits until a statement on this schema waits for a lock."""
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND query LIKE '%%' || %s || '%%'"
    )
    async with asyncio.timeout(60):
        while not books.rows(query, books.schema):  # noqa: ASYNC110 - no event tells of a lock
            await asyncio.sleep(0.01)
