"""Which provider keeps a service's key-encryption keys, as its settings say."""

from importlib import import_module
from types import ModuleType

from services.runtime.encryption.key_file import KeyFile
from services.runtime.encryption.key_provider import KeyAdministration, KeyProviderError
from services.runtime.settings import KeySettings


def key_provider(settings: KeySettings) -> KeyAdministration:
    """The provider that the settings choose.

    Its client library is imported only here: a service needs no more than the one of its choice.

    Raises:
        KeyProviderError: the library is not installed, or the keys cannot be used.
    """
    match settings.key_provider:
        case "file":
            return KeyFile(settings.key_file)
        case "vault":
            provider = _module("vault_transit", extra="vault").VaultTransit
        case "aws-kms":
            provider = _module("aws_kms", extra="aws").AwsKms
        case "gcp-kms":
            provider = _module("google_kms", extra="gcp").GoogleKms
    chosen: KeyAdministration = provider.from_settings(settings)
    return chosen


def _module(name: str, *, extra: str) -> ModuleType:
    try:
        return import_module(f"services.runtime.encryption.{name}")
    except ModuleNotFoundError as error:
        raise KeyProviderError(
            f"the package {error.name} is not installed: install inglenook[{extra}]"
        ) from None
