"""Traces begin here: Envoy's own spans, sent by OTLP, and what it tells the services of them.

Nobody outside says whether a call is traced, or what its trace is: a stranger's `traceparent` is
not read. A span names the method, and neither the path with its ids nor who called from where.
"""

from urllib.parse import urlsplit

from gateway.tls import tls_to
from services.runtime.settings import TracingSettings

HEADERS_FROM_OUTSIDE = ("traceparent", "tracestate", "x-client-trace-id", "x-envoy-force-trace")
"""The headers in which strangers would tell of their own traces."""

_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_COLLECTOR = "collector"
_OF_PEOPLE = ("peer.address", "user_agent")


def tracing(settings: TracingSettings) -> dict[str, object]:
    """What the connection manager does about traces."""
    if not settings.endpoint:
        return {}
    return {
        "tracing": {
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "service_name": "gateway",
                    "grpc_service": {"envoy_grpc": {"cluster_name": _COLLECTOR}},
                },
            },
            "client_sampling": {"value": 0},
            "random_sampling": {"value": 100 * settings.share},
            # What Envoy would say of a person: the path with ids and tokens, where they called
            # from, and with which browser.
            "max_path_tag_length": 0,
            "custom_tags": [{"tag": tag, "literal": {"value": "-"}} for tag in _OF_PEOPLE],
        },
    }


def flushing(settings: TracingSettings) -> dict[str, object]:
    """How long Envoy gathers spans before it sends them."""
    if not settings.endpoint:
        return {}
    interval = {"tracing.opentelemetry.flush_interval_ms": settings.bsp_schedule_delay}
    return {"layered_runtime": {"layers": [{"name": "traces", "static_layer": interval}]}}


def collector_clusters(settings: TracingSettings) -> list[dict[str, object]]:
    """Where spans go."""
    if not settings.endpoint:
        return []
    parts = urlsplit(settings.endpoint)
    host = str(parts.hostname)
    address = {"address": host, "port_value": parts.port or 4317}
    endpoint = {"address": {"socket_address": address}}
    cluster: dict[str, object] = {
        "name": _COLLECTOR,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {
            "cluster_name": _COLLECTOR,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    if parts.scheme == "https":
        trusted = settings.exporter_otlp_certificate
        cluster["transport_socket"] = tls_to(host, trusted=trusted)
    return [cluster]
