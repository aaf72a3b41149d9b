"""Envoy's own metrics, on a port that only operators reach: the one page that Prometheus reads."""

from gateway.admin import ADMIN_CLUSTER
from gateway.settings import GatewaySettings

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def metrics_listeners(settings: GatewaySettings) -> list[dict[str, object]]:
    """Where Prometheus finds them, at `/metrics` as it does those of the services."""
    if not settings.metrics_listen:
        return []
    host, _, port = settings.metrics_listen.rpartition(":")
    route = {
        "match": {"path": "/metrics"},
        "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": "/stats/prometheus"},
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
            # By default two gateways could listen here, and a scrape show either.
            "enable_reuse_port": False,
            "filter_chains": [{"filters": [manager]}],
        }
    ]
