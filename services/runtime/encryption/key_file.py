"""Key-encryption keys in a file: the default keeper.

The file is JSON: `{"active": "<kek id>", "keys": {"<kek id>": "<32 bytes in base64>", ...}}`, the
keys in the order in which they were added. New data keys are wrapped with the active one; the
others are there to unwrap what they wrapped, or wait to become active. A data key is wrapped by
AES-256-GCM: 12 bytes of random nonce, the ciphertext, 16 bytes of tag; the KEK's id is part of the
associated data.
"""

import base64
import binascii
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.encryption.envelope import KEY_BYTES, NONCE_BYTES, length_prefixed
from services.runtime.encryption.key_provider import (
    KeyProviderError,
    WrappedKey,
    WrappedKeyError,
)


def make_key_file(path: Path) -> None:
    """Writes a file with one new key, for its owner's eyes only, unless the file exists."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _edited_by_nobody_else(path):
        if not path.exists():
            kek_id, secret = _new_key()
            _write(path, _Contents(kek_id, {kek_id: secret}))


class KeyFile:
    """A `KeyAdministration` over a key file.

    A file that was changed is read again when a data key is wrapped, or when one names a KEK that
    was not in it: services that run follow a rotation.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            KeyProviderError: it is missing, open to other users, or no key file.
        """
        self._path = path
        self._read()

    async def active(self) -> str:
        """The id of the KEK that the file names as active."""
        self._read_if_changed()
        return self._contents.active

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the active KEK."""
        self._read_if_changed()
        kek_id = self._contents.active
        nonce = os.urandom(NONCE_BYTES)
        bound = length_prefixed(kek_id.encode(), associated_data)
        return WrappedKey(kek_id, nonce + self._ciphers[kek_id].encrypt(nonce, secret, bound))

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key.

        Raises:
            WrappedKeyError: it does not unwrap with the KEK of its name, for this purpose.
            KeyProviderError: the file does not hold the KEK.
        """
        if wrapped.kek_id not in self._ciphers:
            self._read_if_changed()
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
            raise WrappedKeyError(
                f"the key {wrapped.kek_id} in {self._path} is not the one that data keys were"
                " wrapped with, or a wrapped key was altered"
            ) from None

    async def add(self) -> str:
        """Writes a new KEK into the file, which stays unused until it is made the active one."""
        with self._edited() as contents:
            kek_id, secret = _new_key()
            contents.keys[kek_id] = secret
        return kek_id

    async def newest(self) -> str:
        """The id of the last KEK in the file."""
        self._read_if_changed()
        return list(self._contents.keys)[-1]

    async def activate(self, kek_id: str) -> None:
        """Makes a KEK of the file the active one.

        Raises:
            KeyProviderError: the file does not hold it.
        """
        with self._edited() as contents:
            if kek_id not in contents.keys:
                raise KeyProviderError(f"{self._path} does not hold the key {kek_id}")
            contents.active = kek_id

    async def remove(self, kek_id: str) -> str:
        """Takes a KEK out of the file, if it is there.

        Raises:
            KeyProviderError: it is the active one.
        """
        with self._edited() as contents:
            if kek_id == contents.active:
                raise KeyProviderError(f"{kek_id} is the active key of {self._path}")
            contents.keys.pop(kek_id, None)
        return f"{self._path} does not hold it any more; take it out of the file's copies too."

    def _read_if_changed(self) -> None:
        if _version_of(self._path) != self._version:
            self._read()

    def _read(self) -> None:
        # Noted before the file is read: if it changes in between, it is read once too often.
        self._version = _version_of(self._path)
        self._contents = _contents_of(self._path)
        self._ciphers = {kek_id: AESGCM(secret) for kek_id, secret in self._contents.keys.items()}

    @contextmanager
    def _edited(self) -> "Iterator[_Contents]":
        try:
            with _edited_by_nobody_else(self._path):
                contents = _contents_of(self._path)
                yield contents
                _write(self._path, contents)
        except OSError as error:
            raise KeyProviderError(
                f"cannot write the key file {self._path}: {error.strerror}"
            ) from None
        self._read()


@dataclass(slots=True)
class _Contents:
    active: str
    keys: dict[str, bytes]

    def __repr__(self) -> str:
        return f"_Contents(active={self.active!r}, keys={list(self.keys)!r})"


def _new_key() -> tuple[str, bytes]:
    return f"kek-{secrets.token_hex(8)}", os.urandom(KEY_BYTES)


def _version_of(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _contents_of(path: Path) -> _Contents:
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            written = json.load(file)
        active = written["active"]
        keys = {
            kek_id: base64.b64decode(key, validate=True) for kek_id, key in written["keys"].items()
        }
        usable = active in keys and all(len(key) == KEY_BYTES for key in keys.values())
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise KeyProviderError(f"{path} is not a key file") from None
    if not _is_private(status, os.geteuid()):
        raise KeyProviderError(f"{path} is open to other users: chmod 600 {path}")
    if not usable:
        raise KeyProviderError(f"{path} names no active key, or holds one that is not 32 bytes")
    return _Contents(active, keys)


def _is_private(status: os.stat_result, user: int) -> bool:
    """Whether nobody but its owner can read a file; or, of another owner, nobody but its group.

    The latter is how a cluster mounts a secret for a program that is not root: the file is root's,
    and the group is the program's own.
    """
    forbidden = 0o077 if status.st_uid == user else 0o037
    return not status.st_mode & forbidden


def _unreadable(path: Path, error: OSError) -> KeyProviderError:
    return KeyProviderError(f"cannot read the key file {path}: {error.strerror}")


@contextmanager
def _edited_by_nobody_else(path: Path) -> Iterator[None]:
    """Holds a lock on the file's folder: of two edits at once, one would undo the other.

    Not on the file, which each edit replaces.
    """
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        # The rename itself, too, has to survive a power cut.
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, contents: _Contents) -> None:
    """Replaces the file, so that a crash leaves the old one or the new one.

    A half-written key would be a key that was used and lost.
    """
    # A link stays a link, to a file that is replaced.
    target = path.resolve()
    draft = target.with_suffix(".draft")
    written = {
        "active": contents.active,
        "keys": {kek_id: base64.b64encode(key).decode() for kek_id, key in contents.keys.items()},
    }
    # Made anew: what an earlier crash left may be open to others.
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if target.exists():
            # The service's own user must still be able to read what root edited.
            owner = target.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        json.dump(written, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    draft.rename(target)
