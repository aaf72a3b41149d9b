"""What happens to every call before and after its handler, in one place.

In this order: a request id, authentication (where there are certificates, the token has to agree
with the caller's) and access by the contract's options, parsing, validation by the contract's
rules, the record of a service's call in the person's access log, the handler, and the answer: a
response, or a refusal as `google.rpc.Status`. It is one interceptor rather than six because each
layer costs every call. Requests arrive here as bytes (see `server.py`), so that nothing of an
unknown caller is parsed and what cannot be parsed is answered like any other bad request.
"""

import logging
import math
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from grpc_interceptor.server import AsyncServerInterceptor
from inglenook.access.v1.access_pb2 import Access
from inglenook.errors.v1.errors_pb2 import Reason
from protovalidate import Validator, Violation

from contract.methods import Method
from services.runtime.admission import Admission
from services.runtime.audit.calls import RecordedCalls
from services.runtime.errors import (
    FieldViolation,
    Refusal,
    refusal_of,
    request_invalid,
    request_malformed,
)
from services.runtime.half_close import until_half_closed
from services.runtime.identity import Call, Identity, current_call
from services.runtime.locking import LockedNow, person_locked
from services.runtime.logs import call_log
from services.runtime.telemetry import calls
from services.runtime.tokens import (
    TokenVerifier,
    token_misplaced,
    token_missing,
)
from services.runtime.transport import names_shown

_log = logging.getLogger(__name__)

# Looked up once: finding an enum's value by its name takes as long as verifying a known token.
_PUBLIC, _USER = Access.ACCESS_PUBLIC, Access.ACCESS_USER
_SERVICE, _DELEGATE = Access.ACCESS_SERVICE, Access.ACCESS_DELEGATE
_AWAY = Reason.REASON_DEPENDENCY_UNAVAILABLE
_REQUEST_ID = "x-request-id"
_REQUEST_ID_CHARACTERS = 64
_STATUS_DETAILS = "grpc-status-details-bin"
_RETRY_AFTER = "retry-after"
# gRFC A6: libraries that call again by themselves do not.
_NOT_AGAIN = ("grpc-retry-pushback-ms", "-1")
_GATEWAY = "gateway"
"""The name in the gateway's certificate, by which people's calls come."""
# Not of the contract: the servers' own health and reflection, open to whoever reaches the port.
_INFRASTRUCTURE = ("/grpc.health.v1.Health/", "/grpc.reflection.")


@dataclass(frozen=True, slots=True)
class GuardedMethod:
    """A method of the contract, and the class of its requests."""

    method: Method
    request: type[Message]


class CallInterceptor(AsyncServerInterceptor):
    """Guards every method of a server."""

    def __init__(
        self,
        methods: Iterable[GuardedMethod],
        verifier: TokenVerifier,
        locked: LockedNow,
        recorded: RecordedCalls,
        *,
        is_certified: bool,
    ) -> None:
        """Takes the methods that may be called at all, who verifies tokens, and who is locked.

        `recorded` are the calls that people find in their access logs. `is_certified` says that
        whoever is heard has shown a certificate, which has to agree with the token. Each
        method's rules are compiled here, so that a rule that cannot be is found at the start and
        not by the first caller.
        """
        self._guarded = {guarded.method.path: guarded for guarded in methods}
        self._verifier = verifier
        self._locked = locked
        self._recorded = recorded
        self._is_certified = is_certified
        self._validator = Validator()
        for guarded in self._guarded.values():
            self._validator.collect_violations(guarded.request())
            calls.expect(guarded.method)
            recorded.expect(guarded.method, guarded.request)

    async def intercept(
        self,
        method: Callable[[Any, Any], Any],
        request_or_iterator: Any,  # noqa: ANN401 - the base class's
        context: Any,  # noqa: ANN401 - the base class's
        method_name: str,
    ) -> Any:  # noqa: ANN401 - the base class's
        """Serves one call."""
        if method_name.startswith(_INFRASTRUCTURE):
            return await _passed_on(method, request_or_iterator, context)
        started = time.perf_counter()
        metadata = dict(context.invocation_metadata())
        request_id = _request_id(metadata)
        current_call.set(Call(request_id=request_id))
        try:
            guarded = self._guard_of(method_name)
            identity = await self._admit(guarded.method, context, metadata, request_id)
            if guarded.method.client_streaming:
                arriving = until_half_closed(request_or_iterator, context)
                sent = Admission.of(identity, self._locked).parts_of(arriving)
                requests = self._read_each(guarded, identity, request_id, sent)
                response = await method(requests, context)
            elif guarded.method.server_streaming:
                request = self._read(guarded, request_or_iterator)
                await self._recorded.record(guarded.method, identity, request, request_id)
                del metadata  # It would be memory of every idle stream.
                frames, response = method(request, context), None
                with calls.open_stream(method_name):
                    await Admission.of(identity, self._locked).send(frames, context)
            else:
                request = self._read(guarded, request_or_iterator)
                await self._recorded.record(guarded.method, identity, request, request_id)
                response = await method(request, context)
        except Exception as error:
            await _refuse(error, context, method_name, started)
            raise  # Not reached: refusing ends the call.
        _note(method_name, "OK", started)
        return response

    def _guard_of(self, method_name: str) -> GuardedMethod:
        guarded = self._guarded.get(method_name)
        if guarded is None:
            raise access_denied()
        return guarded

    async def _admit(
        self,
        method: Method,
        context: "aio.ServicerContext[Any, Any]",
        metadata: dict[str, str | bytes],
        request_id: str,
    ) -> Identity | None:
        """Who calls, if the contract lets them.

        Raises:
            Refusal: it does not, or who calls cannot be told.
        """
        if _PUBLIC in method.allow:
            return None
        token = _bearer_token(metadata)
        identity = await self._verifier.verify(token)
        if self._is_certified and not _is_in_place(method, identity, context):
            raise token_misplaced()
        kinds = {_USER} if identity.service is None else {_SERVICE}
        if identity.service is not None and identity.user_id is not None:
            kinds.add(_DELEGATE)
        nobodys = identity.user_id is None and _USER in method.allow
        is_caller = _is_among(method.callers, identity.service)
        if not kinds & method.allow or nobodys or not is_caller:
            raise access_denied()
        if identity.user_id in self._locked:
            raise person_locked()
        current_call.set(Call(request_id=request_id, identity=identity, token=token))
        return identity

    def _read(self, guarded: GuardedMethod, raw: bytes) -> Message:
        """The request, if it keeps the contract's rules.

        Raises:
            Refusal: it cannot be read, or breaks rules.
        """
        try:
            request = guarded.request.FromString(raw)
        except DecodeError:
            raise request_malformed() from None
        violations = self._validator.collect_violations(request)
        if violations:
            raise request_invalid([_field_violation(violation) for violation in violations])
        return request

    async def _read_each(
        self,
        guarded: GuardedMethod,
        identity: Identity | None,
        request_id: str,
        sent: AsyncIterator[bytes],
    ) -> AsyncIterator[Message]:
        """The requests of a stream, as they come; the call is recorded with the first one.

        Raises:
            Refusal: one cannot be read, or breaks rules.
        """
        is_recorded = False
        async for raw in sent:
            request = self._read(guarded, raw)
            if not is_recorded:
                await self._recorded.record(guarded.method, identity, request, request_id)
                is_recorded = True
            yield request


