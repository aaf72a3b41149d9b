"""Starting and stopping a service: one gRPC server, guarded, with health and reflection."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from contract.methods import methods_of
from services.runtime.audit.calls import RecordedCalls
from services.runtime.audit.recorder import AccessRecorder
from services.runtime.database import Database
from services.runtime.interceptor import CallInterceptor, GuardedMethod
from services.runtime.locking import LockedNow
from services.runtime.readiness import tell_readiness
from services.runtime.settings import Environment, ServerSettings
from services.runtime.telemetry.exposition import exposed_metrics
from services.runtime.telemetry.traces import traces
from services.runtime.tokens import TokenVerifier
from services.runtime.transport import listen

_log = logging.getLogger(__name__)

_MEBIBYTE = 1 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MEBIBYTE),
    ("grpc.max_send_message_length", 4 * _MEBIBYTE),
    # A burst of thousands of watchers is normal after a restart; the defaults would reject it.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # A client that vanished without closing is noticed within a minute: gRPC waits for the answer
    # to a ping for as long as the last of these says, which is a minute by itself.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 20_000),
)

_LIVENESS = "liveness"
"""What health checks ask for that only want to know whether the process still answers."""

_HANDLER_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
}
"""How a handler is made, by whether requests and responses are streams."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """A service of the contract, and the object that has a method for each of its methods."""

    service: ServiceDescriptor
    handlers: object
    locked: LockedNow
    """The people for whom nothing is done, as they are at the moment."""
    recorder: AccessRecorder | None = None
    """Who records the calls that services make for people; without, no method is open to them."""
    on_stop: Callable[[], None] = lambda: None
    """Called when the end begins: ends the streams, which would not end by themselves."""


async def serve(
    settings: ServerSettings, implementation: Implementation, database: Database | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, says so by its health, then lets calls under way finish.

    By its health it also says when its database, if it has one, does not answer.

    Raises:
        ContractError: a method does not say who may call it, or its calls cannot be recorded.
        RuntimeError: an address cannot be listened on.
        OSError: a certificate cannot be read.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(exposed_metrics(settings.own_metrics_listen))
        client = await stack.enter_async_context(httpx.AsyncClient())
        verifier = TokenVerifier(settings.trusted_issuers, client, settings.token_leeway)
        guarded = list(_guarded_methods(implementation.service))
        recorded = RecordedCalls(implementation.recorder)
        server = aio.server(
            interceptors=[
                *traces.server_interceptors,
                CallInterceptor(
                    guarded,
                    verifier,
                    implementation.locked,
                    recorded,
                    is_certified=settings.tls_ca_file is not None,
                ),
            ],
            # Workers share a port; two servers by mistake would share its calls.
            options=[*_OPTIONS, ("grpc.so_reuseport", int(settings.worker_socket is not None))],
        )
        server.add_generic_rpc_handlers([_handlers(implementation)])
        names = [implementation.service.full_name]
        status = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        if settings.environment is Environment.DEVELOPMENT:
            visible = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(visible, server)
        listen(server, settings.listen, settings)
        await server.start()
        await _tell_health(status, ["", _LIVENESS, *names], serves=True)
        if database is not None:
            telling = asyncio.create_task(
                tell_readiness(
                    database, lambda is_: _tell_health(status, ["", *names], serves=is_)
                ),
                name="readiness",
            )
            stack.callback(telling.cancel)
        # All that the start has made stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        _log.info("serving", extra={"address": settings.listen})

        await _told_to_stop()
        _log.info("stopping", extra={"drain_seconds": settings.drain_seconds})
        await status.enter_graceful_shutdown()
        with suppress(TimeoutError):
            # Told a second time, it waits no longer for others to notice.
            async with asyncio.timeout(settings.lame_duck_seconds):
                await _told_to_stop()
        implementation.on_stop()
        await server.stop(settings.drain_seconds)


async def _tell_health(
    status: health.aio.HealthServicer, names: list[str], *, serves: bool
) -> None:
    """Answers whoever asks for the health of what has these names."""
    answer = health_pb2.HealthCheckResponse
    for name in names:
        await status.set(name, answer.SERVING if serves else answer.NOT_SERVING)


def _guarded_methods(service: ServiceDescriptor) -> Iterator[GuardedMethod]:
    for method in methods_of(service):
        descriptor: MethodDescriptor = service.methods_by_name[method.name]
        yield GuardedMethod(method, message_factory.GetMessageClass(descriptor.input_type))


def _handlers(implementation: Implementation) -> grpc.GenericRpcHandler:
    """The handlers of a service, which take requests as bytes: the interceptor parses them."""
    by_name = {
        method.name: _handler(method, getattr(implementation.handlers, method.name))
        for method in implementation.service.methods
    }
    return grpc.method_handlers_generic_handler(implementation.service.full_name, by_name)


def _handler(
    method: MethodDescriptor,
    handle: Any,  # noqa: ANN401 - each method's own
) -> "grpc.RpcMethodHandler[Any, Any]":
    make = _HANDLER_KINDS[method.client_streaming, method.server_streaming]
    return make(handle, request_deserializer=None, response_serializer=_serialized)


def _serialized(response: Message | bytes) -> bytes:
    """A response's bytes; a handler that serialised it once for many callers gives those."""
    return response if isinstance(response, bytes) else response.SerializeToString()


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()
