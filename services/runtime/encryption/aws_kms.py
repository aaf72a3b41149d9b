"""Key-encryption keys in AWS KMS: a symmetric key, best named by an alias.

Each KMS key is a KEK: `aws-kms:<key ARN>`. AWS rotates the material inside a key by itself, which
changes nothing here; another KEK is another key that the alias is pointed at. The associated data
is the encryption context, which CloudTrail shows: ids, and nothing else. Credentials are those that
boto3 finds. They need kms:Encrypt and kms:DescribeKey on the active key, kms:Decrypt on all.
"""

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from services.runtime.encryption.key_provider import (
    KeyProviderError,
    KeyProviderUnavailableError,
    WrappedKey,
    WrappedKeyError,
)
from services.runtime.settings import KeySettings

_ARN = re.compile(r"(arn:[^:]+:kms:([^:]+):[^:]+:)(key|alias)/.+")
_SCHEME = "aws-kms:"
_ALTERED = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_UNAVAILABLE = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
_SERVER_ERRORS = 500


class AwsKms:
    """A `KeyAdministration` over AWS KMS."""

    def __init__(self, key: str, *, endpoint: str | None = None, timeout: float = 5.0) -> None:
        """Takes the ARN of the key or of its alias, and where KMS answers if not at AWS.

        Raises:
            KeyProviderError: it is not such an ARN.
        """
        arn = _ARN.fullmatch(key)
        if arn is None:
            raise KeyProviderError(f"{key} is not the ARN of a KMS key or of an alias of one")
        self._key = key
        self._account, region = arn[1], arn[2]
        self._client = boto3.client(
            "kms",
            region_name=region,
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=timeout,
                read_timeout=timeout,
                # Whoever called is told to try again, and knows for how long it is worth it.
                retries={"total_max_attempts": 1},
            ),
        )

    @classmethod
    def from_settings(cls, settings: KeySettings) -> "AwsKms":
        """The provider that the settings describe."""
        return cls(settings.aws_kms_key, timeout=settings.key_provider_timeout)

    async def active(self) -> str:
        """The id of the key, which an alias may name."""
        answer = await self._call(self._client.describe_key, KeyId=self._key)
        return _SCHEME + str(answer["KeyMetadata"]["Arn"])

    async def wrap(self, secret: bytes, associated_data: bytes) -> WrappedKey:
        """Wraps a data key with the key, which an alias may name."""
        answer = await self._call(
            self._client.encrypt,
            KeyId=self._key,
            Plaintext=secret,
            EncryptionContext=_context(associated_data),
        )
        return WrappedKey(_SCHEME + answer["KeyId"], answer["CiphertextBlob"])

    async def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """Unwraps a data key.

        Raises:
            WrappedKeyError: KMS finds it altered, or wrapped for another purpose.
            KeyProviderError: it names a key of another account or region, or KMS refuses.
        """
        arn = wrapped.kek_id.removeprefix(_SCHEME)
        # Whoever can write to the database must not get us to use a key of an account of theirs.
        if arn == wrapped.kek_id or not arn.startswith(f"{self._account}key/"):
            raise KeyProviderError(
                f"data keys are wrapped with {wrapped.kek_id}, which is not a key in the account"
                f" and region of {self._key}"
            )
        answer = await self._call(
            self._client.decrypt,
            KeyId=arn,
            CiphertextBlob=wrapped.ciphertext,
            EncryptionContext=_context(associated_data),
        )
        if answer["KeyId"] != arn:
            raise WrappedKeyError(f"a data key was not wrapped with {wrapped.kek_id}")
        return bytes(answer["Plaintext"])

    async def add(self) -> str:
        """Says how to make another key.

        Raises:
            KeyProviderError: always; keys and their policies are the operator's.
        """
        raise KeyProviderError(
            "make another symmetric key in AWS KMS with the policy of this one, point the alias in"
            " INGLENOOK_AWS_KMS_KEY at it (`aws kms update-alias`), and run `keys rotate`"
        )

    async def newest(self) -> str:
        """The id of the key that the alias names."""
        return await self.active()

    async def activate(self, kek_id: str) -> None:
        """Does nothing: the key that the alias names is the active one.

        Raises:
            KeyProviderError: the alias names another by now.
        """
        active = await self.active()
        if kek_id != active:
            raise KeyProviderError(f"{self._key} is {active}: run `keys rotate` again")

    async def remove(self, kek_id: str) -> str:
        """Leaves the key to the operator, since old backups may need it."""
        return (
            f"AWS KMS still has {kek_id.removeprefix(_SCHEME)}. Disable it; schedule its deletion"
            " when no backup of the table data_keys needs it."
        )

    async def _call(
        self,
        method: Callable[..., Any],
        **arguments: object,
    ) -> Any:  # noqa: ANN401 - boto3 has no types
        try:
            return await asyncio.to_thread(method, **arguments)
        except (BotoConnectionError, HTTPClientError) as error:
            raise KeyProviderUnavailableError(
                f"AWS KMS does not answer ({type(error).__name__})"
            ) from None
        except ClientError as error:
            raise self._refusal(error) from None
        except BotoCoreError as error:
            raise KeyProviderError(f"AWS KMS cannot be used: {error}") from None

    def _refusal(self, error: ClientError) -> KeyProviderError:
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if code in _ALTERED:
            return WrappedKeyError(
                f"AWS KMS does not unwrap a data key ({code}): it was altered, or wrapped for"
                " another purpose"
            )
        if code in _UNAVAILABLE or status >= _SERVER_ERRORS:
            return KeyProviderUnavailableError(f"AWS KMS cannot serve ({code})")
        message = error.response["Error"].get("Message", "")
        return KeyProviderError(f"AWS KMS refuses to use {self._key} ({code}): {message}")


def _context(associated_data: bytes) -> dict[str, str]:
    return {"inglenook": base64.b64encode(associated_data).decode()}
