"""Envoy's configuration (a bootstrap), from the compiled contract and the settings.

Nothing here knows a method: what the contract gives a route and opens to people is served, as
REST+JSON, gRPC-Web and gRPC, once its service has an upstream. Everything else does not exist.

One thing Envoy's transcoder (1.40) cannot be made to do: refuse a field in a JSON body that the
request message does not have. It leaves such a field out; unknown query parameters are refused.
"""

from collections.abc import Iterable

from contract.methods import Method
from gateway.admin import admin, admin_clusters
from gateway.authentication import key_file_listeners, key_set_clusters
from gateway.filters import http_filters
from gateway.limits import ISSUER_HEADER, SUBJECT_HEADER
from gateway.metrics import metrics_listeners
from gateway.reference import largest_reference_file, reference_routes
from gateway.replies import local_replies
from gateway.routes import call_routes, health_routes, nowhere
from gateway.settings import GatewaySettings
from gateway.tls import tls_of_callers
from gateway.tracing import HEADERS_FROM_OUTSIDE, collector_clusters, flushing, tracing
from gateway.upstreams import clusters
from gateway.web import largest_file, web_clusters, web_routes
from services.runtime.settings import TracingSettings

_NETWORK = "type.googleapis.com/envoy.extensions.filters.network"
_BOOTSTRAP = "type.googleapis.com/envoy.extensions.bootstrap"
_EARLY = "type.googleapis.com/envoy.extensions.http.early_header_mutation"
_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers"
_OURS = (ISSUER_HEADER, SUBJECT_HEADER)
"""Headers that mean something within the gateway, and nothing when they come from outside."""
_LOG_LINE = {
    "time": "%START_TIME%",
    "service": "gateway",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "verb": "%REQ(:METHOD)%",
    # Without the query: nothing of a request but its route and ids is written.
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "code": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "details": "%RESPONSE_CODE_DETAILS%",
}


def bootstrap(
    settings: GatewaySettings, traces: TracingSettings, methods: Iterable[Method]
) -> dict[str, object]:
    """Envoy's bootstrap, ready to be written as JSON."""
    served = [m for m in methods if m.public_facing and m.service in settings.upstreams]
    host, _, port = settings.listen.rpartition(":")
    return {
        "node": {"id": "gateway", "cluster": "inglenook"},
        "admin": admin(settings),
        **flushing(traces),
        "application_log_config": {
            "log_format": {
                "json_format": {
                    "time": "%Y-%m-%dT%T.%e",
                    "severity": "%l",
                    "service": "gateway",
                    "logger": "%n",
                    "message": "%j",
                }
            }
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": f"{_BOOTSTRAP}.internal_listener.v3.InternalListener"},
            }
        ],
        "static_resources": {
            "listeners": [
                {
                    "name": "public",
                    "address": {"socket_address": {"address": host, "port_value": int(port)}},
                    "per_connection_buffer_limit_bytes": settings.max_request_bytes,
                    # Two gateways by mistake would share its calls.
                    "enable_reuse_port": False,
                    "traffic_direction": "INBOUND",
                    "filter_chains": [
                        {
                            "filters": [_http(settings, traces, served)],
                            **tls_of_callers(settings),
                        }
                    ],
                },
                *key_file_listeners(settings),
                *metrics_listeners(settings),
            ],
            "clusters": [
                *clusters(settings),
                *key_set_clusters(settings),
                *web_clusters(settings),
                *admin_clusters(settings),
                *collector_clusters(traces),
            ],
        },
    }


def _http(
    settings: GatewaySettings, traces: TracingSettings, served: list[Method]
) -> dict[str, object]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "public",
            "codec_type": "AUTO",
            "use_remote_address": True,
            "xff_num_trusted_hops": settings.trusted_proxies,
            "server_header_transformation": "PASS_THROUGH",
            # A request id from outside could be anyone's: every request gets a fresh one.
            "generate_request_id": True,
            "preserve_external_request_id": False,
            "always_set_request_id_in_response": True,
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "stream_idle_timeout": "60s",
            "request_headers_timeout": "10s",
            "drain_timeout": "5s",
            "common_http_protocol_options": {
                "idle_timeout": "3600s",
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            "http2_protocol_options": {
                "max_concurrent_streams": 1000,
                "connection_keepalive": {"interval": "30s", "timeout": "20s"},
            },
            "early_header_mutation_extensions": [_forgetting(*_OURS, *HEADERS_FROM_OUTSIDE)],
            "local_reply_config": local_replies(settings),
            **tracing(traces),
            "access_log": [
                {
                    "name": "envoy.access_loggers.stdout",
                    "typed_config": {
                        "@type": f"{_LOGGERS}.stream.v3.StdoutAccessLog",
                        "log_format": {"json_format": _LOG_LINE},
                    },
                }
            ],
            "route_config": {
                "name": "public",
                "validate_clusters": False,
                "max_direct_response_body_size_bytes": max(
                    4096, largest_file(settings), largest_reference_file()
                ),
                "virtual_hosts": [
                    {
                        "name": "public",
                        "domains": ["*"],
                        "request_headers_to_remove": list(_OURS),
                        "routes": [
                            *call_routes(settings, served),
                            *health_routes(),
                            # The web app has what the methods leave.
                            *reference_routes(),
                            *web_routes(settings),
                            nowhere(settings, {"prefix": "/"}),
                        ],
                    }
                ],
            },
            "http_filters": http_filters(settings, served),
        },
    }


def _forgetting(*headers: str) -> dict[str, object]:
    """Takes headers from a request before anything looks at it."""
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{_EARLY}.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": name} for name in headers],
        },
    }
