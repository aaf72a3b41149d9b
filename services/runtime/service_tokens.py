"""The services' own tokens: how a service proves to another who it is, and whom it acts for."""

import time
from pathlib import Path
from uuid import UUID

import jwt

from services.runtime.jwks import algorithm_of, read_signing_key

_LIFETIME = 60.0


class ServiceTokens:
    """Makes the tokens of one service, with its key in `folder` (see `jwks.write_signing_key`)."""

    def __init__(self, folder: Path, *, issuer: str, audience: str, service: str) -> None:
        """Takes the service's key, and what its tokens state; the issuer must be trusted elsewhere.

        Raises:
            FileNotFoundError: the folder holds no key.
        """
        self._key_id, self._key = read_signing_key(folder)
        self._issuer, self._audience, self._service = issuer, audience, service

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
