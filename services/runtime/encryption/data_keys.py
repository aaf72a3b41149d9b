"""Data keys: made on first use, stored wrapped in a table of their own, kept unwrapped in memory.

A scope is what a data key is for: a person (`user_id`) or a conversation (`session_id, user_id`).
It can have several data keys: the newest seals, all of them open.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import (
    Column,
    DateTime,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import array, distinct_on

from services.runtime.database import Database, Statement, statement
from services.runtime.encryption.envelope import (
    KEY_BYTES,
    DataKey,
    Place,
    UnreadableError,
    key_id_of,
    length_prefixed,
)
from services.runtime.encryption.key_provider import KeyProvider, WrappedKey

Scope = tuple[UUID, ...]
"""The ids of a scope, in the order of the table's scope columns."""

_CACHED_SCOPES = 50_000


@dataclass(frozen=True, slots=True)
class _WrappedRow:
    key_id: UUID
    kek_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class _SampleRow:
    scope: list[UUID]
    key_id: UUID
    kek_id: str
    wrapped: bytes


class DataKeyTable:
    """The table of a service's data keys, and the statements that use it."""

    def __init__(self, metadata: MetaData, scope: tuple[str, ...]) -> None:
        """Adds the table `data_keys` to a service's metadata, keyed by the scope's columns."""
        self.scope = scope
        self.table = Table(
            "data_keys",
            metadata,
            *(Column(name, Uuid, primary_key=True) for name in scope),
            Column("key_id", Uuid, primary_key=True),
            Column("kek_id", Text, nullable=False, index=True),
            Column("wrapped", LargeBinary, nullable=False),
            Column("create_time", DateTime(timezone=True), nullable=False),
        )
        columns = self.table.c
        mine = [columns[name] == bindparam(name, type_=Uuid) for name in scope]
        existing = select(literal(1)).select_from(self.table).where(*mine).exists()
        self.of_scope: Statement[_WrappedRow] = statement(
            select(columns.key_id, columns.kek_id, columns.wrapped)
            .where(*mine)
            .order_by(columns.create_time, columns.key_id),
            _WrappedRow,
        )
        self.add_first: Statement[_WrappedRow] = statement(
            insert(self.table).from_select(
                [*scope, "key_id", "kek_id", "wrapped", "create_time"],
                select(
                    *(bindparam(name, type_=Uuid) for name in scope),
                    bindparam("key_id", type_=Uuid),
                    bindparam("kek_id", type_=Text),
                    bindparam("wrapped", type_=LargeBinary),
                    func.now(),
                ).where(~existing),
            ),
            _WrappedRow,
        )
        self.sample_of_each_kek: Statement[_SampleRow] = statement(
            select(
                array([columns[name] for name in scope]).label("scope"),
                columns.key_id,
                columns.kek_id,
                columns.wrapped,
            )
            .ext(distinct_on(columns.kek_id))
            .order_by(columns.kek_id),
            _SampleRow,
        )


class Keyring:
    """The data keys of one scope."""

    def __init__(self, keys: list[DataKey]) -> None:
        """Takes at least one key, the newest last."""
        self._newest = keys[-1]
        self._by_id = {key.key_id: key for key in keys}

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """The envelope of a plaintext, under the newest key."""
        return self._newest.seal(plaintext, place)

    def open(self, envelope: bytes, place: Place) -> bytes:
        """The plaintext of an envelope.

        Raises:
            UnreadableError: none of the scope's keys opens it here.
        """
        key_id = key_id_of(envelope)
        key = None if key_id is None else self._by_id.get(key_id)
        if key is None:
            raise UnreadableError(place)
        return key.open(envelope, place)

    def holds_key_of(self, envelope: bytes) -> bool:
        """Whether the key that an envelope names is among these."""
        return key_id_of(envelope) in self._by_id


class DataKeys:
    """The keyrings of a service's scopes, from the table or from memory."""

    def __init__(self, database: Database, table: DataKeyTable, provider: KeyProvider) -> None:
        self._database = database
        self._table = table
        self._provider = provider
        self._cache: OrderedDict[Scope, Keyring] = OrderedDict()

    async def verify_provider(self) -> None:
        """Unwraps one data key of each KEK in use, so that a wrong key shows before it is needed.

        Raises:
            KeyProviderError: a KEK that data keys are wrapped with is missing or another.
        """
        for row in await self._database.all(self._table.sample_of_each_kek, {}):
            wrapped = WrappedKey(row.kek_id, row.wrapped)
            await self._provider.unwrap(wrapped, _bound_to(tuple(row.scope), row.key_id))

    async def get(self, scope: Scope) -> Keyring | None:
        """The scope's keyring, or None when it has no data key."""
        cached = self._cache.get(scope)
        if cached is not None:
            self._cache.move_to_end(scope)
            return cached
        return await self._load(scope)

    async def get_or_make(self, scope: Scope) -> Keyring:
        """The scope's keyring; its first data key is made, and stored wrapped, if it has none."""
        keyring = await self.get(scope)
        if keyring is not None:
            return keyring
        key_id, secret = uuid4(), os.urandom(KEY_BYTES)
        wrapped = await self._provider.wrap(secret, _bound_to(scope, key_id))
        await self._database.all(
            self._table.add_first,
            {
                **self._parameters(scope),
                "key_id": key_id,
                "kek_id": wrapped.kek_id,
                "wrapped": wrapped.ciphertext,
            },
        )
        # Read back rather than kept: another process may have been first, and only what is stored
        # may seal anything.
        made = await self._load(scope)
        if made is None:
            raise RuntimeError("a data key that was just stored is not there")
        return made

    async def open(self, scope: Scope, envelope: bytes, place: Place) -> bytes:
        """The plaintext of an envelope of this scope.

        Raises:
            UnreadableError: it does not open here with any of the scope's keys.
        """
        keyring = await self.get(scope)
        if keyring is not None and not keyring.holds_key_of(envelope):
            # Another process may have added a key since this keyring was read.
            keyring = await self._load(scope)
        if keyring is None:
            raise UnreadableError(place)
        return keyring.open(envelope, place)

    async def _load(self, scope: Scope) -> Keyring | None:
        rows = await self._database.all(self._table.of_scope, self._parameters(scope))
        if not rows:
            return None
        keys = [
            DataKey(
                row.key_id,
                await self._provider.unwrap(
                    WrappedKey(row.kek_id, row.wrapped), _bound_to(scope, row.key_id)
                ),
            )
            for row in rows
        ]
        keyring = self._cache[scope] = Keyring(keys)
        self._cache.move_to_end(scope)
        if len(self._cache) > _CACHED_SCOPES:
            self._cache.popitem(last=False)
        return keyring

    def _parameters(self, scope: Scope) -> dict[str, object]:
        return dict(zip(self._table.scope, scope, strict=True))


def _bound_to(scope: Scope, key_id: UUID) -> bytes:
    """The associated data of a wrapped data key: moved to another scope, it does not unwrap."""
    return length_prefixed(b"data_keys", *(part.bytes for part in scope), key_id.bytes)
