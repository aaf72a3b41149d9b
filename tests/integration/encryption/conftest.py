"""A schema with nothing but the tables of keys, and every keeper of key-encryption keys."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import MetaData

from local.stack import Stack
from services.runtime.database import Database
from services.runtime.encryption.data_key_table import DataKeyTable
from tests.integration.encryption.books import Books, CountedKeyFile
from tests.integration.encryption.keepers import KEEPERS, Keeper
from tests.integration.schemas import tables_of


@pytest.fixture
async def books(stack: Stack, tmp_path: Path) -> AsyncIterator[Books]:
    schema = f"keys_{uuid4().hex}"
    metadata = MetaData(schema=schema)
    table = DataKeyTable(metadata, scope=("session_id", "user_id"))
    with tables_of(stack, metadata) as admin:
        async with Database(stack.admin_url, pool_size=8, name="keys test") as database:
            yield Books(schema, table, database, admin, CountedKeyFile(tmp_path / "keys.json"))


@pytest.fixture(params=KEEPERS)
def keeper(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Keeper]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with KEEPERS[request.param](tmp_path) as running:
        yield running
