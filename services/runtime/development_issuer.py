"""The development issuer: signs anyone in as anyone, on a developer's machine.

It exists as a folder with a P-256 key, made on first run. Its tokens look like a Clerk session
token with the claims `email` and `name` added. `IdentitySettings` refuses it in production and
beside any other issuer of people's tokens.
"""

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from services.runtime.jwks import algorithm_of, read_signing_key, write_signing_key
from services.runtime.settings import DEVELOPMENT_ISSUER

_KEY_ID = "development"


def make_development_issuer(folder: Path) -> None:
    """Makes the issuer's key in `folder`, unless there is one."""
    if not (folder / "private.pem").exists():
        write_signing_key(folder, _KEY_ID, ec.generate_private_key(ec.SECP256R1()))


def development_token(folder: Path, person: str, *, lifetime: float = 24 * 3600) -> str:
    """A token that signs its bearer in as `person` for `lifetime` seconds.

    Raises:
        FileNotFoundError: the issuer's key was not made yet.
    """
    key_id, key = read_signing_key(folder)
    now = time.time()
    claims = {
        "iss": DEVELOPMENT_ISSUER,
        "sub": person,
        "aud": "inglenook",
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now + lifetime),
        "name": person.capitalize(),
        "email": f"{person}@example.com",
    }
    return jwt.encode(claims, key, algorithm=algorithm_of(key), headers={"kid": key_id})
