"""Data keys: counted before they are used, replaced in time, unwrapped once, whatever races."""

import asyncio
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import MetaData, false

from services.runtime.database import Database, Parameters, Row, Statement
from services.runtime.encryption.data_key_table import Alive, DataKeyTable
from services.runtime.encryption.data_keys import DataKeys, ScopeErasedError
from services.runtime.encryption.envelope import UnreadableError, key_id_of
from services.runtime.encryption.key_provider import WrappedKey
from tests.integration.encryption.books import (
    Books,
    CountedKeyFile,
    new_scope,
    opened,
    place_in,
    seal,
    waits_for_a_lock,
)


def _keys_of(envelopes: list[bytes]) -> Counter[UUID | None]:
    return Counter(key_id_of(envelope) for envelope in envelopes)


async def test_a_data_key_is_replaced_before_it_seals_too_often(books: Books) -> None:
    scope = new_scope()
    keys = books.process(uses_of_a_key=10, reserved_uses=4)
    envelopes = [await seal(keys, scope, b"%d" % number) for number in range(25)]
    used = _keys_of(envelopes)
    # Two blocks of four fit ten uses; a third would not.
    assert list(used.values()) == [8, 8, 8, 1]
    for process in (keys, books.process()):
        texts = [await opened(process, scope, envelope) for envelope in envelopes]
        assert texts == [b"%d" % number for number in range(25)]


async def test_uses_are_on_the_books_before_they_are_made(books: Books) -> None:
    scope = new_scope()
    keyring = await books.process(reserved_uses=100).sealing_or_make(scope)
    assert list(books.uses().values()) == [100]
    assert keyring.uses_left == 100
    keyring.seal(b"text", place_in(scope))
    assert keyring.uses_left == 99


async def test_what_a_process_left_of_its_uses_counts_as_made(books: Books) -> None:
    scope = new_scope()
    first = await seal(books.process(reserved_uses=100), scope, b"one")
    second = await seal(books.process(reserved_uses=100), scope, b"two")
    assert key_id_of(first) == key_id_of(second)
    assert list(books.uses().values()) == [200]


async def test_nothing_is_sealed_beyond_what_was_reserved(books: Books) -> None:
    scope = new_scope()
    keys = books.process(reserved_uses=2)
    keyring = await keys.sealing_or_make(scope)
    keyring.seal(b"one", place_in(scope))
    keyring.seal(b"two", place_in(scope))
    with pytest.raises(RuntimeError, match="more often"):
        keyring.seal(b"three", place_in(scope))
    assert await keys.sealing(scope) is keyring
    keyring.seal(b"three", place_in(scope))


async def test_as_many_uses_as_are_asked_for_are_there(books: Books) -> None:
    scope = new_scope()
    keys = books.process(uses_of_a_key=12, reserved_uses=2)
    for uses in (1, 7, 2, 5):
        assert (await keys.sealing_or_make(scope, uses=uses)).uses_left >= uses
    with pytest.raises(ValueError, match="12 times"):
        await keys.sealing(scope, uses=13)


async def test_many_processes_at_once_stay_within_the_limit(books: Books) -> None:
    scope = new_scope()
    processes = [books.process(uses_of_a_key=16, reserved_uses=3) for _ in range(4)]
    envelopes = await asyncio.gather(
        *(seal(processes[number % 4], scope, b"%d" % number) for number in range(400))
    )
    reserved = books.uses()
    for key_id, count in _keys_of(envelopes).items():
        assert key_id is not None
        assert count <= reserved[key_id] <= 16
    reader = books.process()
    texts = [await opened(reader, scope, envelope) for envelope in envelopes]
    assert texts == [b"%d" % number for number in range(400)]


async def test_two_first_data_keys_at_once_do_no_harm(books: Books) -> None:
    scope = new_scope()
    one, two = books.process(), books.process()
    # Neither finds one: both store their own.
    first, second = await asyncio.gather(seal(one, scope, b"one"), seal(two, scope, b"two"))
    for process in (one, two, books.process()):
        assert await opened(process, scope, first) == b"one"
        assert await opened(process, scope, second) == b"two"


async def test_a_data_key_of_someone_who_does_not_count_is_used_up(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"old")
    books.rows("UPDATE data_keys SET uses = DEFAULT")
    keys = books.process()
    assert key_id_of(await seal(keys, scope, b"new")) != key_id_of(envelope)
    assert await opened(keys, scope, envelope) == b"old"


async def test_a_scope_without_a_data_key_gets_none_unless_it_is_to_be_made(books: Books) -> None:
    keys = books.process()
    assert await keys.sealing(new_scope()) is None
    assert books.uses() == {}


