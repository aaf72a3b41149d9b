"""The check at the edge: no call reaches a service without a token that verifies.

It spares the services what does not verify anyhow; they check all of it again, and what Envoy
cannot (authorized parties, what kind of caller a method allows). Services' own tokens do not pass.
"""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from inglenook.access.v1.access_pb2 import Access

from contract.methods import Method
from gateway.limits import ISSUER_HEADER, SUBJECT_HEADER
from gateway.settings import GatewaySettings
from gateway.tls import tls_to
from services.runtime.settings import TrustedIssuer

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_FETCH_TIMEOUT = "5s"
_KEPT_TOKENS = 1000
"""Verified tokens that each of Envoy's threads keeps, of each issuer: some KiB each."""


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
    """A cluster for each issuer, from which its keys are fetched."""
    return [
        _key_file_cluster(_name(index))
        if issuer.jwks_url is None
        else _key_set_cluster(_name(index), issuer.jwks_url)
        for index, issuer in enumerate(_issuers_of_people(settings))
    ]


def key_file_listeners(settings: GatewaySettings) -> list[dict[str, object]]:
    """A listener inside Envoy for each issuer whose keys are in a file.

    Envoy reads a local key set once. Served from here the file is watched, and its keys are fetched
    again and again like those of any issuer, so that a rotation needs no restart.
    """
    return [
        _key_file_listener(_name(index), issuer.jwks_file.resolve())
        for index, issuer in enumerate(_issuers_of_people(settings))
        if issuer.jwks_file is not None
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
        "claim_to_headers": [
            {"header_name": ISSUER_HEADER, "claim_name": "iss"},
            {"header_name": SUBJECT_HEADER, "claim_name": "sub"},
        ],
        # One that verified is not verified again until it expires, and all requests that carry it
        # share what it says: each would keep that for as long as it lasts, a watch for hours.
        "jwt_cache_config": {"jwt_cache_size": _KEPT_TOKENS},
    }
    if issuer.audiences:
        provider["audiences"] = list(issuer.audiences)
    provider["remote_jwks"] = _key_set(name, issuer)
    return provider


def _key_set(name: str, issuer: TrustedIssuer) -> dict[str, object]:
    if issuer.jwks_url is None:
        # By whoever needs it: a listener inside Envoy is not reached from where it fetches ahead.
        uri = {"uri": f"http://{name}/", "cluster": name, "timeout": _FETCH_TIMEOUT}
        return {"http_uri": uri, "cache_duration": "2s"}
    return {
        "http_uri": {"uri": issuer.jwks_url, "cluster": name, "timeout": _FETCH_TIMEOUT},
        "cache_duration": "300s",
        "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
    }


def _key_file_cluster(name: str) -> dict[str, object]:
    address = {"envoy_internal_address": {"server_listener_name": name}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def _key_file_listener(name: str, path: Path) -> dict[str, object]:
    body = {"filename": str(path), "watched_directory": {"path": str(path.parent)}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}
    http = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    return {
        "name": name,
        "internal_listener": {},
        "filter_chains": [{"filters": [manager]}],
    }


def _key_set_cluster(name: str, url: str) -> dict[str, object]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = str(parts.hostname)
    address = {"address": host, "port_value": parts.port or (443 if secure else 80)}
    cluster: dict[str, object] = {
        "name": name,
        "type": "STRICT_DNS",
        # By default IPv6 alone where a name has both, and many hosts have no way there.
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}]}
            ],
        },
    }
    if secure:
        cluster["transport_socket"] = tls_to(host)
    return cluster
