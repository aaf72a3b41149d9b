"""Rotation: nothing is lost, whoever runs, writes, dies or comes twice meanwhile."""

import asyncio
from argparse import Namespace
from pathlib import Path

import pytest

from services.runtime.encryption.commands import KeysCommand
from services.runtime.encryption.data_keys import Scope
from services.runtime.encryption.key_encryption_keys import KeyEncryptionKeys
from services.runtime.encryption.key_file import KeyFile
from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
)
from services.runtime.encryption.rotation import Rotation
from tests.integration.encryption.books import (
    Books,
    CountedKeyFile,
    new_scope,
    opened,
    seal,
    waits_for_a_lock,
)
from tests.integration.encryption.keepers import KEEPERS, Keeper


async def _run(books: Books, command: str, kek: str = "") -> list[str]:
    commands = KeysCommand(books.database, books.table, KeyFile(books.provider.path))
    return [line async for line in commands.run(Namespace(keys_command=command, kek=kek))]


def _wrapped_by(books: Books) -> dict[str, int]:
    return {
        row[0]: row[1] for row in books.rows("SELECT kek_id, count(*) FROM data_keys GROUP BY 1")
    }


async def test_the_life_of_a_key(books: Books) -> None:
    keys, scope = books.process(), new_scope()
    await keys.prepare()
    envelope = await seal(keys, scope, b"text")
    old = await books.provider.active()
    with pytest.raises(KeyProviderError, match="is the active key"):
        await _run(books, "retire", old)
    await _run(books, "add")
    new = await KeyFile(books.provider.path).newest()
    assert new != old == await books.provider.active()
    table = await _run(books, "status")
    assert [line.split() for line in table[1:]] == [[old, "active", "1"], [new, "unused", "0"]]
    assert (await _run(books, "rotate"))[-1] == f"Every data key is wrapped by {new}."
    assert _wrapped_by(books) == {new: 1}
    await _run(books, "retire", old)
    table = await _run(books, "status")
    assert [line.split() for line in table[1:]] == [[old, "retired", "0"], [new, "active", "1"]]
    assert old not in books.provider.path.read_text()
    for process in (keys, books.process(KeyFile(books.provider.path))):
        assert await opened(process, scope, envelope) == b"text"
        await seal(process, new_scope(), b"more")
    assert _wrapped_by(books) == {new: 3}


async def test_the_life_of_a_key_with_every_keeper(books: Books, keeper: Keeper) -> None:
    commands = KeysCommand(books.database, books.table, keeper.restarted())

    async def run(command: str, kek: str = "") -> list[str]:
        return [line async for line in commands.run(Namespace(keys_command=command, kek=kek))]

    running, scope = books.process(keeper.provider), new_scope()
    await running.prepare()
    old = await keeper.provider.active()
    envelope = await seal(running, scope, b"text")
    if old.startswith("aws-kms:"):
        with pytest.raises(KeyProviderError, match="aws kms update-alias"):
            await run("add")
        new = await keeper.add()
    else:
        (added, _) = await run("add")
        new = added.removeprefix("Added ").removesuffix(".")
    await seal(running, new_scope(), b"made before the rotation")
    assert (await run("rotate"))[-1] == f"Every data key is wrapped by {new}."
    await seal(running, new_scope(), b"made after it")
    assert _wrapped_by(books) == {new: 3}
    with pytest.raises(KeyProviderError, match="is the active key"):
        await run("retire", new)
    assert (await run("retire", old))[0].startswith(f"Retired {old}: ")
    table = (await run("status"))[1:]
    states = [line.removeprefix(kek).split() for line, kek in zip(table, (old, new), strict=True)]
    assert states == [["retired", "0"], ["active", "3"]]
    for process in (running, books.process(keeper.restarted())):
        await process.prepare()
        assert await opened(process, scope, envelope) == b"text"


async def test_what_is_in_memory_outlives_a_keeper_that_does_not_answer(
    books: Books, tmp_path: Path
) -> None:
    with KEEPERS["vault"](tmp_path) as keeper:
        keys, known, unknown = books.process(keeper.provider), new_scope(), new_scope()
        sealed = await seal(keys, known, b"known")
        cold = await seal(books.process(keeper.provider), unknown, b"unknown")
        assert keeper.stop is not None
        keeper.stop()
        assert await opened(keys, known, sealed) == b"known"
        assert await opened(keys, known, await seal(keys, known, b"more")) == b"more"
        with pytest.raises(KeyProviderUnavailableError):
            await opened(keys, unknown, cold)
        with pytest.raises(KeyProviderUnavailableError):
            await seal(keys, new_scope(), b"new")


async def test_a_key_that_wraps_something_cannot_be_retired(books: Books) -> None:
    await seal(books.process(), new_scope(), b"one")
    await seal(books.process(), new_scope(), b"two")
    old = await books.provider.active()
    await _run(books, "add")
    await books.provider.activate(await books.provider.newest())
    with pytest.raises(KeyProviderError, match="still wraps 2 data keys: run `keys rotate`"):
        await _run(books, "retire", old)
    assert old in books.provider.path.read_text()
    with pytest.raises(KeyProviderError, match="there is no key-encryption key misspelt"):
        await _run(books, "retire", "misspelt")


async def test_a_retirement_that_died_half_way_is_finished_by_the_next(books: Books) -> None:
    await seal(books.process(), new_scope(), b"text")
    old = await books.provider.active()
    await _run(books, "add")
    await _run(books, "rotate")
    # On the books and not yet in the file, where it died.
    books.rows("UPDATE key_encryption_keys SET retire_time = now() WHERE kek_id = %s", old)
    await _run(books, "retire", old)
    assert old not in books.provider.path.read_text()


