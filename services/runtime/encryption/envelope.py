"""Sealing a field: AES-256-GCM (NIST SP 800-38D) bound to the place where the field is stored.

An envelope is, to the byte:

    offset  length  what
         0       1  version, 0x01
         1      16  id of the data key, a UUID (RFC 9562), big-endian
        17      12  nonce, random
        29       n  ciphertext, as long as the plaintext
      29+n      16  tag

Its associated data is the concatenation of these parts, each preceded by its length in bytes as a
big-endian unsigned 16-bit number: the version byte, the key id's 16 bytes, the table's name, the
field's name, the owner's 16 bytes, and the 16 bytes of each id of the row, in the order of the
table's key. So a ciphertext that is moved to another row, field or person does not open.

docs/encryption.md says the same for those who read the data without this code.
"""

import os
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_HEADER_BYTES = len(VERSION) + 16 + NONCE_BYTES
OVERHEAD_BYTES = _HEADER_BYTES + TAG_BYTES
"""How many bytes an envelope has more than its plaintext."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed field is stored, and whose it is."""

    table: str
    field: str
    owner: UUID
    row: tuple[UUID, ...]
    """The ids that make up the row's key."""


class UnreadableError(Exception):
    """What is stored does not open: altered, moved, truncated, or sealed with another key.

    Its text and attributes name the place and never hold content.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(f"{place.table}.{place.field} of row {'/'.join(map(str, place.row))}")
        self.place = place


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key that seals the fields of one conversation or one person."""

    key_id: UUID
    secret: bytes = field(repr=False)
    _cipher: AESGCM = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a data key has {KEY_BYTES} bytes, not {len(self.secret)}")
        object.__setattr__(self, "_cipher", AESGCM(self.secret))

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """The envelope of a plaintext, which opens in `place` only."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plaintext, associated_data(self.key_id, place))
        return VERSION + self.key_id.bytes + nonce + sealed

    def open(self, envelope: bytes, place: Place) -> bytes:
        """The plaintext of an envelope that was sealed with this key for this place.

        Raises:
            UnreadableError: it was not, or it was altered since.
        """
        if not _is_envelope(envelope) or envelope[1:17] != self.key_id.bytes:
            raise UnreadableError(place)
        nonce, sealed = envelope[17:_HEADER_BYTES], envelope[_HEADER_BYTES:]
        try:
            return self._cipher.decrypt(nonce, sealed, associated_data(self.key_id, place))
        except InvalidTag:
            raise UnreadableError(place) from None


def key_id_of(envelope: bytes) -> UUID | None:
    """The id of the data key that an envelope names, or None when it is no envelope."""
    return UUID(bytes=envelope[1:17]) if _is_envelope(envelope) else None


def associated_data(key_id: UUID, place: Place) -> bytes:
    """The associated data of an envelope, as this module's head describes it."""
    return length_prefixed(
        VERSION,
        key_id.bytes,
        place.table.encode(),
        place.field.encode(),
        place.owner.bytes,
        *(part.bytes for part in place.row),
    )


def _is_envelope(stored: bytes) -> bool:
    return len(stored) >= _HEADER_BYTES + TAG_BYTES and stored[:1] == VERSION


def length_prefixed(*parts: bytes) -> bytes:
    """Parts joined so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)
