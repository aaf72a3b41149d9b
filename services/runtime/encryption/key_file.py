"""Key-encryption keys in a file: the default keeper.

The file is JSON: `{"active": "<kek id>", "keys": {"<kek id>": "<32 bytes in base64>", ...}}`. New
data keys are wrapped with the active one; the others are there to unwrap what they wrapped. A data
key is wrapped by AES-256-GCM: 12 bytes of random nonce, the ciphertext, 16 bytes of tag; the KEK's
id is part of the associated data.
"""

import base64
import binascii
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.encryption.envelope import KEY_BYTES, NONCE_BYTES, length_prefixed
from services.runtime.encryption.key_provider import KeyProviderError, WrappedKey


def make_key_file(path: Path) -> None:
    """Writes a file with one new key, for its owner's eyes only, unless the file exists."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kek_id = f"kek-{secrets.token_hex(8)}"
    key = base64.b64encode(os.urandom(KEY_BYTES)).decode()
    # Written beside and renamed, so that a crash leaves a whole file or none: a half-written key
    # would be a key that was used and lost.
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"active": kek_id, "keys": {kek_id: key}}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


class KeyFile:
    """A `KeyProvider` over a key file, which is read once."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            KeyProviderError: it is missing, open to other users, or no key file.
        """
        self._path = path
        self._active, secrets_by_id = _read(path)
        self._ciphers = {kek_id: AESGCM(secret) for kek_id, secret in secrets_by_id.items()}

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the active KEK."""
        nonce = os.urandom(NONCE_BYTES)
        bound = length_prefixed(self._active.encode(), associated_data)
        sealed = self._ciphers[self._active].encrypt(nonce, secret, bound)
        return WrappedKey(self._active, nonce + sealed)

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key.

        Raises:
            KeyProviderError: the file does not hold the KEK, or holds another under its name.
        """
        cipher = self._ciphers.get(wrapped.kek_id)
        if cipher is None:
            raise KeyProviderError(
                f"{self._path} does not hold the key {wrapped.kek_id}, which data keys are"
                " wrapped with: put it back"
            )
        nonce, sealed = wrapped.ciphertext[:NONCE_BYTES], wrapped.ciphertext[NONCE_BYTES:]
        bound = length_prefixed(wrapped.kek_id.encode(), associated_data)
        try:
            return cipher.decrypt(nonce, sealed, bound)
        except (InvalidTag, ValueError):
            raise KeyProviderError(
                f"the key {wrapped.kek_id} in {self._path} is not the one that data keys were"
                " wrapped with, or a wrapped key was altered"
            ) from None


def _read(path: Path) -> tuple[str, dict[str, bytes]]:
    try:
        mode = path.stat().st_mode
        written = json.loads(path.read_text())
        active = written["active"]
        keys = {
            kek_id: base64.b64decode(key, validate=True) for kek_id, key in written["keys"].items()
        }
    except OSError as error:
        raise KeyProviderError(f"cannot read the key file {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise KeyProviderError(f"{path} is not a key file") from None
    if mode & 0o077:
        raise KeyProviderError(f"{path} is open to other users: chmod 600 {path}")
    if active not in keys or any(len(key) != KEY_BYTES for key in keys.values()):
        raise KeyProviderError(f"{path} names no active key, or holds one that is not 32 bytes")
    return active, keys
