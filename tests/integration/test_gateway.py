"""The gateway: what it lets through, what it answers itself, and that it follows the contract."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from inglenook.users.v1.users_pb2 import GetMeResponse

from contract.compile import PROTOS, compile_descriptors
from local.stack import Stack, free_ports
from services.runtime.jwks import key_set, read_signing_key
from services.runtime.settings import DEVELOPMENT_ISSUER
from tests.integration.calls import MakePerson, Refused, refusal_in, refusal_over_grpc

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
  rpc Whisper(EchoRequest) returns (EchoResponse) {
    option (inglenook.access.v1.allow) = ACCESS_SERVICE;
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
def echo_gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway over a contract that has one service more; gives its URL."""
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
    listen = f"127.0.0.1:{free_ports().gateway}"
    environment = {
        **os.environ,
        "INGLENOOK_ENVIRONMENT": "development",
        "INGLENOOK_DEVELOPMENT_ISSUER": str(stack.home.development_issuer),
        "INGLENOOK_LISTEN": listen,
        "INGLENOOK_UPSTREAMS": json.dumps({"inglenook.echo.v1.EchoService": f"127.0.0.1:{port}"}),
        "INGLENOOK_BOOTSTRAP_FILE": str(folder / "envoy.json"),
        "INGLENOOK_DESCRIPTORS": str(folder / "contract.binpb"),
        "INGLENOOK_CORS_ORIGINS": json.dumps([ORIGIN]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://{listen}/healthz")
        yield f"http://{listen}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        server.stop(None).wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"{url} did not answer")


def test_a_method_that_is_added_to_the_contract_is_served_as_it_is(echo_gateway: str) -> None:
    answer = httpx.get(f"{echo_gateway}/v1/echo/hello")
    assert (answer.status_code, answer.json()) == (200, {"text": "hello"})


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


def test_pages_of_listed_origins_may_call_and_others_may_not(echo_gateway: str) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://elsewhere.example", None)):
        headers = {"origin": origin, **preflight}
        answer = httpx.options(f"{echo_gateway}/v1/echo/hello", headers=headers)
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
        log = stack.home.logs / f"{name}.log"
        deadline = time.monotonic() + 15  # Envoy writes its log now and then.
        while request_id not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert request_id in log.read_text(), name
        assert "chosen-outside" not in log.read_text()


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


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)
