"""Every method of the contract, called by everyone who may not: new methods are covered at once."""

import re
from typing import Any
from uuid import uuid4

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pool, message_factory
from inglenook.access.v1.access_pb2 import Access
from inglenook.messages.v1 import messages_pb2  # noqa: F401 - known to the descriptor pool
from inglenook.respond.v1 import respond_pb2  # noqa: F401
from inglenook.sessions.v1 import sessions_pb2  # noqa: F401
from inglenook.users.v1 import users_pb2  # noqa: F401

from contract.folders import DESCRIPTORS
from contract.methods import Method, load_methods
from local.stack import Stack
from services import SERVICES
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import SERVICES_ISSUER
from tests.integration.calls import (
    ABSENT,
    MakePerson,
    Refused,
    bad_tokens,
    program_of,
    refusal_in,
    refusal_over_grpc,
)


def _fields(method: Method) -> list[str]:
    pool = descriptor_pool.Default()
    return [field.name for field in pool.FindMessageTypeByName(method.request).fields]


EVERY_METHOD = load_methods(DESCRIPTORS)
METHODS = [method for method in EVERY_METHOD if Access.ACCESS_USER in method.allow]
INTERNAL = [method for method in EVERY_METHOD if method.callers]
WITH_A_SESSION = [method for method in METHODS if "session_id" in _fields(method)]
IN_A_SESSION = [method for method in WITH_A_SESSION if method.name != "CreateSession"]
BAD_TOKENS = [
    "missing",
    "malformed",
    "expired",
    "not valid yet",
    "of another issuer",
    "for another audience",
    "signed by a stranger",
    "unsigned",
]


def _call(method: Method, raw: bytes, token: str | None, port: int) -> object:
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        if method.server_streaming:
            stream: Any = channel.unary_stream(method.path)
            return next(stream(raw, metadata=metadata, timeout=20))
        unary: Any = channel.unary_unary(method.path)
        return unary(raw, metadata=metadata, timeout=20)


def _refusal(method: Method, raw: bytes, token: str | None, port: int) -> Refused:
    with pytest.raises(grpc.RpcError) as refused:
        _call(method, raw, token, port)
    return refusal_over_grpc(refused.value)


def _ports(stack: Stack, method: Method) -> list[int]:
    """Where a method can be called: at its service, and through the gateway."""
    return [getattr(stack.ports, program_of(method)), stack.ports.gateway]


def _filled(method: Method, session: str) -> bytes:
    """A valid request that names the given session wherever one is named."""
    descriptor = descriptor_pool.Default().FindMessageTypeByName(method.request)
    request = message_factory.GetMessageClass(descriptor)()
    values = {"session_id": session, "message_id": ABSENT, "content": "hello", "query": "hello"}
    for field in descriptor.fields:
        if field.name in values:
            setattr(request, field.name, values[field.name])
    return request.SerializeToString()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_opens_no_method_over_grpc(stack: Stack, method: Method, kind: str) -> None:
    token, reason = bad_tokens(stack)[kind]
    for port in _ports(stack, method):
        refused = _refusal(method, _filled(method, ABSENT), token, port)
        assert refused == Refused("UNAUTHENTICATED", reason)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_opens_no_route(stack: Stack, method: Method, kind: str) -> None:
    token, reason = bad_tokens(stack)[kind]
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    for route in method.routes:
        url = stack.url + re.sub(r"\{\w+\}", ABSENT, route.template)
        body = b"[]" if method.client_streaming else b"{}"
        content = body if route.verb in {"POST", "PUT", "PATCH"} else None
        answer = httpx.request(route.verb, url, headers=headers, content=content)
        assert answer.status_code == 401
        assert refusal_in(answer) == Refused("UNAUTHENTICATED", reason)


