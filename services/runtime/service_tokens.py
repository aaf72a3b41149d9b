"""The services' own tokens: how a service proves to another who it is, and whom it acts for."""

import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.runtime.jwks import (
    SigningKey,
    algorithm_of,
    key_set,
    read_signing_key,
    write_signing_key,
)
from services.runtime.settings import ServerSettings

_LIFETIME = 60.0


def make_service_keys(folders: Mapping[str, Path]) -> str:
    """Makes a key for each service, by name, in its folder; keys that are there already stay.

    Gives the JWK Set of their public sides, which is what the services are to trust.
    """
    keys: dict[str, SigningKey] = {}
    for service, folder in folders.items():
        if not (folder / "private.pem").exists():
            write_signing_key(folder, service, Ed25519PrivateKey.generate())
        key_id, key = read_signing_key(folder)
        keys[key_id] = key
    return key_set(keys)


class ServiceTokens:
    """Makes the tokens of one service, with its key in `folder` (see `jwks.write_signing_key`)."""

    def __init__(self, folder: Path, *, issuer: str, audience: str, service: str) -> None:
        """Takes the service's key, and what its tokens state; the issuer must be trusted elsewhere.

        Raises:
            FileNotFoundError: the folder holds no key.
        """
        self._key_id, self._key = read_signing_key(folder)
        self._issuer, self._audience, self._service = issuer, audience, service

    @classmethod
    def of(cls, settings: ServerSettings, service: str) -> "ServiceTokens":
        """The tokens of the service that has these settings.

        Raises:
            FileNotFoundError: the settings name a folder that holds no key.
        """
        return cls(
            settings.service_key,
            issuer=settings.service_issuer,
            audience=settings.service_audience,
            service=service,
        )

    def token(self, *, acting_for: UUID | None = None) -> str:
        """A token for the next minute, for the service itself or for a person it acts for."""
        now = time.time()
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": self._service if acting_for is None else str(acting_for),
            "iat": int(now),
            "exp": int(now + _LIFETIME),
        }
        if acting_for is not None:
            claims["act"] = {"sub": self._service}
        headers = {"kid": self._key_id}
        return jwt.encode(claims, self._key, algorithm_of(self._key), headers=headers)
