"""Where calls go: a route for each method that people may call, a cluster for each address."""

import ipaddress
from collections.abc import Iterable

from contract.methods import Method
from gateway.settings import GatewaySettings
from gateway.web import web_routes

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_UNARY_TIMEOUT = "30s"
_MANY = 50_000


def routes(settings: GatewaySettings, methods: Iterable[Method]) -> list[dict[str, object]]:
    """A route for each method, by its exact path in gRPC, and one that says there is no other.

    The web app has what the methods leave.
    """
    return [
        *(_route(method, settings.upstreams[method.service]) for method in methods),
        *web_routes(settings),
        # A route to nowhere and not a direct response, which would answer preflights too.
        {
            "match": {"prefix": "/"},
            "route": {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"},
        },
    ]


def clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """A cluster for each address, healthy when the services that answer there say so."""
    services: dict[str, str] = {}
    for service, address in settings.upstreams.items():
        services.setdefault(address, service)
    return [_cluster(address, service) for address, service in services.items()]


def _route(method: Method, address: str) -> dict[str, object]:
    action: dict[str, object] = {"cluster": address}
    retried = "connect-failure,refused-stream"
    if method.server_streaming or method.client_streaming:
        # A watch lasts as long as its watcher, an import as long as there is more of it.
        action |= {"timeout": "0s", "idle_timeout": "0s"}
    else:
        action["timeout"] = _UNARY_TIMEOUT
        if method.no_side_effects:
            retried += ",unavailable"
    action["retry_policy"] = {"retry_on": retried, "num_retries": 2}
    route: dict[str, object] = {"match": {"path": method.path}, "route": action}
    if method.client_streaming:
        # A stream of requests has no size; each of its messages has the service's limit.
        unbuffered = {"@type": f"{_EXTENSIONS}.filters.http.buffer.v3.BufferPerRoute"}
        route["typed_per_filter_config"] = {
            "envoy.filters.http.buffer": {**unbuffered, "disabled": True}
        }
    return route


def _cluster(address: str, service: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    limits = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), _MANY
    )
    return {
        "name": address,
        "type": "STATIC" if _is_ip(host) else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": address,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "2s",
                "no_traffic_interval": "2s",
                "unhealthy_interval": "0.2s",
                "no_traffic_healthy_interval": "2s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": service},
            }
        ],
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "connection_keepalive": {"interval": "30s", "timeout": "10s"}
                    }
                },
            }
        },
    }


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
