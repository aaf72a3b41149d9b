"""What tests stand on: one stack for a whole run, started by the code of `make run`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from local.stack import Stack, free_ports
from services.runtime.jwks import write_signing_key
from services.runtime.service_tokens import ServiceTokens

_RESPONDERS_ISSUER = "inglenook-responders"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, responder_key: Path) -> Iterator[Stack]:
    home = _within_reach(tmp_path_factory.mktemp("stack")) / "home"
    trusted = {
        "issuer": _RESPONDERS_ISSUER,
        "jwks_file": str(responder_key / "jwks.json"),
        "audiences": ["inglenook"],
        "algorithms": ["EdDSA"],
        "kind": "service",
    }
    settings = {"INGLENOOK_ISSUERS": json.dumps([trusted])}
    with Stack(home, free_ports(), settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
def responder_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a key that the stack trusts to sign a service's tokens."""
    folder = tmp_path_factory.mktemp("responder")
    write_signing_key(folder, "responder", ed25519.Ed25519PrivateKey.generate())
    return folder


@pytest.fixture(scope="session")
def responder(responder_key: Path) -> ServiceTokens:
    """The tokens of a service that answers people."""
    return ServiceTokens(
        responder_key, issuer=_RESPONDERS_ISSUER, audience="inglenook", service="responder"
    )


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that PostgreSQL's own user can reach, also when root runs the tests."""
    return _within_reach(tmp_path)


def _within_reach(folder: Path) -> Path:
    for step in (folder, *list(folder.parents)[:2]):
        step.chmod(0o711)
    return folder