async def test_calls_that_miss_the_cache_at_once_unwrap_once(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")
    cold = books.process()
    books.provider.unwrapped = 0
    texts = await asyncio.gather(
        *(opened(cold, scope, envelope) for _ in range(50)),
        *(seal(cold, scope, b"more") for _ in range(50)),
    )
    assert texts[:50] == [b"text"] * 50
    assert books.provider.unwrapped == 1


async def test_a_caller_who_leaves_does_not_take_the_others_along(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")
    cold = books.process()
    first = asyncio.create_task(opened(cold, scope, envelope))
    await asyncio.sleep(0)
    second = asyncio.create_task(opened(cold, scope, envelope))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"text"


class _SlowKeyFile(CountedKeyFile):
    """A key file that is held up after it has unwrapped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.has_unwrapped = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        secret = await super().unwrap(wrapped, associated_data)
        self.has_unwrapped.set()
        await self.goes_on.wait()
        return secret


async def test_a_data_key_that_is_erased_while_it_is_unwrapped_does_not_stay(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")
    provider = _SlowKeyFile(books.provider.path)
    keys = books.process(provider)
    reading = asyncio.create_task(opened(keys, scope, envelope))
    sealing = asyncio.create_task(keys.sealing(scope))
    await provider.has_unwrapped.wait()
    books.rows("DELETE FROM data_keys")
    keys.forget(scope)
    provider.goes_on.set()
    assert await reading == b"text"
    assert await sealing is None
    with pytest.raises(UnreadableError):
        await opened(keys, scope, envelope)
    assert await keys.sealing(scope) is None


async def test_who_reserves_waits_for_who_erases_and_then_makes_no_data_key(books: Books) -> None:
    scope = new_scope()
    await seal(books.process(), scope, b"text")
    with books.admin.transaction():
        books.rows("DELETE FROM data_keys")
        sealing = asyncio.create_task(books.process().sealing(scope))
        await waits_for_a_lock(books)
        assert not sealing.done()
    assert await sealing is None
    assert books.uses() == {}


async def test_a_scope_that_is_erased_when_its_data_key_is_used_up_has_none(books: Books) -> None:
    scope = new_scope()
    await seal(books.process(uses_of_a_key=1), scope, b"text")
    erased = Alive(false())
    table = DataKeyTable(MetaData(schema=books.schema), books.table.scope, alive=erased)
    keys = DataKeys(books.database, table, books.provider, uses_of_a_key=1)
    assert await keys.sealing(scope) is None
    with pytest.raises(ScopeErasedError):
        await keys.sealing_or_make(scope)


async def test_a_data_key_that_is_unwrapped_while_another_is_erased_stays(books: Books) -> None:
    scope = new_scope()
    envelope = await seal(books.process(), scope, b"text")
    provider = _SlowKeyFile(books.provider.path)
    keys = books.process(provider)
    reading = asyncio.create_task(opened(keys, scope, envelope))
    await provider.has_unwrapped.wait()
    keys.forget(new_scope())
    provider.goes_on.set()
    assert await reading == await opened(keys, scope, envelope)
    assert provider.unwrapped == 1


async def test_the_cache_is_bounded(books: Books) -> None:
    keys = books.process(cached_scopes=3)
    scopes = [new_scope() for _ in range(10)]
    envelopes = [await seal(keys, scope, b"text") for scope in scopes]
    assert len(keys._cache) == 3
    for scope, envelope in zip(scopes, envelopes, strict=True):
        assert await opened(keys, scope, envelope) == b"text"
    assert len(keys._cache) == 3


class _CountingDatabase(Database):
    """Counts its round trips."""

    trips = 0

    async def all(self, query: Statement[Row], parameters: Parameters) -> "list[Row]":
        self.trips += 1
        return list(await super().all(query, parameters))


async def test_a_cold_scope_takes_one_round_trip_and_a_new_one_two(books: Books) -> None:
    scope = new_scope()
    database = _CountingDatabase(books.database.url, pool_size=1, name="counting")
    async with database:
        keys = DataKeys(database, books.table, books.provider)
        # The first one ever registers its key-encryption key too.
        await keys.prepare()
        database.trips = 0
        envelope = await seal(keys, scope, b"text")
        assert database.trips == 2
        keys = DataKeys(database, books.table, books.provider)
        database.trips = 0
        await seal(keys, scope, b"text")
        await opened(keys, scope, envelope)
        assert database.trips == 1


async def test_a_data_key_does_not_unwrap_in_another_scope(books: Books) -> None:
    alice, bob = new_scope(), new_scope()
    keys = books.process()
    envelope = await seal(keys, alice, b"hers")
    await seal(keys, bob, b"his")
    ((key_id,),) = books.rows("SELECT key_id FROM data_keys WHERE session_id = %s", alice[0])
    books.rows(
        "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE session_id = %s)"
        " WHERE session_id = %s",
        bob[0],
        alice[0],
    )
    with pytest.raises(UnreadableError) as refused:
        await opened(books.process(), alice, envelope)
    assert refused.value.place.table == "data_keys"
    assert refused.value.place.row == (*alice, key_id)
    # The row itself moved to Bob does not open there either.
    books.rows(
        "UPDATE data_keys SET session_id = %s, user_id = %s WHERE session_id = %s", *bob, alice[0]
    )
    with pytest.raises(UnreadableError):
        await opened(books.process(), bob, envelope)


async def test_a_damaged_data_key_takes_only_its_own_envelopes_along(books: Books) -> None:
    scope = new_scope()
    keys = books.process(uses_of_a_key=1, reserved_uses=1)
    old, new = await seal(keys, scope, b"old"), await seal(keys, scope, b"new")
    books.rows("UPDATE data_keys SET wrapped = 'x' WHERE key_id = %s", key_id_of(old))
    cold = books.process(uses_of_a_key=1, reserved_uses=1)
    assert await opened(cold, scope, new) == b"new"
    assert await seal(cold, scope, b"newer")
    with pytest.raises(UnreadableError):
        await opened(cold, scope, old)