async def test_two_rotations_at_once_do_no_harm(books: Books) -> None:
    writer = books.process()
    sealed = [(scope, await seal(writer, scope, b"text")) for scope in _scopes(200)]
    await _run(books, "add")
    await asyncio.gather(*(_run(books, "rotate") for _ in range(2)))
    assert _wrapped_by(books) == {await books.provider.active(): 200}
    reader = books.process()
    for scope, envelope in sealed:
        assert await opened(reader, scope, envelope) == b"text"


async def test_services_read_and_write_while_a_rotation_runs(books: Books) -> None:
    writer = books.process(reserved_uses=1)
    await writer.prepare()
    sealed = [(scope, await seal(writer, scope, b"text")) for scope in _scopes(50)]
    # A replica with a copy of the file that knows the new key, and not that it is active.
    await _run(books, "add")
    copy = books.provider.path.with_name("copy.json")
    copy.touch(mode=0o600)
    copy.write_text(books.provider.path.read_text())
    replica = books.process(KeyFile(copy), reserved_uses=1)
    new = await books.provider.newest()
    await books.provider.activate(new)

    rotation = Rotation(books.database, books.table, books.provider, new, batch=7)
    async for _ in rotation.run():
        for process in (writer, replica):
            scope = new_scope()
            sealed.append((scope, await seal(process, scope, b"text")))
            # Uses are reserved in rows that are re-wrapped at the same time.
            scope, _envelope = sealed[len(sealed) % 50]
            sealed.append((scope, await seal(process, scope, b"text")))
        if len(sealed) > 200:
            break
    await _run(books, "rotate")
    assert set(_wrapped_by(books)) == {new}
    reader = books.process()
    for scope, envelope in sealed:
        assert await opened(reader, scope, envelope) == b"text"
        assert await opened(replica, scope, envelope) == b"text"


async def test_a_reservation_during_a_rotation_is_not_forgotten(books: Books) -> None:
    scope = new_scope()
    await seal(books.process(reserved_uses=10), scope, b"text")
    await _run(books, "add")
    await asyncio.gather(
        _run(books, "rotate"),
        *(seal(books.process(reserved_uses=10), scope, b"more") for _ in range(20)),
    )
    assert _wrapped_by(books) == {await books.provider.active(): 1}
    assert list(books.uses().values()) == [210]


async def test_a_data_key_that_changed_since_it_was_read_is_left_alone(books: Books) -> None:
    await seal(books.process(), new_scope(), b"text")
    await books.provider.activate(await books.provider.add())

    class Slow(CountedKeyFile):
        """Between a row that was read and its replacement, a backup of it is restored."""

        async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
            books.rows("UPDATE data_keys SET wrapped = 'restored'")
            return await super().wrap(secret, associated_data)

    provider = Slow(books.provider.path)
    kek_id = await provider.active()
    await KeyEncryptionKeys(books.database, books.table).register(kek_id)
    steps = [step async for step in Rotation(books.database, books.table, provider, kek_id).run()]
    assert [step.rewrapped for step in steps] == [0]
    assert books.rows("SELECT wrapped FROM data_keys") == [(b"restored",)]


async def test_a_data_key_that_is_being_changed_is_waited_for(books: Books) -> None:
    await seal(books.process(), new_scope(), b"text")
    await _run(books, "add")
    async with books.database.transaction() as restoring:
        update = f"UPDATE {books.schema}.data_keys SET wrapped = 'restored'"  # noqa: S608
        await restoring.execute(update.encode())
        rotating = asyncio.create_task(_run(books, "rotate"))
        await waits_for_a_lock(books)
        assert not rotating.done()
    with pytest.raises(KeyProviderError, match="1 data key is left: run `keys rotate` again"):
        await rotating
    assert books.rows("SELECT wrapped FROM data_keys") == [(b"restored",)]


async def test_a_rotation_ends_when_another_key_becomes_active(books: Books) -> None:
    for scope in _scopes(3):
        await seal(books.process(), scope, b"text")
    kek_id = await books.provider.add()
    await books.provider.activate(kek_id)
    await KeyEncryptionKeys(books.database, books.table).register(kek_id)
    rotation = Rotation(books.database, books.table, books.provider, kek_id, batch=1)
    steps = rotation.run()
    assert (await anext(steps)).rewrapped == 1
    await _run(books, "add")
    await books.provider.activate(await books.provider.newest())
    with pytest.raises(KeyProviderError, match=f"rather than {kek_id} now"):
        await anext(steps)
    assert (await _run(books, "rotate"))[-1].startswith("Every data key is wrapped by ")


async def test_damaged_data_keys_are_named_and_hold_up_nothing_else(books: Books) -> None:
    for scope in _scopes(5):
        await seal(books.process(), scope, b"text")
    ((damaged,),) = books.rows(
        "UPDATE data_keys SET wrapped = 'x'"
        " WHERE key_id = (SELECT max(key_id::text)::uuid FROM data_keys) RETURNING key_id"
    )
    old = await books.provider.active()
    await _run(books, "add")
    with pytest.raises(KeyProviderError, match=str(damaged)):
        await _run(books, "rotate")
    assert _wrapped_by(books) == {await books.provider.active(): 4, old: 1}
    with pytest.raises(KeyProviderError, match="still wraps 1 data key:"):
        await _run(books, "retire", old)


def _scopes(count: int) -> list[Scope]:
    return [new_scope() for _ in range(count)]
