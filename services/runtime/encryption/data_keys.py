"""Data keys: made on first use, stored wrapped in a table of their own, kept unwrapped in memory.

A scope is what a data key is for: a person (`user_id`) or a conversation (`session_id, user_id`).
It can have several data keys: the newest seals, all of them open.

A key may seal a limited number of times with random nonces, 2^32 by NIST SP 800-38D, section 8.3.
So a process reserves uses in the data key's row, a block at a time, before it makes them. What a
crash or a restart leaves of a block counts as used: the count can be too high, never too low. When
a data key has no block left, the scope gets a new one.
"""

import logging
import os
from collections import OrderedDict
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from services.runtime.database import Database
from services.runtime.encryption.data_key_table import (
    MAXIMUM_USES,
    DataKeyTable,
    ScopedRow,
    WrappedRow,
)
from services.runtime.encryption.envelope import (
    KEY_BYTES,
    DataKey,
    Place,
    UnreadableError,
    key_id_of,
    length_prefixed,
)
from services.runtime.encryption.key_encryption_keys import KeyEncryptionKeys
from services.runtime.encryption.key_provider import (
    KeyProvider,
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
    WrappedKeyError,
)
from services.runtime.encryption.single_flight import SingleFlight
from services.runtime.telemetry.keys import MeasuredKeyProvider

_log = logging.getLogger(__name__)

Scope = tuple[UUID, ...]
"""The ids of a scope, in the order of the table's scope columns; the last is its owner's."""

_RESERVED_USES = 1 << 16
_CACHED_SCOPES = 50_000


class ScopeErasedError(Exception):
    """What the data key is for was erased, and gets no data key any more."""


class Keyring:
    """The data keys of one scope that were unwrapped, and the uses that one of them has left."""

    def __init__(self) -> None:
        self._by_id: dict[UUID, DataKey] = {}
        self._sealing: DataKey | None = None
        self._uses_left = 0

    @property
    def uses_left(self) -> int:
        """How many times `seal` may be called before uses have to be reserved again."""
        return self._uses_left

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """The envelope of a plaintext; spends one use.

        Raises:
            RuntimeError: none is left.
        """
        if self._sealing is None or self._uses_left < 1:
            raise RuntimeError("a data key was to seal more often than was reserved")
        self._uses_left -= 1
        return self._sealing.seal(plaintext, place)

    def key(self, key_id: UUID) -> DataKey | None:
        """The data key of this id, if it is here."""
        return self._by_id.get(key_id)

    def hold(self, key: DataKey) -> None:
        """Adds a data key, which opens from now on."""
        self._by_id[key.key_id] = key

    def grant(self, key: DataKey, uses: int) -> None:
        """Seals with this data key from now on, so many times more."""
        if self._sealing is None or self._sealing.key_id != key.key_id:
            # What was left of another data key is not made up for: it counts as used.
            self._sealing, self._uses_left = key, 0
        self._uses_left += uses


class _Generation:
    """Stands for a scope until that is forgotten."""