@pytest.mark.parametrize("method", IN_A_SESSION, ids=lambda method: method.name)
def test_a_strangers_session_is_like_one_that_does_not_exist(
    stack: Stack, person: MakePerson, method: Method
) -> None:
    session = person("alice").new_session()
    for port in _ports(stack, method):
        for named in (session, ABSENT):
            refused = _refusal(method, _filled(method, named), stack.token("bob"), port)
            assert refused == Refused("NOT_FOUND", "SESSION_NOT_FOUND")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_bytes_that_are_no_request_are_malformed(stack: Stack, method: Method) -> None:
    not_utf8 = b"\x0a\x03a\xff\xfe"  # Field 1, a string, of bytes that are no UTF-8.
    truncated = b"\x0a\xff"
    first = descriptor_pool.Default().FindMessageTypeByName(method.request).fields
    text_first = any(field.number == 1 and field.type == field.TYPE_STRING for field in first)
    for raw in (truncated, *([not_utf8] if text_first else [])):
        for port in _ports(stack, method):
            refused = _refusal(method, raw, stack.token("alice"), port)
            assert refused == Refused("INVALID_ARGUMENT", "REQUEST_MALFORMED")


@pytest.mark.parametrize("method", WITH_A_SESSION, ids=lambda method: method.name)
def test_an_id_that_is_no_uuid_is_invalid(stack: Stack, method: Method) -> None:
    for port in _ports(stack, method):
        refused = _refusal(method, _filled(method, "nonsense"), stack.token("alice"), port)
        assert refused == Refused("INVALID_ARGUMENT", "REQUEST_INVALID")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_service_calls_only_what_is_open_to_services_and_only_for_a_person(
    stack: Stack, responder: ServiceTokens, person: MakePerson, method: Method
) -> None:
    session = person("alice").new_session()
    port, gateway = _ports(stack, method)
    for_nobody = _refusal(method, _filled(method, session), responder.token(), port)
    assert for_nobody == Refused("PERMISSION_DENIED", "ACCESS_DENIED")
    stranger = responder.token(acting_for=uuid4())
    if Access.ACCESS_SERVICE not in method.allow:
        refused = _refusal(method, _filled(method, session), stranger, port)
        assert refused == Refused("PERMISSION_DENIED", "ACCESS_DENIED")
    elif method in IN_A_SESSION:
        refused = _refusal(method, _filled(method, session), stranger, port)
        assert refused == Refused("NOT_FOUND", "SESSION_NOT_FOUND")
    else:
        # It names nothing that is anybody's: whatever it makes is the stranger's.
        _call(method, _filled(method, session), stranger, port)
        assert (
            person("alice").call("GET", f"/v1/sessions/{session}")["session"]["title"] == "A talk"
        )
    outside = _refusal(method, _filled(method, session), stranger, gateway)
    assert outside == Refused("UNAUTHENTICATED", "TOKEN_INVALID")


@pytest.mark.parametrize("method", INTERNAL, ids=lambda method: method.name)
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_opens_no_internal_method(stack: Stack, method: Method, kind: str) -> None:
    token, reason = bad_tokens(stack)[kind]
    port, _ = _ports(stack, method)
    assert _refusal(method, b"", token, port) == Refused("UNAUTHENTICATED", reason)


@pytest.mark.parametrize("method", INTERNAL, ids=lambda method: method.name)
def test_an_internal_method_is_open_to_the_services_that_the_contract_names_and_to_nobody_else(
    stack: Stack, responder: ServiceTokens, method: Method
) -> None:
    denied = Refused("PERMISSION_DENIED", "ACCESS_DENIED")
    port, gateway = _ports(stack, method)
    tokens = [stack.token("alice"), responder.token(), responder.token(acting_for=uuid4())]
    for service in SERVICES:
        signed = stack.home.service_tokens(service)
        tokens += (
            [] if service in method.callers else [signed.token(), signed.token(acting_for=uuid4())]
        )
    for token in tokens:
        assert _refusal(method, _filled(method, ABSENT), token, port) == denied
    outside = Refused("UNIMPLEMENTED", "ROUTE_NOT_FOUND")
    for token in tokens:
        assert _refusal(method, _filled(method, ABSENT), token, gateway) == outside


@pytest.mark.parametrize("method", INTERNAL, ids=lambda method: method.name)
def test_a_service_cannot_sign_as_another(stack: Stack, method: Method) -> None:
    port, _ = _ports(stack, method)
    for caller in method.callers:
        for signer in set(SERVICES) - {caller}:
            forged = ServiceTokens(
                stack.home.service_keys / signer,
                issuer=SERVICES_ISSUER,
                audience="inglenook",
                service=caller,
            )
            refused = _refusal(method, _filled(method, ABSENT), forged.token(), port)
            assert refused == Refused("UNAUTHENTICATED", "TOKEN_INVALID")
