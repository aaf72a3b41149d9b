"""The words in a person's profile: sealed for its table, and opened again."""

from typing import Literal
from uuid import UUID

from services.runtime.encryption.data_keys import DataKeys
from services.runtime.encryption.envelope import Place

Field = Literal["name", "email"]


class Profiles:
    """Seals and opens the fields of profiles."""

    def __init__(self, keys: DataKeys) -> None:
        """Takes the people's data keys."""
        self._keys = keys

    async def seal(self, user_id: UUID, field: Field, text: str) -> bytes:
        """The envelope of a text; the person's data key is made if there is none.

        Raises:
            ScopeErasedError: the person was erased.
        """
        keyring = await self._keys.sealing_or_make((user_id,))
        return keyring.seal(text.encode(), _place(user_id, field))

    async def open(self, user_id: UUID, field: Field, envelope: bytes) -> str:
        """The text in an envelope.

        Raises:
            UnreadableError: it does not open here.
        """
        return (await self._keys.open((user_id,), envelope, _place(user_id, field))).decode()

    def forget(self, user_id: UUID) -> None:
        """Drops the person's data keys from memory: they were erased."""
        self._keys.forget((user_id,))


def _place(user_id: UUID, field: Field) -> Place:
    return Place(table="users", field=field, owner=user_id, row=(user_id,))
