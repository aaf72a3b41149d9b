"""Rotation: re-wrapping a service's data keys with the active key-encryption key, online.

Data keys are read in batches, re-wrapped in memory, and replaced only where they are still the ones
that were read. So nothing waits for a key management service with a lock held, services go on
reading and making data keys, two rotations at once do no harm, and one that was killed is finished
by the next.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.runtime.database import Database
from services.runtime.encryption.data_key_table import DataKeyTable, ScopedRow
from services.runtime.encryption.data_keys import bound_to
from services.runtime.encryption.key_provider import (
    KeyProvider,
    KeyProviderError,
    WrappedKey,
    WrappedKeyError,
)

_BATCH = 500
_AT_ONCE = 16
_NIL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rotation has come."""

    rewrapped: int
    to_do: int
    """How many data keys another KEK wrapped when the rotation began."""


class Rotation:
    """Re-wraps every data key with one KEK, which is on the books and the provider's active one."""

    def __init__(
        self,
        database: Database,
        table: DataKeyTable,
        provider: KeyProvider,
        kek_id: str,
        *,
        batch: int = _BATCH,
    ) -> None:
        """Takes what to re-wrap and with what; `batch` is how many data keys are read at a time."""
        self._database = database
        self._table = table
        self._provider = provider
        self._kek_id = kek_id
        self._batch = batch
        self.damaged: set[UUID] = set()
        """The ids of data keys that no KEK unwraps: they stay as they are."""

    async def run(self) -> AsyncIterator[Progress]:
        """Re-wraps until nothing is left to do, and tells of each batch.

        Raises:
            KeyProviderError: a KEK is missing, or the active KEK is another by now.
        """
        to_do = left = await self.left()
        left_before = left + 1
        done = 0
        # A service that has not noticed the new active KEK yet adds data keys under the old one:
        # hence again, for as long as it helps.
        while 0 < left < left_before:
            after: tuple[UUID, ...] = (_NIL,) * (len(self._table.scope) + 1)
            while rows := await self._next(after):
                done += await self._rewrap(rows)
                after = (*rows[-1].scope, rows[-1].key_id)
                yield Progress(done, max(done, to_do))
            left_before, left = left, await self.left()

    async def left(self) -> int:
        """How many data keys another KEK wraps."""
        found = await self._database.one(
            self._table.count_wrapped_otherwise, {"kek_id": self._kek_id}
        )
        return 0 if found is None else found.count

    async def _next(self, after: tuple[UUID, ...]) -> Sequence[ScopedRow]:
        names = (*self._table.scope, "key_id")
        position = {f"after_{name}": id_ for name, id_ in zip(names, after, strict=True)}
        return await self._database.all(
            self._table.wrapped_otherwise,
            {"kek_id": self._kek_id, "limit": self._batch, **position},
        )

    async def _rewrap(self, rows: Sequence[ScopedRow]) -> int:
        """Re-wraps these data keys, and gives how many were stored."""
        replaced: list[tuple[ScopedRow, bytes]] = []
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            for row, new in zip(some, await asyncio.gather(*map(self._new, some)), strict=True):
                if new is not None:
                    replaced.append((row, new))
        if not replaced:
            return 0
        columns: dict[str, object] = {
            f"{name}s": [row.scope[at] for row, _ in replaced]
            for at, name in enumerate(self._table.scope)
        }
        stored = await self._database.all(
            self._table.rewrap,
            {
                "kek_id": self._kek_id,
                **columns,
                "key_ids": [row.key_id for row, _ in replaced],
                "olds": [row.wrapped for row, _ in replaced],
                "news": [new for _, new in replaced],
            },
        )
        return len(stored)

    async def _new(self, row: ScopedRow) -> bytes | None:
        """The data key under the active KEK; None when it is damaged."""
        bound = bound_to(tuple(row.scope), row.key_id)
        try:
            secret = await self._provider.unwrap(WrappedKey(row.kek_id, row.wrapped), bound)
        except WrappedKeyError:
            self.damaged.add(row.key_id)
            return None
        wrapped = await self._provider.wrap(secret, bound)
        if wrapped.kek_id != self._kek_id:
            raise KeyProviderError(
                f"the active key is {wrapped.kek_id} rather than {self._kek_id} now:"
                " run `keys rotate` again"
            )
        return wrapped.ciphertext
