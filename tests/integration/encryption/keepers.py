"""Every keeper of key-encryption keys, running, with what its operator does to it."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

from services.runtime.encryption.aws_kms import AwsKms
from services.runtime.encryption.google_kms import GoogleKms
from services.runtime.encryption.key_file import KeyFile, make_key_file
from services.runtime.encryption.key_provider import KeyAdministration
from services.runtime.encryption.vault_transit import VaultTransit
from tests.integration.encryption import google_kms_server, vault_server

_REGION = "eu-central-1"
# None of the calls here takes long, unless the machine is busy with something else.
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Keeper:
    """A provider, and what can happen to its keys."""

    provider: KeyAdministration
    restarted: Callable[[], KeyAdministration]
    """Another provider over the same keys, as a restarted service has one."""
    add: Callable[[], Awaitable[str]]
    """Makes another KEK, as the keeper's operator would."""
    gone: str
    """The id of a KEK that the keeper never had."""
    stop: Callable[[], None] | None
    """Makes the keeper unreachable, where it is not a file."""


@contextmanager
def key_file(folder: Path) -> Iterator[Keeper]:
    path = folder / "keys.json"
    make_key_file(path)
    provider = KeyFile(path)
    # Another process makes it: the provider has to notice.
    yield Keeper(provider, lambda: KeyFile(path), KeyFile(path).add, "kek-gone", None)


@contextmanager
def vault(folder: Path) -> Iterator[Keeper]:
    server = vault_server.VaultServer()
    token = folder / "token"
    token.write_text(f"{vault_server.TOKEN}\n")

    def provider() -> VaultTransit:
        return VaultTransit(server.url, token, vault_server.KEY, timeout=_TIMEOUT)

    first = provider()
    yield Keeper(first, provider, first.add, f"vault:transit/{vault_server.KEY}:v9", server.close)
    server.close()


@contextmanager
def aws_kms(_folder: Path) -> Iterator[Keeper]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client("kms", region_name=_REGION, endpoint_url=endpoint)
    arn = client.create_key()["KeyMetadata"]["Arn"]
    # Its keys outlive the server, since they are this process's.
    name = f"alias/inglenook-{uuid4()}"
    client.create_alias(AliasName=name, TargetKeyId=arn)
    alias = arn.rpartition("key/")[0] + name

    async def add() -> str:
        another = client.create_key()["KeyMetadata"]["Arn"]
        client.update_alias(AliasName=name, TargetKeyId=another)
        return f"aws-kms:{another}"

    def provider() -> AwsKms:
        return AwsKms(alias, endpoint=endpoint, timeout=_TIMEOUT)

    gone = f"aws-kms:{arn.rpartition('/')[0]}/00000000-0000-4000-8000-000000000000"
    yield Keeper(provider(), provider, add, gone, server.stop)
    client.close()


@contextmanager
def google_kms(_folder: Path) -> Iterator[Keeper]:
    server = google_kms_server.GoogleKmsServer()

    def provider() -> GoogleKms:
        return GoogleKms(google_kms_server.KEY, server.client, timeout=_TIMEOUT)

    first = provider()
    gone = "gcp-kms:projects/p/locations/eu/keyRings/r/cryptoKeys/other/cryptoKeyVersions/1"
    yield Keeper(first, provider, first.add, gone, server.stop)
    server.close()


KEEPERS = {"file": key_file, "vault": vault, "aws-kms": aws_kms, "gcp-kms": google_kms}
