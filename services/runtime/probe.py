"""`python -m services.runtime.probe HOST:PORT [NAME]`: whether a service is ready, as an exit code.

With the name `liveness`: whether it answers at all, ready or not. For health checks of containers:
it asks the standard health service (grpc.health.v1). It runs with the settings of the service that
it asks, and speaks TLS as that one does.
"""

import sys
from typing import Any

import grpc
from cryptography import x509
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from services.runtime.settings import TransportSettings, load
from services.runtime.transport import certificate_files, channel_credentials, channel_options

_SECONDS = 3.0
_ARGUMENTS = (2, 3)


def is_serving(address: str, settings: TransportSettings | None = None, *, name: str = "") -> bool:
    """Whether whatever answers at an address says that it serves.

    Raises:
        OSError: a certificate of the settings cannot be read.
        ValueError: it is none, or the key is another's.
    """
    with _channel_to(address, settings or TransportSettings()) as channel:
        try:
            call: Any = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer: HealthCheckResponse = call(HealthCheckRequest(service=name), timeout=_SECONDS)
        except grpc.RpcError:
            return False
    return answer.status == HealthCheckResponse.SERVING


def _channel_to(address: str, settings: TransportSettings) -> grpc.Channel:
    files = certificate_files(settings)
    if files is None:
        return grpc.insecure_channel(address)
    certificate = x509.load_pem_x509_certificate(files.first.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (own, *_) = names.get_values_for_type(x509.DNSName)
    credentials = channel_credentials(files.first)
    return grpc.secure_channel(address, credentials, options=channel_options(own))


if __name__ == "__main__":
    if len(sys.argv) not in _ARGUMENTS:
        sys.exit(__doc__)
    asked, name = (*sys.argv[1:], "")[:2]
    serves = is_serving(asked, load(TransportSettings), name=name)
    sys.exit(0 if serves else f"{asked} does not serve")
