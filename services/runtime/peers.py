"""Calling another service: on the caller's behalf, by the caller's own token, or as a service."""

import json
from collections.abc import Awaitable
from typing import Any, TypeVar
from uuid import UUID, uuid4

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.certificate_files import Certificate
from services.runtime.errors import DOMAIN, FieldViolation, Refusal, dependency_unavailable
from services.runtime.identity import current_call
from services.runtime.renewed_channel import RenewedChannel
from services.runtime.service_tokens import ServiceTokens
from services.runtime.settings import TransportSettings
from services.runtime.telemetry.traces import traces
from services.runtime.transport import certificate_files, channel_credentials, channel_options

Answer = TypeVar("Answer")
Detail = TypeVar("Detail", bound=Message)

TIMEOUT = 5.0
"""Seconds that a call to another service may take."""

_HEALTH_SECONDS = 2.0
# gRFC A6. A process that was restarted is found again within a second; until then a channel refuses
# calls without looking.
_CALLED_AGAIN = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_UNREACHABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def channel_to(service: str, address: str, settings: TransportSettings) -> aio.Channel:
    """A channel to another service, which reconnects quickly when that one was restarted.

    A name that stands for several processes has its calls spread over them; a call that reaches
    none of them is made again for a moment, which all calls between services bear. With
    certificates in the settings it speaks TLS, with the certificate that is there at the moment,
    and with nobody who has none of the service's name.

    Raises:
        OSError: a certificate cannot be read.
        ValueError: it is none, or the key is another's.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # By its name the least wait; to gRPC also how long connecting may take, TLS among it. Who
        # was refused tries again as soon as the other two say.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.service_config", _CALLED_AGAIN),
        ("grpc.keepalive_time_ms", 30_000),
    ]
    interceptors = traces.client_interceptors
    files = certificate_files(settings)
    if files is None:
        return aio.insecure_channel(address, options=options, interceptors=interceptors)
    options += channel_options(service)

    def open_channel(certificate: Certificate) -> aio.Channel:
        credentials = channel_credentials(certificate)
        return aio.secure_channel(address, credentials, options=options, interceptors=interceptors)

    return RenewedChannel(files, open_channel)


async def serves(channel: aio.Channel) -> bool:
    """Whether another service says that it serves, within a moment (grpc.health.v1)."""
    check: Any = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    try:
        answer: HealthCheckResponse = await check(HealthCheckRequest(), timeout=_HEALTH_SECONDS)
    except aio.AioRpcError:
        return False
    return answer.status == HealthCheckResponse.SERVING


def on_behalf_of_caller() -> aio.Metadata:
    """The metadata of a call that is made for the call that is being served.

    Raises:
        LookupError: no call is being served.
    """
    call = current_call.get()
    if call is None or call.token is None:
        raise LookupError("no verified caller to act for")
    return aio.Metadata(
        ("authorization", f"Bearer {call.token}"), ("x-request-id", call.request_id)
    )


def as_service(tokens: ServiceTokens, *, acting_for: UUID | None = None) -> aio.Metadata:
    """The metadata of a call that a service makes for itself, or for a person, unasked."""
    return aio.Metadata(
        ("authorization", f"Bearer {tokens.token(acting_for=acting_for)}"),
        ("x-request-id", str(uuid4())),
    )


async def answer_of(call: Awaitable[Answer]) -> Answer:
    """Another service's answer; its refusals are raised as if they were this service's.

    Raises:
        Refusal: the other service's, or DEPENDENCY_UNAVAILABLE when it does not answer.
    """
    try:
        return await call
    except aio.AioRpcError as error:
        raise refusal_of_peer(error) from None


def refusal_of_peer(error: aio.AioRpcError) -> Refusal:
    """What the caller is told when another service refuses, or does not answer."""
    status = _status_of(error)
    info = _detail(status, ErrorInfo)
    if error.code() in _UNREACHABLE or info is None or info.domain != DOMAIN:
        return dependency_unavailable()
    name = f"REASON_{info.reason}"
    if name not in Reason.keys():  # noqa: SIM118 - an enum
        return dependency_unavailable()
    retry = _detail(status, RetryInfo)
    broken = _detail(status, BadRequest) or BadRequest()
    return Refusal(
        error.code(),
        Reason.Value(name),
        error.details() or "",
        violations=[
            FieldViolation(violation.field, violation.description, violation.reason)
            for violation in broken.field_violations
        ],
        metadata=dict(info.metadata),
        retry_after=None if retry is None else retry.retry_delay.ToMilliseconds() / 1000,
    )


def _status_of(error: aio.AioRpcError) -> Status:
    """What a refusal says in full; nothing when it says no more than its code."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    try:
        return Status.FromString(details) if isinstance(details, bytes) else Status()
    except DecodeError:
        return Status()


def _detail(status: Status, kind: type[Detail]) -> Detail | None:
    """The first detail of a kind, if there is one."""
    found = kind()
    return next((found for detail in status.details if detail.Unpack(found)), None)
