"""The books of a service's key-encryption keys: which there are, and which were retired."""

from collections.abc import Sequence
from datetime import UTC

from services.runtime.database import Database, fetch_one
from services.runtime.encryption.data_key_table import DataKeyTable, KekRow, KekUseRow
from services.runtime.encryption.key_provider import KeyProviderError


class KeyEncryptionKeys:
    """Enters and retires KEKs. A KEK that was retired stays so."""

    def __init__(self, database: Database, table: DataKeyTable) -> None:
        self._database = database
        self._table = table

    async def register(self, kek_id: str) -> None:
        """Enters a KEK, unless it is there.

        Raises:
            KeyProviderError: it was retired.
        """
        row = await self._database.one(self._table.register, {"kek_id": kek_id})
        _refuse_retired(row)

    async def refuse_retired(self, kek_id: str) -> None:
        """Makes sure that a KEK was not retired, whether or not it is on the books.

        Raises:
            KeyProviderError: it was.
        """
        row = await self._database.one(self._table.find, {"kek_id": kek_id})
        _refuse_retired(row)

    async def retire(self, kek_id: str) -> None:
        """Sees to it that no data key is ever wrapped by this KEK again.

        Raises:
            KeyProviderError: the books do not have it, or it wraps data keys.
        """
        async with self._database.transaction() as connection:
            # Whoever stores a data key under it holds a lock on this row until that is done, and
            # finds it retired afterwards.
            row = await fetch_one(connection, self._table.lock, {"kek_id": kek_id})
            if row is None:
                raise KeyProviderError(f"there is no key-encryption key {kek_id}")
            found = await fetch_one(connection, self._table.count_wrapped, {"kek_id": kek_id})
            count = 0 if found is None else found.count
            if count:
                raise KeyProviderError(
                    f"{kek_id} still wraps {count:,} data key{'s' if count > 1 else ''}:"
                    " run `keys rotate` first"
                )
            if row.retire_time is None:
                await fetch_one(connection, self._table.retire, {"kek_id": kek_id})

    async def all(self) -> Sequence[KekUseRow]:
        """Every KEK, the oldest first, with the number of data keys it wraps."""
        return await self._database.all(self._table.uses_of_keks, {})


def _refuse_retired(row: KekRow | None) -> None:
    if row is not None and row.retire_time is not None:
        raise KeyProviderError(
            f"the key {row.kek_id} was retired at"
            f" {row.retire_time.astimezone(UTC):%Y-%m-%d %H:%M} UTC:"
            " this is an old copy of the keys, put the current one in its place"
        )
