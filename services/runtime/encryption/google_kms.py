"""Key-encryption keys in Google Cloud KMS: a symmetric CryptoKey.

Each version of the CryptoKey is a KEK: `gcp-kms:projects/…/cryptoKeyVersions/<number>`. The
associated data is the request's `additional_authenticated_data`. Both ways the CRC32C checksums are
given and checked, as Google's page on data integrity asks: what a faulty network or server changes
must not become a data key that was stored and lost. Credentials are the application default ones.
They need cryptoKeys.get, cryptoKeyVersions.useToEncrypt and .useToDecrypt; for `keys add` and
`keys rotate` also cryptoKeyVersions.list, .create and cryptoKeys.update.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import google_crc32c
from google.api_core.exceptions import (
    DeadlineExceeded,
    GoogleAPICallError,
    InvalidArgument,
    ServerError,
    TooManyRequests,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud import kms_v1 as kms

from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
    WrappedKeyError,
)
from services.runtime.settings import KeySettings

Answer = TypeVar("Answer")

_SCHEME = "gcp-kms:"
_ENABLED = kms.CryptoKeyVersion.CryptoKeyVersionState.ENABLED


class GoogleKms:
    """A `KeyAdministration` over a CryptoKey."""

    def __init__(
        self, key: str, client: kms.KeyManagementServiceClient, *, timeout: float = 5.0
    ) -> None:
        """Takes the CryptoKey's resource name, and the client to reach it by."""
        self._key = key
        self._client = client
        self._timeout = timeout

    @classmethod
    def from_settings(cls, settings: KeySettings) -> "GoogleKms":
        """The provider that the settings describe.

        Raises:
            KeyProviderError: there are no credentials.
        """
        try:
            client = kms.KeyManagementServiceClient()
        except GoogleAuthError as error:
            raise KeyProviderError(f"Google Cloud KMS cannot be used: {error}") from None
        return cls(settings.gcp_kms_key, client, timeout=settings.key_provider_timeout)

    async def active(self) -> str:
        """The id of the CryptoKey's primary version."""
        key = await self._call(
            lambda: self._client.get_crypto_key(name=self._key, retry=None, timeout=self._timeout)
        )
        if not key.primary.name:
            raise KeyProviderError(f"{self._key} has no primary version")
        return _SCHEME + key.primary.name

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the CryptoKey's primary version."""
        request = kms.EncryptRequest(
            name=self._key,
            plaintext=secret,
            plaintext_crc32c=google_crc32c.value(secret),
            additional_authenticated_data=associated_data,
            additional_authenticated_data_crc32c=google_crc32c.value(associated_data),
        )
        answer = await self._call(
            lambda: self._client.encrypt(request=request, retry=None, timeout=self._timeout)
        )
        intact = (
            answer.verified_plaintext_crc32c
            and answer.verified_additional_authenticated_data_crc32c
            and answer.ciphertext_crc32c == google_crc32c.value(answer.ciphertext)
        )
        if not intact:
            raise _garbled()
        return WrappedKey(_SCHEME + answer.name, answer.ciphertext)

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key.

        Raises:
            WrappedKeyError: KMS finds it altered, or wrapped for another purpose.
            KeyProviderError: it names another CryptoKey, or KMS refuses.
        """
        if not wrapped.kek_id.startswith(f"{_SCHEME}{self._key}/cryptoKeyVersions/"):
            raise KeyProviderError(
                f"data keys are wrapped with {wrapped.kek_id}, which is no version of {self._key}"
            )
        request = kms.DecryptRequest(
            name=self._key,
            ciphertext=wrapped.ciphertext,
            ciphertext_crc32c=google_crc32c.value(wrapped.ciphertext),
            additional_authenticated_data=associated_data,
            additional_authenticated_data_crc32c=google_crc32c.value(associated_data),
        )
        answer = await self._call(
            lambda: self._client.decrypt(request=request, retry=None, timeout=self._timeout),
            invalid=WrappedKeyError(
                f"Google Cloud KMS does not unwrap a data key with {self._key}: it was altered, or"
                " wrapped for another purpose"
            ),
        )
        if answer.plaintext_crc32c != google_crc32c.value(answer.plaintext):
            raise _garbled()
        return answer.plaintext

    async def add(self) -> str:
        """Makes a version of the CryptoKey, which is not the primary one yet."""
        version = await self._call(
            lambda: self._client.create_crypto_key_version(
                parent=self._key,
                crypto_key_version=kms.CryptoKeyVersion(),
                retry=None,
                timeout=self._timeout,
            )
        )
        return _SCHEME + version.name

    async def newest(self) -> str:
        """The id of the CryptoKey's enabled version with the highest number."""
        versions = await self._call(
            lambda: list(
                self._client.list_crypto_key_versions(
                    parent=self._key, retry=None, timeout=self._timeout
                )
            )
        )
        enabled = [version.name for version in versions if version.state == _ENABLED]
        if not enabled:
            raise KeyProviderError(f"{self._key} has no enabled version")
        return _SCHEME + max(enabled, key=lambda name: int(_number_of(name)))

    async def activate(self, kek_id: str) -> None:
        """Makes a version the primary one."""
        await self._call(
            lambda: self._client.update_crypto_key_primary_version(
                name=self._key,
                crypto_key_version_id=_number_of(kek_id),
                retry=None,
                timeout=self._timeout,
            )
        )

    async def remove(self, kek_id: str) -> str:
        """Leaves the version to the operator, since old backups may need it."""
        return (
            f"Google Cloud KMS still has {kek_id.removeprefix(_SCHEME)}. Disable it; destroy it"
            " when no backup of the table data_keys needs it."
        )

    async def _call(
        self, method: Callable[[], Answer], *, invalid: KeyProviderError | None = None
    ) -> Answer:
        """Calls KMS in a thread; `invalid` is what its INVALID_ARGUMENT means, if not a fault."""
        try:
            return await asyncio.to_thread(method)
        except (ServerError, DeadlineExceeded, TooManyRequests) as error:
            raise KeyProviderUnavailableError(
                f"Google Cloud KMS does not answer ({type(error).__name__})"
            ) from None
        except InvalidArgument as error:
            raise (invalid or self._refusal(error)) from None
        except GoogleAPICallError as error:
            raise self._refusal(error) from None
        except GoogleAuthError as error:
            if error.retryable:
                raise KeyProviderUnavailableError(
                    f"Google Cloud gives no credentials now ({type(error).__name__})"
                ) from None
            raise KeyProviderError(f"Google Cloud KMS cannot be used: {error}") from None

    def _refusal(self, error: GoogleAPICallError) -> KeyProviderError:
        return KeyProviderError(
            f"Google Cloud KMS refuses to use {self._key} ({type(error).__name__}): {error.message}"
        )


def _garbled() -> KeyProviderUnavailableError:
    return KeyProviderUnavailableError(
        "a checksum shows that what was sent to or from Google Cloud KMS was changed on the way"
    )


def _number_of(version: str) -> str:
    return version.rpartition("/")[2]
