"""Page tokens and resume tokens: places in a list or a feed, handed to clients to bring back.

A cursor carries numbers, no authority: whoever brings it is checked like anyone else. It is
authenticated (HMAC-SHA-256 truncated to 128 bits, RFC 2104) together with what it is for, so one
that was made up, altered, or given for another list, feed or person is told apart.
"""

import base64
import binascii
import hmac
from pathlib import Path

from services.runtime.encryption.envelope import length_prefixed

_VERSION = b"\x01"
_NUMBER_BYTES = 8
_MAC_BYTES = 16
_KEY_BYTES = 32


class CursorError(Exception):
    """The cursor was not given for this purpose."""


class Cursors:
    """Makes and reads a service's cursors."""

    def __init__(self, key: bytes) -> None:
        """Takes the key, which all of the service's replicas share."""
        if len(key) < _KEY_BYTES:
            raise ValueError(f"a token key has at least {_KEY_BYTES} bytes")
        self._key = key

    def make(self, purpose: tuple[str, ...], *numbers: int) -> str:
        """A cursor that holds `numbers` (each below 2^63) and is good for `purpose` only."""
        payload = _VERSION + b"".join(
            number.to_bytes(_NUMBER_BYTES, "big", signed=True) for number in numbers
        )
        return _spelled(payload + self._mac(purpose, payload))

    def read(self, purpose: tuple[str, ...], cursor: str) -> tuple[int, ...]:
        """The numbers of a cursor that was made for `purpose`.

        Raises:
            CursorError: it was not.
        """
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise CursorError from None
        if _spelled(raw) != cursor:
            raise CursorError  # Base64 can spell the same bytes in several ways; a cursor has one.
        payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(purpose, payload)) or payload[:1] != _VERSION:
            raise CursorError
        body = payload[1:]
        return tuple(
            int.from_bytes(body[start : start + _NUMBER_BYTES], "big", signed=True)
            for start in range(0, len(body), _NUMBER_BYTES)
        )

    def _mac(self, purpose: tuple[str, ...], payload: bytes) -> bytes:
        signed = length_prefixed(*(part.encode() for part in purpose), payload)
        return hmac.digest(self._key, signed, "sha256")[:_MAC_BYTES]


def _spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_token_key(path: Path) -> bytes:
    """The key in a file: 32 bytes or more, in base64.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no such key.
    """
    key = base64.b64decode(path.read_text().strip(), validate=True)
    if len(key) < _KEY_BYTES:
        raise ValueError(f"{path} holds less than {_KEY_BYTES} bytes")
    return key
