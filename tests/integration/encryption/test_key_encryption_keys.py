"""Which KEK may wrap: on the books, not retired, and no race gets around that."""

import asyncio
import json
from pathlib import Path

import pytest

from services.runtime.database import fetch_one
from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.key_encryption_keys import KeyEncryptionKeys
from services.runtime.encryption.key_file import KeyFile
from services.runtime.encryption.key_provider import KeyProviderError, WrappedKey
from services.runtime.encryption.rotation import Rotation
from tests.integration.encryption.books import (
    Books,
    CountedKeyFile,
    new_scope,
    opened,
    seal,
    waits_for_a_lock,
)


async def _rotated(books: Books) -> tuple[str, str]:
    """Makes a new KEK the active one; the old and the new one's id."""
    old = await books.provider.active()
    new = await books.provider.add()
    await books.provider.activate(new)
    await KeyEncryptionKeys(books.database, books.table).register(new)
    async for _ in Rotation(books.database, books.table, books.provider, new).run():
        pass
    return old, new


def _add(books: Books, kek_id: str) -> dict[str, object]:
    session_id, user_id = new_scope()
    key_id, _ = new_scope()
    named = {"session_id": session_id, "user_id": user_id, "key_id": key_id}
    return {**named, "kek_id": kek_id, "wrapped": b"x", "block": 1}


async def test_a_kek_that_became_active_is_entered_by_the_first_who_uses_it(books: Books) -> None:
    keys = books.process()
    await keys.prepare()
    # By another process, on the same file.
    other = KeyFile(books.provider.path)
    new = await other.add()
    await other.activate(new)
    await seal(keys, new_scope(), b"text")
    assert books.rows("SELECT DISTINCT kek_id FROM data_keys") == [(new,)]
    assert len(books.rows("SELECT 1 FROM key_encryption_keys")) == 2


async def test_an_old_copy_of_the_keys_cannot_wrap_with_a_retired_one(
    books: Books, tmp_path: Path
) -> None:
    await seal(books.process(), new_scope(), b"text")
    copy = tmp_path / "copy.json"
    copy.touch(mode=0o600)
    copy.write_text(books.provider.path.read_text())
    stale = books.process(KeyFile(copy))
    old, _ = await _rotated(books)
    await KeyEncryptionKeys(books.database, books.table).retire(old)
    with pytest.raises(KeyProviderError, match=f"{old} was retired"):
        await seal(stale, new_scope(), b"text")
    with pytest.raises(KeyProviderError, match=f"{old} was retired"):
        await stale.prepare()
    assert books.rows("SELECT 1 FROM data_keys WHERE kek_id = %s", old) == []


async def test_who_retires_waits_for_who_stores_and_then_refuses(books: Books) -> None:
    await books.process().prepare()
    kek_id = await books.provider.active()
    register = KeyEncryptionKeys(books.database, books.table)
    async with books.database.transaction() as storing:
        assert await fetch_one(storing, books.table.add, _add(books, kek_id))
        retiring = asyncio.create_task(register.retire(kek_id))
        await waits_for_a_lock(books)
        assert not retiring.done()
    with pytest.raises(KeyProviderError, match="still wraps 1 data key:"):
        await retiring


async def test_who_stores_waits_for_who_retires_and_then_stores_nothing(books: Books) -> None:
    await books.process().prepare()
    kek_id = await books.provider.active()
    async with books.database.transaction() as retiring:
        await fetch_one(retiring, books.table.lock, {"kek_id": kek_id})
        await fetch_one(retiring, books.table.retire, {"kek_id": kek_id})
        storing = asyncio.create_task(books.database.all(books.table.add, _add(books, kek_id)))
        await waits_for_a_lock(books)
        assert not storing.done()
    assert not await storing
    assert books.uses() == {}


async def test_a_data_key_that_is_rewrapped_while_it_is_read_opens(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")

    class Slow(CountedKeyFile):
        """Between a row that was read and its unwrapping, the whole rotation happens."""

        async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
            if self.unwrapped == 0:
                self.unwrapped = 1
                old, _ = await _rotated(books)
                await KeyEncryptionKeys(books.database, books.table).retire(old)
                await books.provider.remove(old)
                self._read()
            return await super().unwrap(wrapped, associated_data)

    assert await opened(books.process(Slow(books.provider.path)), scope, envelope) == b"text"


async def test_a_kek_that_is_missing_is_named_also_later(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")
    old = await books.provider.active()
    new = await books.provider.add()
    await books.provider.activate(new)
    await books.provider.remove(old)
    with pytest.raises(KeyProviderError, match=f"does not hold the key {old}"):
        await opened(books.process(), scope, envelope)
    with pytest.raises(KeyProviderError, match=f"does not hold the key {old}"):
        await books.process().prepare()


async def test_one_damaged_data_key_keeps_no_service_from_starting(books: Books) -> None:
    for _ in range(3):
        await seal(books.process(), new_scope(), b"text")
    books.rows(
        "UPDATE data_keys SET wrapped = 'x'"
        " WHERE key_id IN (SELECT key_id FROM data_keys ORDER BY ctid LIMIT 1)"
    )
    await books.process().prepare()


async def test_another_key_of_the_same_name_keeps_it_from_starting(books: Books) -> None:
    for _ in range(3):
        await seal(books.process(), new_scope(), b"text")
    await _replace_secret(books)
    with pytest.raises(KeyProviderError, match="is not the one"):
        await DataKeys(books.database, books.table, KeyFile(books.provider.path)).prepare()


async def _replace_secret(books: Books) -> None:
    written = json.loads(books.provider.path.read_text())
    other = KeyFile(books.provider.path)
    added = await other.add()
    bytes_of_another = json.loads(books.provider.path.read_text())["keys"][added]
    written["keys"][written["active"]] = bytes_of_another
    books.provider.path.write_text(json.dumps(written))
