"""The gateway: what it lets through, what it answers itself, and that it follows the contract."""

import base64
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from inglenook.users.v1.users_pb2 import GetMeResponse

from contract.compile import compile_descriptors
from contract.folders import PROTOS
from local.stack import Stack
from services.runtime.jwks import (
    SigningKey,
    algorithm_of,
    key_set,
    read_signing_key,
    write_signing_key,
)
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.integration.calls import MakePerson, Refused, refusal_in, refusal_over_grpc, wait_for_log
from tests.integration.gateways import started_gateway
from tests.integration.key_server import KeyServer
from tests.integration.replicas import reserved_port

ORIGIN = "https://app.example"
NEW_PROTO = """
syntax = "proto3";
package inglenook.echo.v1;
import "google/api/annotations.proto";
import "inglenook/access/v1/access.proto";
message EchoRequest { string text = 1; }
message EchoResponse { string text = 1; }
service EchoService {
  rpc Echo(EchoRequest) returns (EchoResponse) {
    option (inglenook.access.v1.allow) = ACCESS_PUBLIC;
    option (google.api.http) = { get: "/v1/echo/{text}" };
  }
  rpc Tell(EchoRequest) returns (EchoResponse) {
    option (inglenook.access.v1.allow) = ACCESS_USER;
    option (google.api.http) = { get: "/v1/tell/{text}" };
  }
  rpc Whisper(EchoRequest) returns (EchoResponse) {
    option (inglenook.access.v1.allow) = ACCESS_DELEGATE;
    option (google.api.http) = { get: "/v1/whisper/{text}" };
  }
}
"""


class _Echo(grpc.GenericRpcHandler):
    """A service that gives back what it gets: request and response are alike on the wire."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> object:  # type: ignore[override]
        if not handler_call_details.method.startswith("/inglenook.echo.v1."):
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


@pytest.fixture(scope="module")
def issuers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SigningKey]]:
    """Issuers: with keys in a file, at a URL, and where nobody answers; and a stranger."""
    folder = tmp_path_factory.mktemp("issuer")
    keys: dict[str, SigningKey] = {
        "by-file": ec.generate_private_key(ec.SECP256R1()),
        "by-url": ed25519.Ed25519PrivateKey.generate(),
        "silent": ec.generate_private_key(ec.SECP256R1()),
        "stranger": ec.generate_private_key(ec.SECP256R1()),
    }
    write_signing_key(folder, "by-file", keys["by-file"])
    with closing(KeyServer()) as server, reserved_port() as silent:
        server.keys["by-url"] = keys["by-url"]
        trusted = [
            {"issuer": "by-file", "jwks_file": str(folder / "jwks.json"), "audiences": ["app"]},
            {"issuer": "by-url", "jwks_url": server.url, "authorized_parties": ["app"]},
            {
                "issuer": "silent",
                "jwks_url": f"http://127.0.0.1:{silent}/jwks",
                "audiences": ["app"],
            },
        ]
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("INGLENOOK_ISSUERS", json.dumps(trusted))
            yield keys


@pytest.fixture(scope="module")
def echo_gateway(
    issuers: dict[str, SigningKey], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A gateway over a contract that has one service more; gives its URL."""
    assert "stranger" in issuers
    folder = tmp_path_factory.mktemp("echo")
    protos = folder / "protos"
    shutil.copytree(PROTOS, protos)
    (protos / "inglenook/echo/v1").mkdir(parents=True)
    (protos / "inglenook/echo/v1/echo.proto").write_text(NEW_PROTO)
    compile_descriptors(protos, folder / "contract.binpb")
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    upstreams = {"inglenook.echo.v1.EchoService": f"127.0.0.1:{port}"}
    settings = {
        "descriptors": str(folder / "contract.binpb"),
        "cors_origins": json.dumps([ORIGIN]),
    }
    with started_gateway(folder, upstreams, **settings) as gateway:
        yield gateway.url
    server.stop(None).wait()


def test_a_method_that_is_added_to_the_contract_is_served_as_it_is(echo_gateway: str) -> None:
    answer = httpx.get(f"{echo_gateway}/v1/echo/hello")
    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})


@pytest.mark.parametrize(
    ("issuer", "status"), [("by-file", 200), ("by-url", 200), ("stranger", 401)]
)
def test_each_of_several_issuers_is_trusted_and_nobody_else(
    echo_gateway: str, issuers: dict[str, SigningKey], issuer: str, status: int
) -> None:
    token = _token(issuers[issuer], issuer)
    answer = httpx.get(f"{echo_gateway}/v1/tell/hello", headers={"authorization": token})
    assert answer.status_code == status
    if status == 401:
        assert refusal_in(answer) == Refused("UNAUTHENTICATED", "TOKEN_INVALID")


def test_while_an_issuer_does_not_answer_people_come_again_and_need_not_sign_in(
    echo_gateway: str, issuers: dict[str, SigningKey]
) -> None:
    token = _token(issuers["silent"], "silent")
    unavailable = Refused("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")
    answer = httpx.get(f"{echo_gateway}/v1/tell/hello", headers={"authorization": token})
    assert answer.status_code == 503
    assert refusal_in(answer) == unavailable
    with grpc.insecure_channel(echo_gateway.removeprefix("http://")) as channel:
        tell: Any = channel.unary_unary("/inglenook.echo.v1.EchoService/Tell")
        with pytest.raises(grpc.RpcError) as refused:
            tell(b"", metadata=(("authorization", token),))
    assert refusal_over_grpc(refused.value) == unavailable


