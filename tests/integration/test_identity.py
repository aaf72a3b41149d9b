"""Tokens of issuers with a URL, rotation there, authorized parties, and services' own tokens."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from services.runtime import key_sets
from services.runtime.errors import Refusal
from services.runtime.jwks import algorithm_of, write_signing_key
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import TrustedIssuer
from services.runtime.tokens import TokenVerifier
from tests.integration.key_server import KeyServer


@pytest.fixture
def issuer() -> Iterator[KeyServer]:
    server = KeyServer()
    server.keys["first"] = ec.generate_private_key(ec.SECP256R1())
    yield server
    server.close()


def _token(server: KeyServer, key_id: str, **claims: object) -> str:
    key = server.keys[key_id]
    stated = {"iss": "https://id.example", "sub": "ann", "azp": "app", "exp": time.time() + 60}
    return jwt.encode(stated | claims, key, algorithm_of(key), headers={"kid": key_id})


def _trusted(server: KeyServer) -> TrustedIssuer:
    return TrustedIssuer(
        issuer="https://id.example", jwks_url=server.url, authorized_parties=("app",)
    )


async def test_a_rotation_at_the_issuer_is_picked_up_and_made_up_keys_do_not_flood_it(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    # However slow a machine is, the cooldown is over when this says so, and not before.
    monkeypatch.setattr(key_sets, "time", SimpleNamespace(monotonic=lambda: now))
    async with httpx.AsyncClient() as client:
        verifier = TokenVerifier((_trusted(issuer),), client, leeway=0)
        first = await verifier.verify(_token(issuer, "first"))
        issuer.keys["second"] = ed25519.Ed25519PrivateKey.generate()
        now += 6
        second = await verifier.verify(_token(issuer, "second"))
        assert first.user_id == second.user_id
        asked = issuer.asked
        issuer.keys["third"] = ec.generate_private_key(ec.SECP256R1())
        made_up = [_token(issuer, "third", jti=str(n)) for n in range(20)]
        for token in made_up:
            now += 0.2
            with pytest.raises(Refusal):
                await verifier.verify(token)
        assert issuer.asked == asked


async def test_a_token_for_another_party_is_refused(issuer: KeyServer) -> None:
    async with httpx.AsyncClient() as client:
        verifier = TokenVerifier((_trusted(issuer),), client, leeway=0)
        for party in ("elsewhere", None):
            with pytest.raises(Refusal) as refused:
                await verifier.verify(_token(issuer, "first", azp=party))
            assert refused.value.reason_name == "TOKEN_INVALID"


async def test_a_verified_token_is_forgotten_when_it_ends(issuer: KeyServer) -> None:
    async with httpx.AsyncClient() as client:
        verifier = TokenVerifier((_trusted(issuer),), client, leeway=0)
        # Before, not to have to be quick once the time runs.
        await verifier.verify(_token(issuer, "first"))
        ends = int(time.time()) + 4
        token = _token(issuer, "first", exp=ends)
        await verifier.verify(token)
        while (left := ends - time.time()) > 0:  # By its clock, and not by that of a sleep.
            time.sleep(left)  # noqa: ASYNC251 - nothing else runs
        with pytest.raises(Refusal) as refused:
            await verifier.verify(token)
        assert refused.value.reason_name == "TOKEN_EXPIRED"


async def test_an_issuer_that_does_not_answer_makes_calls_unavailable(issuer: KeyServer) -> None:
    token = _token(issuer, "first")
    issuer.close()
    async with httpx.AsyncClient() as client:
        verifier = TokenVerifier((_trusted(issuer),), client, leeway=0)
        with pytest.raises(Refusal) as refused:
            await verifier.verify(token)
        assert refused.value.reason_name == "DEPENDENCY_UNAVAILABLE"


async def test_a_service_proves_who_it_is_and_whom_it_acts_for(tmp_path: Path) -> None:
    write_signing_key(tmp_path, "responder", ed25519.Ed25519PrivateKey.generate())
    trusted = TrustedIssuer(
        issuer="inglenook-services",
        jwks_file=tmp_path / "jwks.json",
        audiences=("inglenook",),
        algorithms=("EdDSA",),
        kind="service",
    )
    assert json.loads((tmp_path / "jwks.json").read_text())["keys"][0]["kty"] == "OKP"
    tokens = ServiceTokens(
        tmp_path, issuer="inglenook-services", audience="inglenook", service="responder"
    )
    person = uuid4()
    async with httpx.AsyncClient() as client:
        verifier = TokenVerifier((trusted,), client, leeway=0)
        itself = await verifier.verify(tokens.token())
        acting = await verifier.verify(tokens.token(acting_for=person))
    assert (itself.service, itself.user_id) == ("responder", None)
    assert (acting.service, acting.user_id) == ("responder", person)
