"""Key-encryption keys (KEKs), wherever they are kept: the interface that all their keepers have."""

from dataclasses import dataclass
from typing import Protocol


class KeyProviderError(Exception):
    """The keys cannot be used as they are; the text tells the operator what is wrong."""


class KeyProviderUnavailableError(KeyProviderError):
    """Whoever keeps the keys does not answer: the same call may succeed later."""


class WrappedKeyError(KeyProviderError):
    """One wrapped data key does not unwrap here.

    It was altered or moved, or the KEK of its name is another than the one that wrapped it.
    """


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under a KEK: what is stored of it."""

    kek_id: str
    """Names the KEK that unwraps it: its keeper, and its version where there are versions."""
    ciphertext: bytes


class KeyProvider(Protocol):
    """Wraps and unwraps data keys with key-encryption keys that it keeps to itself.

    Any method raises `KeyProviderUnavailableError` when the keeper does not answer, and
    `KeyProviderError` when it refuses.
    """

    async def active(self) -> str:
        """The id of the KEK that new data keys are wrapped with."""

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the active KEK."""

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key that was wrapped for the same associated data.

        Raises:
            WrappedKeyError: it was not, or it was altered, or the KEK is another of that name.
            KeyProviderError: the KEK is not among the provider's.
        """


class KeyAdministration(KeyProvider, Protocol):
    """What the `keys` commands need of a provider besides. Services never call it."""

    async def add(self) -> str:
        """Makes a KEK, in use only after `activate` where the keeper can hold it back; its id.

        Raises:
            KeyProviderError: it is for the operator to make one; the text says how.
        """

    async def newest(self) -> str:
        """The id of the KEK that was added last."""

    async def activate(self, kek_id: str) -> None:
        """Wraps new data keys with this KEK from now on."""

    async def remove(self, kek_id: str) -> str:
        """Gives up a KEK that nothing is wrapped with any more, and says what was done with it."""
