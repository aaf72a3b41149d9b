"""The chain of a person's access log: what makes a removed or altered entry show. Pure.

Each entry has a hash, and the log's head, a row of its own, a seal. Both are HMAC-SHA256 (RFC 2104)
with a key that is derived from the service's token key, which is not in the database:

    hash of entry n = HMAC(key, 0x01, hash of entry n-1, the entry)
    seal of head n  = HMAC(key, 0x02, seal of head n-1, hash of entry n)

What is before the first is empty. Each part is preceded by its length in bytes as a big-endian
unsigned 16-bit number; `_parts` has those of an entry in their order. So an entry that was altered,
removed or moved breaks its own hash or that of the next one. Of the seals only the newest is
stored: whoever removes the last entries finds none that fits those before, and one that was made up
stays wrong, since each later one is made from it.
"""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from inglenook.audit.v1.audit_pb2 import ActorKind

from services.runtime.encryption.envelope import length_prefixed

_ENTRY, _HEAD = b"\x01", b"\x02"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Access:
    """That somebody asked for something of a person's."""

    user_id: UUID
    time: datetime
    actor_kind: ActorKind.ValueType
    actor: str
    action: str
    session_id: UUID | None = None
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Access):
    """The same as the person's log has it."""

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far a person's log has got."""

    user_id: UUID
    sequence: int
    hash: bytes
    """That of the last entry."""
    seal: bytes


def chain_key(token_key: bytes, service: str) -> bytes:
    """The key of a service's chains."""
    return hmac.digest(token_key, length_prefixed(b"access log", service.encode()), "sha256")


def extended(key: bytes, head: Head, accesses: Sequence[Access]) -> tuple[list[Entry], Head]:
    """The entries that follow a head, and the head after them."""
    entries: list[Entry] = []
    seal, last = head.seal, head.hash
    for sequence, access in enumerate(accesses, head.sequence + 1):
        last = _hash(key, last, sequence, access)
        seal = _seal(key, seal, last)
        stated = {name: getattr(access, name) for name in Access.__slots__}
        entries.append(Entry(**stated, sequence=sequence, hash=last))
    return entries, Head(head.user_id, head.sequence + len(accesses), last, seal)


class Walk:
    """Goes through a person's log from its first entry, and tells where it is not as recorded."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Takes the chain's key, and those that it had before."""
        self._keys = list(keys)
        self._sequence, self._hash, self._seal = 0, b"", b""
        self._is_whole = True

    def past(self, entry: Entry) -> Iterator[str]:
        """What is wrong before and with the next entry."""
        if entry.sequence != self._sequence + 1:
            self._is_whole = False
            yield _missing(self._sequence + 1, entry.sequence - 1)
        elif not self._is_recorded(entry):
            self._is_whole = False
            yield f"entry {entry.sequence} is not what was recorded"
        # From what stands there: the rest of the chain may be whole.
        self._sequence, self._hash = entry.sequence, entry.hash
        self._seal = _seal(self._keys[0], self._seal, entry.hash)

    def to_the_end(self, head: Head) -> Iterator[str]:
        """What is wrong with the head of the entries so far, and between them and it."""
        if head.sequence > self._sequence:
            yield _missing(self._sequence + 1, head.sequence)
        elif self._is_whole and (head.hash, head.seal) != (self._hash, self._seal):
            yield "the head is not what was recorded: what followed may have been removed"

    def _is_recorded(self, entry: Entry) -> bool:
        """Whether one of the keys made its hash: that one is tried first from then on."""
        for place, key in enumerate(self._keys):
            if hmac.compare_digest(_hash(key, self._hash, entry.sequence, entry), entry.hash):
                self._keys.insert(0, self._keys.pop(place))
                return True
        return False


def _hash(key: bytes, before: bytes, sequence: int, access: Access) -> bytes:
    return hmac.digest(key, length_prefixed(_ENTRY, before, *_parts(sequence, access)), "sha256")


def _seal(key: bytes, before: bytes, last: bytes) -> bytes:
    return hmac.digest(key, length_prefixed(_HEAD, before, last), "sha256")


def _parts(sequence: int, access: Access) -> tuple[bytes, ...]:
    return (
        access.user_id.bytes,
        sequence.to_bytes(8, "big"),
        ((access.time - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True),
        access.actor_kind.to_bytes(2, "big"),
        access.actor.encode(),
        access.action.encode(),
        b"" if access.session_id is None else access.session_id.bytes,
        access.request_id.encode(),
    )


def _missing(first: int, last: int) -> str:
    return (
        f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"
    )
