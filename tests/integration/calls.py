"""Calling the stack as a client would: over gRPC and over HTTP, with any token."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from contract.methods import Method
from local.stack import PROTO_SERVICES, Stack
from services.runtime.jwks import read_signing_key
from services.runtime.settings import DEVELOPMENT_ISSUER

MakePerson = Callable[[str], "Person"]
ABSENT = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Refused:
    """How a call was refused."""

    code: str
    reason: str


def wait_for_log(stack: Stack, name: str, request_id: str) -> str:
    """A process's log, once it has the line of a request: Envoy writes its log now and then."""
    log = stack.home.logs / f"{name}.log"
    deadline = time.monotonic() + 60
    while request_id not in (text := log.read_text()):
        assert time.monotonic() < deadline, f"{request_id} is not in {log}"
        time.sleep(0.1)
    return text


def program_of(method: Method) -> str:
    """The program of the stack that serves a method."""
    return next(name for name, service in PROTO_SERVICES.items() if service == method.service)


class Person:
    """A signed-in person who calls over HTTP."""

    def __init__(self, stack: Stack, name: str) -> None:
        headers = {"authorization": f"Bearer {stack.token(name)}"}
        self.http = httpx.Client(base_url=stack.url, headers=headers, timeout=30)

    def close(self) -> None:
        self.http.close()

    def call(self, verb: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        answer = self.http.request(verb, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, verb: str, path: str, body: object = None) -> Refused:
        return refusal_in(self.http.request(verb, path, json=body))

    def new_session(self, title: str = "A talk") -> str:
        return str(self.call("POST", "/v1/sessions", {"title": title})["session"]["sessionId"])

    def say(self, session: str, content: str, **more: object) -> Any:  # noqa: ANN401 - JSON
        path = f"/v1/sessions/{session}/messages"
        return self.call("POST", path, {"content": content, **more})["message"]


def refusal_in(answer: httpx.Response) -> Refused:
    assert answer.headers["content-type"] == "application/json", answer.text
    return _refused(json_format.ParseDict(answer.json(), Status()))


def refusal_over_grpc(error: grpc.RpcError) -> Refused:
    trailers: dict[str, bytes] = dict(cast("Any", error).trailing_metadata())
    return _refused(Status.FromString(trailers["grpc-status-details-bin"]))


def bad_tokens(stack: Stack) -> dict[str, tuple[str | None, str]]:
    """Tokens that open nothing, each with the reason that its bearer gets."""
    key_id, key = read_signing_key(stack.home.development_issuer)
    now = int(time.time())
    good: dict[str, object] = {
        "iss": DEVELOPMENT_ISSUER,
        "sub": "mallory",
        "aud": "inglenook",
        "exp": now + 600,
    }

    def signed(**changes: object) -> str:
        claims = {name: value for name, value in (good | changes).items() if value is not None}
        return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})

    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = jwt.encode(good, stranger, algorithm="ES256", headers={"kid": key_id})
    unsigned = jwt.encode(good, cast("Any", None), algorithm="none", headers={"kid": key_id})
    return {
        "missing": (None, "TOKEN_MISSING"),
        "malformed": ("not.a.token", "TOKEN_INVALID"),
        "expired": (signed(exp=now - 3600), "TOKEN_EXPIRED"),
        "not valid yet": (signed(nbf=now + 3600), "TOKEN_INVALID"),
        "of another issuer": (signed(iss="https://elsewhere.example"), "TOKEN_INVALID"),
        "for another audience": (signed(aud="elsewhere"), "TOKEN_INVALID"),
        "signed by a stranger": (forged, "TOKEN_INVALID"),
        "unsigned": (unsigned, "TOKEN_INVALID"),
    }


def _refused(status: Status) -> Refused:
    info = ErrorInfo()
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    assert reasons, f"no reason in {status}"
    return Refused(grpc_code(status.code), reasons[0])


def grpc_code(number: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == number)
