"""A collector of traces: takes spans over OTLP/gRPC, from whoever sends them, and keeps them."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Received:
    """A span, and the service that sent it."""

    service: str
    span: Span

    @property
    def attributes(self) -> dict[str, object]:
        return _attributes(self.span.attributes)

    @property
    def is_fault(self) -> bool:
        return self.span.status.code == Status.STATUS_CODE_ERROR

    def is_within(self, other: "Received") -> bool:
        """Whether it is the other's child."""
        same = self.span.trace_id == other.span.trace_id
        return same and self.span.parent_span_id == other.span.span_id


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """What was received so far."""

    def __init__(self, certificate: Path) -> None:
        self.certificate = certificate
        self.endpoint = ""
        self.raw: list[bytes] = []
        self.spans: list[Received] = []

    def Export(  # noqa: N802 - the protocol's name
        self,
        request: ExportTraceServiceRequest,
        context: grpc.ServicerContext,
    ) -> ExportTraceServiceResponse:
        self.raw.append(request.SerializeToString())
        for resource in request.resource_spans:
            service = str(_attributes(resource.resource.attributes)["service.name"])
            self.spans += [
                Received(service, span) for scope in resource.scope_spans for span in scope.spans
            ]
        return ExportTraceServiceResponse()

    def trace_of(self, request_id: str) -> list[Received]:
        """The spans of the trace that a call with this request id is part of."""
        traces = {
            received.span.trace_id
            for received in self.spans
            if request_id in received.attributes.values()
        }
        return [received for received in self.spans if received.span.trace_id in traces]


@contextmanager
def receiver_of_traces(folder: Path) -> Iterator[Receiver]:
    """One that runs, over TLS; its certificate, which nobody else trusts, is put into a folder."""
    key, certificate = _certificate_of("localhost")
    receiver = Receiver(folder / "collector.pem")
    receiver.certificate.write_bytes(certificate)
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        receiver, server
    )
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    receiver.endpoint = f"https://localhost:{server.add_secure_port('localhost:0', credentials)}"
    server.start()
    yield receiver
    server.stop(0).wait()


def _certificate_of(name: str) -> tuple[bytes, bytes]:
    """A key and a certificate for it, signed by itself, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def _attributes(attributes: Iterable[KeyValue]) -> dict[str, object]:
    return {
        attribute.key: getattr(
            attribute.value, attribute.value.WhichOneof("value") or "string_value"
        )
        for attribute in attributes
    }
