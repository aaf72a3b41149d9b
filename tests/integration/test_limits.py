"""How many requests a person, and an address, may make at the gateway."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status

from local.stack import Stack
from services.runtime.jwks import read_signing_key
from tests.integration.calls import Refused, refusal_in, refusal_over_grpc
from tests.integration.gateways import Gateway, served, started_gateway, trusting_as

SERVICE = "inglenook.users.v1.UsersService"
LIMITED = Refused("RESOURCE_EXHAUSTED", "RATE_LIMITED")
A_MINUTE = "60"
"""The seconds to wait where one request a minute may be made."""


class Seen:
    """A service that answers everything, and has seen the requests' headers."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str | bytes]] = []

    def answer(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self.headers.append(dict(context.invocation_metadata()))
        return b""


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def upstreams(seen: Seen) -> Iterator[dict[str, str]]:
    handlers: dict[str, Any] = {"GetMe": grpc.unary_unary_rpc_method_handler(seen.answer)}
    with served(SERVICE, handlers) as address:
        yield {SERVICE: address}


@pytest.fixture
def by_person(stack: Stack, upstreams: dict[str, str], tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that lets through a request a minute of each person."""
    settings = {**trusting_as(stack), "address_requests_per_minute": "0"}
    with started_gateway(
        tmp_path, upstreams, **settings, person_requests_per_minute="1"
    ) as gateway:
        yield gateway


def call(gateway: Gateway, token: str | None, **headers: str) -> httpx.Response:
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{gateway.url}/v1/me", headers=named, timeout=60)


def test_a_person_who_calls_too_often_is_told_when_to_try_again(
    stack: Stack, by_person: Gateway
) -> None:
    assert call(by_person, stack.token("alice")).status_code == 200
    refused = call(by_person, stack.token("alice"))
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == A_MINUTE
    assert refusal_in(refused) == LIMITED
    status = json_format.ParseDict(refused.json(), Status())
    assert f"{A_MINUTE}s" in [detail.get("retryDelay") for detail in refused.json()["details"]]
    assert status.message
    assert call(by_person, stack.token("bob")).status_code == 200


def test_whoever_calls_too_often_over_grpc_has_the_refusal_in_its_trailers(
    stack: Stack, by_person: Gateway
) -> None:
    metadata = (("authorization", f"Bearer {stack.token('alice')}"),)
    with grpc.insecure_channel(f"127.0.0.1:{by_person.port}") as channel:
        get_me: Any = channel.unary_unary(f"/{SERVICE}/GetMe")
        get_me(b"", metadata=metadata, timeout=60)
        with pytest.raises(grpc.RpcError) as refused:
            get_me(b"", metadata=metadata, timeout=60)
    assert refusal_over_grpc(refused.value) == LIMITED
    assert "Try again" in str(refused.value.details())


def test_whoever_calls_too_often_over_grpc_web_has_the_refusal_in_its_headers(
    stack: Stack, by_person: Gateway
) -> None:
    headers = {
        "authorization": f"Bearer {stack.token('alice')}",
        "content-type": "application/grpc-web+proto",
    }
    url = f"{by_person.url}/{SERVICE}/GetMe"
    first, second = (
        httpx.post(url, headers=headers, content=b"\0\0\0\0\0", timeout=60) for _ in range(2)
    )
    assert b"grpc-status:0" in first.content
    assert (second.status_code, second.headers["grpc-status"]) == (200, "8")
    assert "Try again" in second.headers["grpc-message"]
    assert "grpc-status-details-bin" in second.headers


def test_a_person_is_one_whatever_token_and_way_they_call_by(
    stack: Stack, by_person: Gateway, seen: Seen
) -> None:
    key_id, key = read_signing_key(stack.home.development_issuer)
    claims = jwt.decode(stack.token("alice"), options={"verify_signature": False})
    another = jwt.encode(
        {**claims, "jti": "another"}, key, algorithm="ES256", headers={"kid": key_id}
    )
    assert call(by_person, stack.token("alice")).status_code == 200
    assert call(by_person, another).status_code == 429
    as_bob = {"x_token_subject": "bob", "x_token_issuer": claims["iss"]}
    assert call(by_person, another, **as_bob).status_code == 429
    assert call(by_person, stack.token("bob")).status_code == 200
    assert not [name for headers in seen.headers for name in headers if name.startswith("x-token")]


@pytest.fixture
def by_address(
    stack: Stack, upstreams: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    """A gateway that lets through a request a minute of each address, behind so many proxies."""
    settings = {**trusting_as(stack), "trusted_proxies": str(request.param)}
    with started_gateway(
        tmp_path, upstreams, **settings, address_requests_per_minute="1"
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("by_address", [1], indirect=True)
def test_an_address_is_refused_before_its_tokens_are_looked_at(
    stack: Stack, by_address: Gateway
) -> None:
    def call_from(address: str, token: str | None) -> int:
        return call(by_address, token, x_forwarded_for=address).status_code

    assert call_from("198.51.100.1", None) == 401
    assert call_from("198.51.100.1", stack.token("alice")) == 429
    assert call_from("198.51.100.2", stack.token("alice")) == 200
    # What a caller claims stands to the left of what the proxy has added.
    assert call_from("198.51.100.3, 198.51.100.2", stack.token("alice")) == 429
    # A household has a network of IPv6.
    assert call_from("2001:db8:0:1::1", stack.token("alice")) == 200
    assert call_from("2001:db8:0:1::2", stack.token("alice")) == 429
    assert call_from("2001:db8:0:2::1", stack.token("alice")) == 200


@pytest.mark.parametrize("by_address", [0], indirect=True)
def test_without_a_proxy_nobody_chooses_their_address(stack: Stack, by_address: Gateway) -> None:
    tries = [
        call(by_address, stack.token("alice"), x_forwarded_for=f"198.51.100.{number}").status_code
        for number in range(2)
    ]
    assert tries == [200, 429]
    assert by_address.answers("/healthz") == 200
