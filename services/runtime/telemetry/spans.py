"""Spans, by OpenTelemetry: of calls served and made, of round trips to the database, of batches.

Attributes have the names of OpenTelemetry's semantic conventions where there are any. How spans are
gathered and sent is for OpenTelemetry's own settings to say, as its specification lists them:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from typing import Any, cast

import grpc
from grpc import aio
from grpc_interceptor.server import AsyncServerInterceptor
from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.runtime.identity import current_call
from services.runtime.settings import TracingSettings

_NOTHING = nullcontext()
_W3C = TraceContextTextMapPropagator()
_STATUS = "rpc.response.status_code"
_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""The statuses that are a server's fault; for a client every refusal is one."""
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_INFRASTRUCTURE = ("/grpc.health.v1.Health/", "/grpc.reflection.")


class Spans:
    """Makes a process's spans and sends them."""

    def __init__(self, service: str, settings: TracingSettings) -> None:
        """Takes the name of the service, unless `OTEL_SERVICE_NAME` has another."""
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.share)),
            resource=Resource.create(named),
        )
        exporter = OTLPSpanExporter(endpoint=settings.endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("inglenook")
        self.server = _ServerSpans(self._tracer)
        self.client = _ClientSpans(self._tracer)

    def end(self) -> None:
        """Sends what was not sent yet."""
        self._provider.shutdown()

    def here(self) -> Span | None:
        """The span that this is part of, if it is taken."""
        span = get_current_span()
        return span if span.is_recording() else None

    def round_trip(self, statements: Callable[[], Iterable[str]]) -> AbstractContextManager[object]:
        """A span with the statements' names, as part of what is traced."""
        if self.here() is None:
            # What a process does unasked, again and again, is nobody's trace.
            return _NOTHING
        names = list(statements())
        summary = "; ".join(names)
        attributes: dict[str, str | int] = {
            "db.system.name": "postgresql",
            "db.query.summary": summary,
        }
        if len(names) > 1:
            attributes["db.operation.batch.size"] = len(names)
        return _current(
            self._tracer.start_span(summary, kind=SpanKind.CLIENT, attributes=attributes)
        )

    def work(self, name: str) -> AbstractContextManager[object]:
        """A span that is part of nothing."""
        return _current(self._tracer.start_span(name, context=Context()))

    def batch(
        self, name: str, callers: Callable[[], Iterable[Span | None]]
    ) -> AbstractContextManager[object]:
        """A span for several callers: part of the first one's, linked with the others'."""
        everyone = list(callers())
        traced = [caller for caller in everyone if caller is not None]
        if not traced:
            return _NOTHING
        first, *others = traced
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(first, Context()),
            links=[Link(other.get_span_context()) for other in others],
            attributes={"inglenook.batch.callers": len(everyone)},
        )
        for other in others:
            # Found from both ends.
            other.add_link(span.get_span_context())
        return _current(span)


class _ServerSpans(AsyncServerInterceptor):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept(
        self,
        method: Callable[[Any, Any], Any],
        request_or_iterator: Any,  # noqa: ANN401 - the base class's
        context: Any,  # noqa: ANN401 - the base class's
        method_name: str,
    ) -> Any:  # noqa: ANN401 - the base class's
        answer = method(request_or_iterator, context)
        if method_name.startswith(_INFRASTRUCTURE):
            return answer if hasattr(answer, "__aiter__") else await answer
        metadata = dict(context.invocation_metadata())
        span = self._tracer.start_span(
            _name(method_name),
            context=_W3C.extract(metadata, Context()),
            kind=SpanKind.SERVER,
            attributes=_described(method_name),
        )
        # For as long as the call's task lasts.
        attach(set_span_in_context(span))
        if hasattr(answer, "__aiter__"):
            return _until_the_end(answer, span, context)
        with _served(span, context):
            return await cast("Awaitable[Any]", answer)


async def _until_the_end(
    frames: AsyncGenerator[Any, None],
    span: Span,
    context: Any,  # noqa: ANN401 - gRPC's
) -> AsyncIterator[Any]:
    with _served(span, context):
        async with aclosing(frames):
            async for frame in frames:
                yield frame


class _ClientSpans(aio.UnaryUnaryClientInterceptor):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: aio.ClientCallDetails,
        request: Any,  # noqa: ANN401 - any method's
    ) -> Any:  # noqa: ANN401 - any method's
        method = client_call_details.method
        path = method.decode() if isinstance(method, bytes) else method
        span = self._tracer.start_span(
            _name(path), kind=SpanKind.CLIENT, attributes=_described(path)
        )
        with _current(span):
            carrier: dict[str, str] = {}
            _W3C.inject(carrier)
            details = aio.ClientCallDetails(
                method=method,
                timeout=client_call_details.timeout,
                metadata=aio.Metadata(*(client_call_details.metadata or ()), *carrier.items()),
                credentials=client_call_details.credentials,
                wait_for_ready=client_call_details.wait_for_ready,
            )
            call = await continuation(details, request)
            try:
                code = await call.code()
            except BaseException:
                # Whoever waits for this has left.
                call.cancel()
                raise
            _note_status(span, code, is_fault=code is not grpc.StatusCode.OK)
        return call


def _name(path: str) -> str:
    return path.removeprefix("/")


def _described(path: str) -> dict[str, str]:
    return {"rpc.system.name": "grpc", "rpc.method": _name(path)}


@contextmanager
def _served(span: Span, context: Any) -> Iterator[None]:  # noqa: ANN401 - gRPC's
    """Ends a call's span with the status that the call was answered with."""
    code = None
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED
        raise
    finally:
        call = current_call.get()
        if call is not None:
            span.set_attribute("inglenook.request_id", call.request_id)
        code = code or _BY_NUMBER.get(context.code() or 0, context.code())
        _note_status(span, code, is_fault=code in _FAULTS)
        span.end()


def _note_status(span: Span, code: grpc.StatusCode, *, is_fault: bool) -> None:
    span.set_attribute(_STATUS, code.name)
    if is_fault:
        span.set_status(Status(StatusCode.ERROR))


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    """Makes a span the one that everything in the block is part of, and ends it with the block."""
    try:
        # Not by OpenTelemetry itself, which would note the error's text.
        with use_span(
            span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        ):
            yield span
    except Exception as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        span.end()
