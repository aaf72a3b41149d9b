"""The services behind the gateway: a cluster for each, and whether its processes are well."""

import ipaddress
from collections.abc import Sequence

from gateway.settings import GatewaySettings
from gateway.tls import tls_to_service

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_MANY = 50_000
STREAM_WINDOW_BYTES = 1 << 20
"""How much a service may send of a stream before its reader takes it."""


def cluster_of(addresses: Sequence[str]) -> str:
    """The name of the cluster of what answers at these addresses."""
    return ",".join(addresses)


def clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """The clusters, each healthy where the services that answer there say so."""
    services: dict[tuple[str, ...], str] = {}
    for service, addresses in settings.upstreams.items():
        services.setdefault(addresses, service)
    return [_cluster(settings, addresses, service) for addresses, service in services.items()]


def _cluster(
    settings: GatewaySettings, addresses: Sequence[str], service: str
) -> dict[str, object]:
    hosts = [address.rpartition(":")[0] for address in addresses]
    return {
        "name": cluster_of(addresses),
        # Metrics are named by it, and what is before a dot is not part of a name there.
        "alt_stat_name": service.rpartition(".")[2],
        "type": "STATIC" if all(map(_is_ip, hosts)) else "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": "2s",
        # Request by request, to whoever has fewer under way, watches among them.
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            # When none is well, all are tried; but never while one is.
            "healthy_panic_threshold": {"value": 1},
            # What is learned of a process is known to all threads at once. Envoy would gather it
            # for a second, in which calls go to one that died, and none to one that came back.
            "update_merge_window": "0s",
        },
        "load_assignment": {
            "cluster_name": cluster_of(addresses),
            "endpoints": [{"lb_endpoints": [_endpoint(address) for address in addresses]}],
        },
        "health_checks": [_health_check(service)],
        "outlier_detection": _outlier_detection(),
        **tls_to_service(settings, service),
        "circuit_breakers": {"thresholds": [_limits()]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        # What of a stream waits here while its reader is slow.
                        "initial_stream_window_size": STREAM_WINDOW_BYTES,
                        "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                    }
                },
            }
        },
    }


def _endpoint(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def _health_check(service: str) -> dict[str, object]:
    """Asks each process, so often that one which stops is left alone before it does.

    See the setting `lame_duck_seconds`: that it stops, a process says that long before.
    """
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_interval": "0.2s",
        "no_traffic_healthy_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": service},
    }


def _outlier_detection() -> dict[str, object]:
    """Leaves a process alone whose connections break, sooner than its health is asked for.

    By nothing that a process answers: one that tells of a database which is away is not better
    replaced by another.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 50,
    }


def _limits() -> dict[str, object]:
    """As many calls as come; but not much more of those that are tried again."""
    return {
        **dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _MANY),
        "retry_budget": {"budget_percent": {"value": 25}, "min_retry_concurrency": 20},
    }


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