def _field_violation(violation: Violation) -> FieldViolation:
    found = violation.proto
    path = found.field.elements if found.field is not None else []
    return FieldViolation(
        field=".".join(
            step.field_name + (f"[{step.subscript.value}]" if step.subscript else "")
            for step in path
        ),
        description=found.message,
        rule=found.rule_id,
    )


def _is_in_place(
    method: Method, identity: Identity, context: "aio.ServicerContext[Any, Any]"
) -> bool:
    """Whether a token came with a certificate that carries it, as the contract has it."""
    own = identity.service or _GATEWAY
    return not names_shown(context).isdisjoint({own, *method.passed_on_by})


def _is_among(callers: frozenset[str], service: str | None) -> bool:
    """Whether the contract lets this service call, or lets every service; people pass."""
    return service is None or not callers or service in callers


def access_denied() -> Refusal:
    """The caller is known and may not call this."""
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        Reason.REASON_ACCESS_DENIED,
        "This method is not open to this kind of caller.",
    )


async def _passed_on(
    method: Callable[[Any, Any], Any],
    request: Any,  # noqa: ANN401 - any service's
    context: Any,  # noqa: ANN401 - the base class's
) -> Any:  # noqa: ANN401 - any service's
    answer = method(request, context)
    return answer if hasattr(answer, "__aiter__") else await cast("Awaitable[Any]", answer)


async def _refuse(
    error: Exception,
    context: "aio.ServicerContext[Any, Any]",
    method_name: str,
    started: float,
) -> None:
    refusal = refusal_of(error)
    if refusal is not error:
        # Of what does not open, where it is: an operator has to find the row.
        where = {"method": method_name, **refusal.metadata}
        _log.error("a call failed", extra=where, exc_info=error)
    _note(method_name, refusal.code.name, started, refusal.reason_name)
    told: list[tuple[str, str | bytes]] = [(_STATUS_DETAILS, refusal.status().SerializeToString())]
    if refusal.retry_after is not None:
        # What the details say in JSON, HTTP says in a header (RFC 9110, 10.2.3), in whole seconds.
        told.append((_RETRY_AFTER, str(math.ceil(refusal.retry_after))))
    if refusal.reason == _AWAY:
        # This has waited already. If each caller in a row had it wait a few times over, the first
        # one would wait for all of them.
        told.append(_NOT_AGAIN)
    await context.abort(refusal.code, refusal.message, trailing_metadata=tuple(told))


def _note(method_name: str, code: str, started: float, reason: str = "") -> None:
    seconds = time.perf_counter() - started
    call_log.note(method_name, code, seconds * 1000, reason)
    calls.answered(method_name, code, seconds, reason)


def _request_id(metadata: dict[str, str | bytes]) -> str:
    """The request id that the gateway or the calling service gave, or a new one."""
    given = metadata.get(_REQUEST_ID)
    fit = isinstance(given, str) and given.isascii() and given.isprintable()
    return str(given)[:_REQUEST_ID_CHARACTERS] if fit and given else str(uuid4())


def _bearer_token(metadata: dict[str, str | bytes]) -> str:
    """The token of `authorization: Bearer <token>` (RFC 6750).

    Raises:
        Refusal: TOKEN_MISSING.
    """
    header = metadata.get("authorization")
    scheme, _, token = header.partition(" ") if isinstance(header, str) else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise token_missing()
    return token.strip()
