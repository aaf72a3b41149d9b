"""Signing keys and their public side: JWK Sets (RFC 7517) in files.

What signs the tokens of the development issuer and of the services' own issuer.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_PRIVATE = "private.pem"
_PUBLIC = "jwks.json"


def algorithm_of(key: SigningKey) -> str:
    """The JWS algorithm (RFC 7518, RFC 8037) that a key signs with."""
    return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"


def key_set(keys: dict[str, SigningKey]) -> str:
    """The JWK Set, as JSON, with the public side of each key under its key id."""
    return json.dumps({"keys": [_jwk(key_id, key) for key_id, key in keys.items()]}, indent=2)


def write_signing_key(folder: Path, key_id: str, key: SigningKey) -> None:
    """Writes a key into a folder: the private side for its owner's eyes only, and a JWK Set."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    private = folder / _PRIVATE
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / _PUBLIC).write_text(key_set({key_id: key}))


def read_signing_key(folder: Path) -> tuple[str, SigningKey]:
    """The key id and private key that `write_signing_key` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the key is of a kind that signs no tokens here.
    """
    key = serialization.load_pem_private_key((folder / _PRIVATE).read_bytes(), password=None)
    if not isinstance(key, SigningKey):
        raise ValueError(f"{folder / _PRIVATE} holds neither a P-256 nor an Ed25519 key")
    return json.loads((folder / _PUBLIC).read_text())["keys"][0]["kid"], key


def _jwk(key_id: str, key: SigningKey) -> dict[str, str]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": key_id, "use": "sig", "alg": algorithm_of(key)}
