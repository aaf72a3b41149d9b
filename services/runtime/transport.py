"""TLS between the parts: each shows a certificate of its own name, and hears nobody without one.

A certificate that was renewed is shown to callers from then on. Of a service that calls others, it
is the one that was there at its start.
"""

import logging
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from services.runtime.settings import TransportSettings

_log = logging.getLogger(__name__)

_ALTERNATIVE_NAMES = "x509_subject_alternative_name"
"""What gRPC calls them that it found in a caller's certificate."""


def listen(server: aio.Server, address: str, settings: TransportSettings) -> None:
    """Has a server answer at an address: over TLS, if the settings name certificates.

    Raises:
        RuntimeError: the address cannot be listened on.
        OSError: a certificate cannot be read.
    """
    if settings.tls_ca_file is None:
        server.add_insecure_port(address)
        return
    shown = _Shown(settings)
    credentials = grpc.dynamic_ssl_server_credentials(
        shown.first,
        # The stubs do not know that None means: as before.
        shown.renewed,  # type: ignore[arg-type]
        require_client_authentication=True,
    )
    server.add_secure_port(address, credentials)


def channel_options(service: str) -> list[tuple[str, str]]:
    """What a channel needs to know a service by its certificate, whatever its address."""
    return [("grpc.ssl_target_name_override", service)]


def channel_credentials(settings: TransportSettings) -> grpc.ChannelCredentials | None:
    """By what others are called over TLS; None where the settings name no certificates.

    Raises:
        OSError: a certificate cannot be read.
    """
    if settings.tls_ca_file is None:
        return None
    certificate, key = _own(settings)
    return grpc.ssl_channel_credentials(
        settings.tls_ca_file.read_bytes(), key.read_bytes(), certificate.read_bytes()
    )


def names_shown(context: "aio.ServicerContext[Any, Any]") -> frozenset[str]:
    """The names in the certificate that the caller of a call showed; none in plaintext."""
    names = context.auth_context().get(_ALTERNATIVE_NAMES, ())
    return frozenset(name.decode(errors="replace") for name in names)


class _Shown:
    """The certificate that callers are shown, as its files are at the moment."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._seen = self._state()
        self.first = self._read()

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is shown from now on, if the files were changed; gRPC asks at each handshake."""
        try:
            state = self._state()
            if state == self._seen:
                return None
            read = self._read()
        except OSError:
            # Between two files that are put in the place of others: the next caller finds both.
            _log.warning("a certificate cannot be read; the last one stays", exc_info=True)
            return None
        self._seen = state
        return read

    def _state(self) -> tuple[object, ...]:
        files = (*_own(self._settings), self._settings.tls_ca_file)
        return tuple((f.stat().st_ino, f.stat().st_mtime_ns) for f in files if f is not None)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = _own(self._settings)
        authority = self._settings.tls_ca_file
        return grpc.ssl_server_certificate_configuration(
            [(key.read_bytes(), certificate.read_bytes())],
            None if authority is None else authority.read_bytes(),
        )


def _own(settings: TransportSettings) -> tuple[Path, Path]:
    """The files of a service's own certificate and its key, which the settings have both."""
    return settings.tls_certificate_file or Path(), settings.tls_key_file or Path()
