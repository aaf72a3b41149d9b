"""TLS between the parts: each shows a certificate of its own name, and hears nobody without one.

A certificate that was renewed is shown to callers, and to those that are called, from then on.
"""

from typing import Any

import grpc
from grpc import aio

from services.runtime.certificate_files import Certificate, CertificateFiles
from services.runtime.settings import TransportSettings
from services.runtime.telemetry.certificates import show_end

_ALTERNATIVE_NAMES = "x509_subject_alternative_name"
"""What gRPC calls them that it found in a caller's certificate."""


def listen(server: aio.Server, address: str, settings: TransportSettings) -> None:
    """Has a server answer at an address: over TLS, if the settings name certificates.

    Raises:
        RuntimeError: the address cannot be listened on.
        OSError: a certificate cannot be read.
        ValueError: it is none, or the key is another's.
    """
    files = certificate_files(settings)
    if files is None:
        server.add_insecure_port(address)
        return

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """What is shown from now on, if it changed; gRPC asks at each handshake."""
        certificate = files.renewed()
        return None if certificate is None else _shown(certificate)

    credentials = grpc.dynamic_ssl_server_credentials(
        _shown(files.first),
        # The stubs do not know that None means: as before.
        renewed,  # type: ignore[arg-type]
        require_client_authentication=True,
    )
    server.add_secure_port(address, credentials)


def certificate_files(settings: TransportSettings) -> CertificateFiles | None:
    """The files of the certificate that the settings name; None where they name none.

    Raises:
        OSError: one cannot be read.
        ValueError: one holds something else, or the key is another's.
    """
    return None if settings.tls_ca_file is None else CertificateFiles(settings)


def channel_options(service: str) -> list[tuple[str, str]]:
    """What a channel needs to know a service by its certificate, whatever its address."""
    return [("grpc.ssl_target_name_override", service)]


def channel_credentials(certificate: Certificate) -> grpc.ChannelCredentials:
    """By what others are called over TLS with a certificate."""
    return grpc.ssl_channel_credentials(
        certificate.authority, certificate.key, certificate.certificate
    )


def names_shown(context: "aio.ServicerContext[Any, Any]") -> frozenset[str]:
    """The names in the certificate that the caller of a call showed; none in plaintext."""
    names = context.auth_context().get(_ALTERNATIVE_NAMES, ())
    return frozenset(name.decode(errors="replace") for name in names)


def _shown(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    show_end(certificate.not_after)
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.certificate)], certificate.authority
    )
