"""TLS: of callers to the gateway, of the gateway to services, and to others.

Certificates that are renewed are read anew from their files, which Envoy does for those that it is
given by a file of its own (its "secret discovery"): they are written beside its configuration.
"""

import json
from pathlib import Path

import certifi

from gateway.settings import GatewaySettings

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_OLDEST = "TLSv1_2"
_NEWEST = "TLSv1_3"
_TO_CALLERS = "certificate-to-callers"
_TO_SERVICES = "certificate-to-services"


def tls_of_callers(settings: GatewaySettings) -> dict[str, object]:
    """How the public port speaks TLS, if it does."""
    if settings.tls_certificate_file is None:
        return {}
    return {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TLS}.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": _OLDEST},
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificate_sds_secret_configs": [_secret(settings, _TO_CALLERS)],
                },
            },
        }
    }


def tls_to_service(settings: GatewaySettings, service: str) -> dict[str, object]:
    """How a cluster speaks TLS to a service, if it does; `service` is its full name in the protos.

    Whatever the address, the certificate must be of the service's own name: none of the others can
    pass for it.
    """
    if settings.upstream_ca_file is None:
        return {}
    _, name, *_ = service.split(".")
    # gRPC's own servers let go of a connection for which HTTP/2 was not agreed on (RFC 7301).
    socket = _tls_to(name, settings.upstream_ca_file) | {"alpn_protocols": ["h2"]}
    if settings.upstream_certificate_file is not None:
        socket["tls_certificate_sds_secret_configs"] = [_secret(settings, _TO_SERVICES)]
    return {"transport_socket": _upstream(name, socket)}


def tls_to(host: str, *, trusted: Path | None = None) -> dict[str, object]:
    """A cluster's transport socket.

    `trusted` is a file of certificates; default: the public ones.
    """
    return _upstream(host, _tls_to(host, trusted or Path(certifi.where())))


def write_certificates(settings: GatewaySettings) -> None:
    """Writes where Envoy finds certificates and their keys, and nothing of these themselves."""
    for name, certificate, key in (
        (_TO_CALLERS, settings.tls_certificate_file, settings.tls_key_file),
        (_TO_SERVICES, settings.upstream_certificate_file, settings.upstream_key_file),
    ):
        if certificate is None or key is None:
            continue
        secret = {
            "@type": f"{_TLS}.Secret",
            "name": name,
            "tls_certificate": {
                "certificate_chain": {"filename": str(certificate.absolute())},
                "private_key": {"filename": str(key.absolute())},
                # The certificate is renamed last, or its folder: then the key is there as well.
                "watched_directory": {"path": str(certificate.absolute().parent)},
            },
        }
        _file(settings, name).write_text(json.dumps({"resources": [secret]}))


def _tls_to(host: str, trusted: Path) -> dict[str, object]:
    return {
        # As a client, Envoy offers nothing newer than 1.2 unless it is told to.
        "tls_params": {
            "tls_minimum_protocol_version": _OLDEST,
            "tls_maximum_protocol_version": _NEWEST,
        },
        "validation_context": {
            "trusted_ca": {"filename": str(trusted)},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
        },
    }


def _upstream(host: str, common: dict[str, object]) -> dict[str, object]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TLS}.UpstreamTlsContext",
            "sni": host,
            "common_tls_context": common,
        },
    }


def _secret(settings: GatewaySettings, name: str) -> dict[str, object]:
    source = {"path_config_source": {"path": str(_file(settings, name))}}
    return {"name": name, "sds_config": {**source, "resource_api_version": "V3"}}


def _file(settings: GatewaySettings, name: str) -> Path:
    return settings.bootstrap_file.resolve().with_name(f"{name}.json")
