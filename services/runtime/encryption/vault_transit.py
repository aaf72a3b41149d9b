"""Key-encryption keys in HashiCorp Vault, or OpenBao: a key of its transit secrets engine.

Each version of the transit key is a KEK: `vault:<mount>/<key>:v<version>`. The key has to be of an
AEAD type, such as the default aes256-gcm96, since the associated data is Vault's `associated_data`.
The token needs `update` on `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>` and `read` on
`<mount>/keys/<key>`; for `keys add` also `update` on `<mount>/keys/<key>/rotate`.
"""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hvac
from hvac.exceptions import (
    BadGateway,
    InternalServerError,
    RateLimitExceeded,
    UnexpectedError,
    VaultDown,
    VaultError,
    VaultNotInitialized,
)
from requests.exceptions import RequestException

from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
    WrappedKeyError,
)
from services.runtime.settings import KeySettings

_UNAVAILABLE = (
    BadGateway,
    InternalServerError,
    RateLimitExceeded,
    UnexpectedError,
    VaultDown,
    VaultNotInitialized,
)
_ALTERED = ("invalid ciphertext", "message authentication failed")
_NOT_YET_HERE = "version is too new"


class VaultTransit:
    """A `KeyAdministration` over a transit key."""

    def __init__(
        self,
        address: str,
        token_file: Path,
        key: str,
        *,
        mount: str = "transit",
        namespace: str = "",
        ca_file: Path | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Takes where Vault answers, a file with a token, and the name of the transit key."""
        self._token_file = token_file
        self._key = key
        self._mount = mount
        self._client = hvac.Client(
            url=address,
            namespace=namespace or None,
            verify=True if ca_file is None else str(ca_file),
            timeout=timeout,
        )

    @classmethod
    def from_settings(cls, settings: KeySettings) -> "VaultTransit":
        """The provider that the settings describe."""
        return cls(
            settings.vault_address,
            settings.vault_token_file,
            settings.vault_key,
            mount=settings.vault_mount,
            namespace=settings.vault_namespace,
            ca_file=settings.vault_ca_file,
            timeout=settings.key_provider_timeout,
        )

    async def active(self) -> str:
        """The id of the key's latest version, which Vault encrypts with."""
        answer = await self._call(self._client.secrets.transit.read_key)
        return self._kek_id(answer["data"]["latest_version"])

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the key's latest version."""
        answer = await self._call(
            self._client.secrets.transit.encrypt_data,
            plaintext=_encoded(secret),
            associated_data=_encoded(associated_data),
        )
        ciphertext: str = answer["data"]["ciphertext"]
        return WrappedKey(self._kek_id(_version_of(ciphertext)), ciphertext.encode())

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key.

        Raises:
            WrappedKeyError: Vault finds it altered, or wrapped for another purpose.
            KeyProviderError: it names another key, or Vault refuses.
        """
        ciphertext = wrapped.ciphertext.decode(errors="replace")
        if not wrapped.kek_id.startswith(self._kek_id("")):
            raise KeyProviderError(
                f"data keys are wrapped with {wrapped.kek_id}, which is not a version of the"
                f" transit key {self._mount}/{self._key}"
            )
        if wrapped.kek_id != self._kek_id(_version_of(ciphertext)):
            raise WrappedKeyError(f"a data key was not wrapped with {wrapped.kek_id}")
        answer = await self._call(
            self._client.secrets.transit.decrypt_data,
            ciphertext=ciphertext,
            associated_data=_encoded(associated_data),
        )
        return base64.b64decode(answer["data"]["plaintext"])

    async def add(self) -> str:
        """Rotates the transit key. Vault encrypts with the new version from then on."""
        await self._call(self._client.secrets.transit.rotate_key)
        return await self.active()

    async def newest(self) -> str:
        """The id of the key's latest version."""
        return await self.active()

    async def activate(self, kek_id: str) -> None:
        """Does nothing: in Vault the latest version is the active one.

        Raises:
            KeyProviderError: another version is the latest by now.
        """
        active = await self.active()
        if kek_id != active:
            raise KeyProviderError(f"Vault encrypts with {active}: run `keys rotate` again")

    async def remove(self, kek_id: str) -> str:
        """Leaves the version to the operator, since old backups may need it."""
        return (
            f"Vault still has {kek_id}. When no backup of the table data_keys needs it, raise"
            f" min_decryption_version of {self._mount}/{self._key} past it."
        )

    def _kek_id(self, version: int | str) -> str:
        return f"vault:{self._mount}/{self._key}:v{version}"

    async def _call(
        self,
        method: Callable[..., Any],
        **arguments: str,
    ) -> Any:  # noqa: ANN401 - JSON
        try:
            return await asyncio.to_thread(self._call_with_token, method, arguments)
        except RequestException as error:
            raise KeyProviderUnavailableError(
                f"Vault does not answer at {self._client.url} ({type(error).__name__})"
            ) from None
        except VaultError as error:
            raise self._refusal(error) from None

    def _call_with_token(self, method: Callable[..., Any], arguments: dict[str, str]) -> object:
        # Read each time: an agent renews it. An equal token is set by all threads alike.
        try:
            self._client.token = self._token_file.read_text().strip()
        except OSError as error:
            raise KeyProviderError(
                f"cannot read the Vault token in {self._token_file}: {error.strerror}"
            ) from None
        answer: object = method(name=self._key, mount_point=self._mount, **arguments)
        return answer

    def _refusal(self, error: VaultError) -> KeyProviderError:
        # Vault tells what is wrong with a ciphertext by words alone, in some versions as a 500.
        said = "; ".join(error.errors or [str(error.args[0]) if error.args else ""])
        if any(words in said for words in _ALTERED) and _NOT_YET_HERE not in said:
            return WrappedKeyError(
                f"Vault does not unwrap a data key with {self._mount}/{self._key}: it was altered,"
                " or wrapped for another purpose"
            )
        if isinstance(error, _UNAVAILABLE):
            return KeyProviderUnavailableError(f"Vault at {self._client.url} cannot serve: {said}")
        return KeyProviderError(
            f"Vault refuses to use the transit key {self._mount}/{self._key}"
            f" ({type(error).__name__}): {said}"
        )


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _version_of(ciphertext: str) -> str:
    """The version in `vault:v<version>:<base64>`; nothing when it is no such text."""
    parts = ciphertext.split(":")
    return parts[1].removeprefix("v") if parts[0] == "vault" and parts[1:] else ""
