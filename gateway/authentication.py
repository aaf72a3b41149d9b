"""The check at the edge: no call reaches a service without a token that verifies.

It spares the services what does not verify anyhow; they check all of it again, and what Envoy
cannot (authorized parties, what kind of caller a method allows). Services' own tokens do not pass.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

import certifi
from inglenook.access.v1.access_pb2 import Access

from contract.methods import Method
from gateway.settings import GatewaySettings
from services.runtime.settings import TrustedIssuer

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_FETCH_TIMEOUT = "5s"


def token_filter(settings: GatewaySettings, methods: Iterable[Method]) -> dict[str, object]:
    """Envoy's jwt_authn: which tokens are good, and which methods need one."""
    issuers = _issuers_of_people(settings)
    names = [_name(index) for index in range(len(issuers))]
    any_issuer: dict[str, object] = (
        {"provider_name": names[0]}
        if len(names) == 1
        else {"requires_any": {"requirements": [{"provider_name": name} for name in names]}}
    )
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {
                name: _provider(name, issuer, settings.token_leeway)
                for name, issuer in zip(names, issuers, strict=True)
            },
            "rules": [
                {"match": {"path": method.path}, "requires": any_issuer}
                for method in methods
                if Access.ACCESS_PUBLIC not in method.allow
            ],
        },
    }


def key_set_clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """A cluster for each issuer whose keys are fetched from a URL."""
    return [
        _key_set_cluster(_name(index), issuer.jwks_url)
        for index, issuer in enumerate(_issuers_of_people(settings))
        if issuer.jwks_url is not None
    ]


def _issuers_of_people(settings: GatewaySettings) -> list[TrustedIssuer]:
    return [issuer for issuer in settings.trusted_issuers if issuer.kind == "user"]


def _name(index: int) -> str:
    return f"issuer-{index}"


def _provider(name: str, issuer: TrustedIssuer, leeway: float) -> dict[str, object]:
    provider: dict[str, object] = {
        "issuer": issuer.issuer,
        "forward": True,
        # Named, or a token in the query would do as well, and end up in logs.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "clock_skew_seconds": int(leeway) or 1,
    }
    if issuer.audiences:
        provider["audiences"] = list(issuer.audiences)
    if issuer.jwks_file is not None:
        folder = str(issuer.jwks_file.resolve().parent)
        provider["local_jwks"] = {
            "filename": str(issuer.jwks_file.resolve()),
            "watched_directory": {"path": folder},
        }
    else:
        provider["remote_jwks"] = {
            "http_uri": {"uri": issuer.jwks_url, "cluster": name, "timeout": _FETCH_TIMEOUT},
            "cache_duration": "300s",
            "async_fetch": {"fast_listener": True},
        }
    return provider


def _key_set_cluster(name: str, url: str) -> dict[str, object]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = str(parts.hostname)
    address = {"address": host, "port_value": parts.port or (443 if secure else 80)}
    cluster: dict[str, object] = {
        "name": name,
        "type": "STRICT_DNS",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}]}
            ],
        },
    }
    if secure:
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": {
                    "validation_context": {
                        "trusted_ca": {"filename": certifi.where()},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": host}}
                        ],
                    }
                },
            },
        }
    return cluster