class DataKeys:
    """The keyrings of a service's scopes, from the table or from memory."""

    def __init__(
        self,
        database: Database,
        table: DataKeyTable,
        provider: KeyProvider,
        *,
        uses_of_a_key: int = MAXIMUM_USES,
        reserved_uses: int = _RESERVED_USES,
        cached_scopes: int = _CACHED_SCOPES,
    ) -> None:
        """Takes where data keys are stored, and what wraps them.

        `uses_of_a_key` is how often a data key may seal, `reserved_uses` how many of these a
        process reserves at a time, `cached_scopes` of how many scopes keys stay in memory.
        """
        self._database = database
        self._table = table
        self._provider = MeasuredKeyProvider(provider)
        self._key_encryption_keys = KeyEncryptionKeys(database, table)
        self._uses_of_a_key = uses_of_a_key
        self._reserved_uses = min(reserved_uses, uses_of_a_key)
        self._cached_scopes = cached_scopes
        self._cache: OrderedDict[Scope, Keyring] = OrderedDict()
        # Of the scopes that something is under way for, and no longer than that.
        self._generations: WeakValueDictionary[Scope, _Generation] = WeakValueDictionary()
        self._unwrapping: SingleFlight[tuple[Scope, UUID], DataKey | None] = SingleFlight(
            "unwrap data key"
        )
        self._reserving: SingleFlight[tuple[Scope, bool], bool] = SingleFlight("reserve uses")

    async def prepare(self) -> None:
        """Makes sure that the provider's keys are the right ones, and enters the active KEK.

        For a service's start, so that a missing or wrong key shows before it is needed.

        Raises:
            KeyProviderError: a KEK that data keys are wrapped with is missing or another, or the
                active one was retired.
        """
        active = await self._provider.active()
        await self._key_encryption_keys.refuse_retired(active)
        samples: dict[str, list[ScopedRow]] = {}
        for row in await self._database.all(self._table.samples_of_keks, {}):
            samples.setdefault(row.kek_id, []).append(row)
        for rows in samples.values():
            await self._verify(rows)
        # Last: a key that is not ours must not get on the books.
        await self._key_encryption_keys.register(active)

    async def open(self, scope: Scope, envelope: bytes, place: Place) -> bytes:
        """The plaintext of an envelope of this scope.

        Raises:
            UnreadableError: it does not open here with any of the scope's data keys, or the wrapped
                data key itself was altered.
            KeyProviderError: the data key's KEK is missing, or its keeper does not answer.
        """
        key_id = key_id_of(envelope)
        if key_id is None:
            raise UnreadableError(place)
        keyring = self._cached(scope)
        key = None if keyring is None else keyring.key(key_id)
        if key is None:
            key = await self._unwrapped(scope, key_id)
        if key is None:
            raise UnreadableError(place)
        return key.open(envelope, place)

    async def sealing(self, scope: Scope, *, uses: int = 1) -> Keyring | None:
        """The scope's keyring, to seal up to `uses` times at once.

        "At once" is before the next `await`: after it, another task may have spent them. None when
        the scope has no data key, or was erased.

        Raises:
            UnreadableError: the wrapped data key was altered.
            KeyProviderError: the KEK is missing or retired, or its keeper does not answer.
        """
        try:
            return await self._with_uses(scope, uses, make=False)
        except ScopeErasedError:
            # The last data key was used up, and the next one came too late.
            return None

    def forget(self, scope: Scope) -> None:
        """Drops a scope's data keys from memory: they were erased from the table.

        What is being unwrapped at the moment serves who waits for it, and is not kept.
        """
        self._cache.pop(scope, None)
        self._generations.pop(scope, None)

    async def sealing_or_make(self, scope: Scope, *, uses: int = 1) -> Keyring:
        """As `sealing`, but the scope's first data key is made if it has none.

        Raises:
            ScopeErasedError: the scope was erased.
        """
        keyring = await self._with_uses(scope, uses, make=True)
        if keyring is None:
            raise RuntimeError("a data key that was just stored is not there")
        return keyring

    async def _with_uses(self, scope: Scope, uses: int, *, make: bool) -> Keyring | None:
        if uses > self._uses_of_a_key:
            raise ValueError(f"a data key seals {self._uses_of_a_key} times, not {uses}")
        block = max(uses, self._reserved_uses)
        while True:
            keyring = self._cached(scope)
            if keyring is not None and keyring.uses_left >= uses:
                return keyring
            reserved = await self._reserving.run(
                (scope, make), lambda: self._reserve(scope, block, make=make)
            )
            if not reserved:
                return None

    async def _reserve(self, scope: Scope, block: int, *, make: bool) -> bool:
        """Reserves a block of uses for this process; False when there is no data key to use."""
        generation = self._generation(scope)
        named = self._named(scope)
        row = await self._database.one(
            self._table.reserve, {**named, "block": block, "limit": self._uses_of_a_key}
        )
        reserved = None if row is None else row.data_key
        if reserved is not None:
            key = await self._unwrapped(scope, reserved.key_id, (reserved, generation))
        elif row is not None or make:
            key = await self._add(scope, block)
        else:
            key = None
        if key is None:
            return False
        keyring = self._hold(scope, key, generation)
        if keyring is not None:
            keyring.grant(key, block)
        return True

    async def _add(self, scope: Scope, block: int) -> DataKey:
        """Stores a new data key, with its first block of uses."""
        key = DataKey(uuid4(), os.urandom(KEY_BYTES))
        while True:
            try:
                wrapped = await self._provider.wrap(key.secret, bound_to(scope, key.key_id))
            except KeyProviderError as error:
                _log_refusal(error)
                raise
            if await self._store(
                {
                    **self._named(scope),
                    "key_id": key.key_id,
                    "kek_id": wrapped.kek_id,
                    "wrapped": wrapped.ciphertext,
                    "block": block,
                }
            ):
                return key
            if await self._database.one(self._table.is_alive, self._named(scope)) is None:
                raise ScopeErasedError
            # Its KEK became the active one a moment ago; or it was retired, which this refuses.
            await self._key_encryption_keys.register(wrapped.kek_id)

    async def _store(self, parameters: dict[str, object]) -> bool:
        alive = self._table.alive
        if alive is None or alive.hold is None:
            return await self._database.one(self._table.add, parameters) is not None
        return bool(await self._database.all_after(alive.hold, self._table.add, parameters))

    async def _unwrapped(
        self, scope: Scope, key_id: UUID, read: tuple[WrappedRow, _Generation] | None = None
    ) -> DataKey | None:
        """A data key from memory or from the table.

        `read` is what was just read there, with the scope's generation of before that.
        """
        keyring = self._cached(scope)
        held = None if keyring is None else keyring.key(key_id)
        if held is not None:
            return held
        return await self._unwrapping.run(
            (scope, key_id), lambda: self._read_and_unwrap(scope, key_id, read)
        )

    async def _read_and_unwrap(
        self, scope: Scope, key_id: UUID, read: tuple[WrappedRow, _Generation] | None
    ) -> DataKey | None:
        row, generation = read or (None, self._generation(scope))
        named = {**self._named(scope), "key_id": key_id}
        if row is None:
            row = await self._database.one(self._table.get, named)
        while row is not None:
            try:
                key = DataKey(key_id, await self._secret(scope, row))
            except KeyProviderUnavailableError:
                raise
            except KeyProviderError:
                # It may have been re-wrapped since it was read, and the KEK that it had be gone.
                again = await self._database.one(self._table.get, named)
                if again is not None and again.kek_id == row.kek_id:
                    raise
                row = again
            else:
                self._hold(scope, key, generation)
                return key
        return None

    async def _secret(self, scope: Scope, row: WrappedRow) -> bytes:
        try:
            return await self._provider.unwrap(
                WrappedKey(row.kek_id, row.wrapped), bound_to(scope, row.key_id)
            )
        except WrappedKeyError as error:
            _log_refusal(error)
            place = Place("data_keys", "wrapped", owner=scope[-1], row=(*scope, row.key_id))
            raise UnreadableError(place) from error
        except KeyProviderError as error:
            _log_refusal(error)
            raise

    async def _verify(self, rows: list[ScopedRow]) -> None:
        """Unwraps a data key of one KEK: any of these, since one may have been damaged."""
        for row in rows:
            wrapped = WrappedKey(row.kek_id, row.wrapped)
            try:
                await self._provider.unwrap(wrapped, bound_to(tuple(row.scope), row.key_id))
            except WrappedKeyError as error:
                _log.warning("a data key does not unwrap", extra={"key_id": str(row.key_id)})
                failure = error
            else:
                return
        raise failure

    def _cached(self, scope: Scope) -> Keyring | None:
        keyring = self._cache.get(scope)
        if keyring is not None:
            self._cache.move_to_end(scope)
        return keyring

    def _generation(self, scope: Scope) -> _Generation:
        return self._generations.setdefault(scope, _Generation())

    def _hold(self, scope: Scope, key: DataKey, generation: _Generation) -> Keyring | None:
        """Keeps a data key, unless its scope was forgotten since; gives the scope's keyring."""
        if self._generations.get(scope) is not generation:
            return None
        keyring = self._cache.setdefault(scope, Keyring())
        keyring.hold(key)
        self._cache.move_to_end(scope)
        if len(self._cache) > self._cached_scopes:
            self._cache.popitem(last=False)
        return keyring

    def _named(self, scope: Scope) -> dict[str, object]:
        # The owner by both names: that of the column, and that of conditions over many tables.
        return {**dict(zip(self._table.scope, scope, strict=True)), "person": scope[-1]}


def bound_to(scope: Scope, key_id: UUID) -> bytes:
    """The associated data of a wrapped data key: moved to another scope, it does not unwrap."""
    return length_prefixed(b"data_keys", *(part.bytes for part in scope), key_id.bytes)


def _log_refusal(error: KeyProviderError) -> None:
    """Tells the operator, whom its text is for; the log of a failed call holds no texts."""
    _log.error("the key provider refuses", extra={"reason": str(error)})
