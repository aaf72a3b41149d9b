"""What tests stand on: one stack for a whole run, started by the code of `make run`."""

import base64
import json
import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from contract.folders import ROOT
from local.stack import Stack, free_ports
from services.runtime.jwks import write_signing_key
from services.runtime.service_tokens import ServiceTokens
from tests.ports import take_share
from tests.reachable import reachable_folder

# Tests start processes while gRPC runs in this one. They become other programs at once, and what
# gRPC does between fork and exec, for those that do not, can crash them.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# How long an example takes says nothing of the code on a machine that does other things too.
hypothesis.settings.register_profile("inglenook", deadline=None)
hypothesis.settings.load_profile("inglenook")

# Files run beside each other, in as many processes.
take_share(
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)

_RESPONDERS_ISSUER = "inglenook-responders"


@pytest.fixture(scope="session")
def stack(trusting_responder: dict[str, str], webhook_secrets: Path) -> Iterator[Stack]:
    settings = {**trusting_responder, "INGLENOOK_WEBHOOK_SECRETS_FILE": str(webhook_secrets)}
    with (
        reachable_folder() as folder,
        Stack(folder / "home", free_ports(), settings=settings, web=_web()) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def trusting_responder(responder_key: Path) -> dict[str, str]:
    """The settings of a stack that trusts the responder's tokens."""
    trusted = {
        "issuer": _RESPONDERS_ISSUER,
        "jwks_file": str(responder_key / "jwks.json"),
        "audiences": ["inglenook"],
        "algorithms": ["EdDSA"],
        "kind": "service",
    }
    return {"INGLENOOK_ISSUERS": json.dumps([trusted])}


@pytest.fixture(scope="session")
def responder_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a key that the stack trusts to sign a service's tokens."""
    folder = tmp_path_factory.mktemp("responder")
    write_signing_key(folder, "responder", ed25519.Ed25519PrivateKey.generate())
    return folder


@pytest.fixture(scope="session")
def webhook_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with the secrets by which the stack knows the identity provider's events."""
    path = tmp_path_factory.mktemp("webhooks") / "secrets"
    made = (base64.b64encode(secrets.token_bytes(24)).decode() for _ in range(2))
    path.write_text("".join(f"whsec_{secret}\n" for secret in made))
    return path


@pytest.fixture(scope="session")
def responder(responder_key: Path) -> ServiceTokens:
    """The tokens of a service that answers people."""
    return ServiceTokens(
        responder_key, issuer=_RESPONDERS_ISSUER, audience="inglenook", service="responder"
    )


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, also when root runs the tests."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def reachable_to_all() -> Iterator[Path]:
    """The same, for what all tests of a file have in common."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def chance() -> random.Random:
    """Chance that can be had again: run with INGLENOOK_SEED set to the seed that was printed."""
    seed = int(os.environ.get("INGLENOOK_SEED") or random.SystemRandom().getrandbits(32))
    print(f"INGLENOOK_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)  # noqa: S311 - not for secrets


def _web() -> Path | None:
    """The web app, once it was built, for which Node is needed."""
    built = ROOT / "web" / "dist"
    return built if (built / "index.html").exists() else None
