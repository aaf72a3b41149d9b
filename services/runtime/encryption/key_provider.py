"""Key-encryption keys, wherever they are kept: the one interface that all their keepers have."""

from dataclasses import dataclass
from typing import Protocol


class KeyProviderError(Exception):
    """The keys cannot be used as they are; the text tells the operator what is wrong."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key under a KEK: what is stored of it."""

    kek_id: str
    """Names the KEK that unwraps it."""
    ciphertext: bytes


class KeyProvider(Protocol):
    """Wraps and unwraps data keys with key-encryption keys that it keeps to itself."""

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the KEK that is in use for new ones."""

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key that was wrapped for the same associated data.

        Raises:
            KeyProviderError: the KEK is not among the provider's, or is not the one of that name
                that it was wrapped with.
        """