def test_an_issuers_token_does_not_pass_as_anothers(
    echo_gateway: str, issuers: dict[str, SigningKey]
) -> None:
    key = issuers["by-url"]
    claims = {"iss": "by-file", "sub": "ann", "aud": "app", "exp": time.time() + 60}
    token = jwt.encode(claims, key, algorithm_of(key), headers={"kid": "by-url"})
    headers = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{echo_gateway}/v1/tell/hello", headers=headers).status_code == 401


def test_a_method_for_services_cannot_be_reached_from_outside(echo_gateway: str) -> None:
    missing = Refused("UNIMPLEMENTED", "ROUTE_NOT_FOUND")
    assert refusal_in(httpx.get(f"{echo_gateway}/v1/whisper/hello")) == missing
    with grpc.insecure_channel(echo_gateway.removeprefix("http://")) as channel:
        whisper: Any = channel.unary_unary("/inglenook.echo.v1.EchoService/Whisper")
        with pytest.raises(grpc.RpcError) as refused:
            whisper(b"", timeout=10)
    assert refusal_over_grpc(refused.value) == missing


def test_health_and_reflection_of_the_services_are_not_public(stack: Stack) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{stack.ports.gateway}") as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        with pytest.raises(grpc.RpcError) as refused:
            check(b"", timeout=10)
    assert refusal_over_grpc(refused.value) == Refused("UNIMPLEMENTED", "ROUTE_NOT_FOUND")


@pytest.mark.parametrize("path", ["/v1/echo/hello", "/inglenook.echo.v1.EchoService/Echo"])
def test_pages_of_listed_origins_may_call_and_others_may_not(echo_gateway: str, path: str) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://elsewhere.example", None)):
        headers = {"origin": origin, **preflight}
        answer = httpx.options(f"{echo_gateway}{path}", headers=headers)
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_the_gateway_is_alive_and_ready(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/healthz").status_code == 200
    assert httpx.get(f"{stack.url}/readyz").status_code == 200


def test_a_call_over_grpc_web_is_answered(stack: Stack) -> None:
    headers = {
        "authorization": f"Bearer {stack.token('alice')}",
        "content-type": "application/grpc-web+proto",
    }
    url = f"{stack.url}/inglenook.users.v1.UsersService/GetMe"
    frames = httpx.post(url, headers=headers, content=b"\0\0\0\0\0").content
    length = int.from_bytes(frames[1:5], "big")
    response = GetMeResponse.FromString(frames[5 : 5 + length])
    assert response.user.email == "alice@example.com"
    assert b"grpc-status:0" in frames[5 + length :]


def test_a_refusal_over_grpc_web_has_its_details(stack: Stack) -> None:
    url = f"{stack.url}/inglenook.users.v1.UsersService/GetMe"
    headers = {"content-type": "application/grpc-web+proto"}
    answer = httpx.post(url, headers=headers, content=b"\0\0\0\0\0")
    details = answer.headers["grpc-status-details-bin"]
    assert answer.headers["grpc-status"] == "16"
    assert b"TOKEN_MISSING" in base64.b64decode(details + "=" * (-len(details) % 4))


def test_a_request_id_is_new_and_follows_the_call_into_every_service(
    stack: Stack, person: MakePerson
) -> None:
    alice = person("alice")
    session = alice.new_session()
    answer = alice.http.post(
        f"/v1/sessions/{session}/messages",
        json={"content": "hello"},
        headers={"x-request-id": "chosen-outside"},
    )
    request_id = answer.headers["x-request-id"]
    assert request_id != "chosen-outside"
    for name in ("gateway", "messages", "sessions"):
        assert "chosen-outside" not in wait_for_log(stack, name, request_id)


def test_answers_forbid_whatever_a_browser_might_do_with_them(person: MakePerson) -> None:
    headers = person("alice").http.get("/v1/me").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_a_new_key_of_an_issuer_is_accepted_without_a_restart(stack: Stack) -> None:
    folder = stack.home.development_issuer
    key_id, key = read_signing_key(folder)
    new_key = ec.generate_private_key(ec.SECP256R1())
    now = int(time.time())
    claims = {"iss": DEVELOPMENT_ISSUER, "sub": "gina", "aud": "inglenook", "exp": now + 600}
    token = jwt.encode(claims, new_key, algorithm="ES256", headers={"kid": "rotated"})
    headers = {"authorization": f"Bearer {token}"}
    before = httpx.get(f"{stack.url}/v1/me", headers=headers)
    assert refusal_in(before) == Refused("UNAUTHENTICATED", "TOKEN_INVALID")
    _replace(folder / "jwks.json", key_set({key_id: key, "rotated": new_key}))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if httpx.get(f"{stack.url}/v1/me", headers=headers).status_code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("the new key was not picked up")


def _token(key: SigningKey, issuer: str) -> str:
    """An `authorization` that an issuer gave to Ann."""
    claims = {"iss": issuer, "sub": "ann", "aud": "app", "azp": "app", "exp": time.time() + 60}
    token = jwt.encode(claims, key, algorithm_of(key), headers={"kid": issuer})
    return f"Bearer {token}"


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)
