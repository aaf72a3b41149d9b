"""Connections to others over TLS: only to whom their certificate names."""

from pathlib import Path

import certifi

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def tls_to(host: str, *, trusted: Path | None = None) -> dict[str, object]:
    """A cluster's transport socket.

    `trusted` is a file of certificates; default: the public ones.
    """
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": str(trusted or certifi.where())},
                    "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": host}}
                    ],
                }
            },
        },
    }
