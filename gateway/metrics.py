"""Envoy's own metrics, on a port that only operators reach.

Its admin interface could also stop it and show its configuration, so it answers on a socket of this
user's alone, and the port leads to the one page that Prometheus reads.
"""

from pathlib import Path

from gateway.settings import GatewaySettings

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_ADMIN = "admin"
_OWNER_ALONE = 0o600


def admin(settings: GatewaySettings) -> dict[str, object]:
    """Envoy's admin interface, if metrics shall be shown."""
    if not settings.metrics_listen:
        return {}
    return {"admin": {"address": _pipe(settings, mode=_OWNER_ALONE)}}


def metrics_clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """Where the metrics come from."""
    if not settings.metrics_listen:
        return []
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _pipe(settings)}}]}]
    return [
        {
            "name": _ADMIN,
            "type": "STATIC",
            "load_assignment": {"cluster_name": _ADMIN, "endpoints": endpoints},
        }
    ]


def metrics_listeners(settings: GatewaySettings) -> list[dict[str, object]]:
    """Where Prometheus finds them, at `/metrics` as it does those of the services."""
    if not settings.metrics_listen:
        return []
    host, _, port = settings.metrics_listen.rpartition(":")
    route = {
        "match": {"path": "/metrics"},
        "route": {"cluster": _ADMIN, "prefix_rewrite": "/stats/prometheus"},
    }
    http = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "metrics",
        "route_config": {
            "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": http}
    return [
        {
            "name": "metrics",
            "address": {"socket_address": {"address": host, "port_value": int(port)}},
            "filter_chains": [{"filters": [manager]}],
        }
    ]


def _pipe(settings: GatewaySettings, **more: int) -> dict[str, object]:
    path: Path = settings.bootstrap_file.resolve().with_name("envoy-admin.sock")
    return {"pipe": {"path": str(path), **more}}
