"""What a request passes on its way, and which of it each kind of request passes.

A filter's state lives as long as its request, and a watch lives for hours: a request passes what
its kind needs and nothing else. The route says which, the one that the request matches as it comes:
JSON becomes gRPC on its way, and until then matches the route to nowhere.
"""

from collections.abc import Iterable

from contract.methods import Method
from gateway.authentication import token_filter
from gateway.limits import limits_by_address, limits_by_person
from gateway.settings import GatewaySettings
from gateway.upstreams import STREAM_WINDOW_BYTES, cluster_of

HEADERS = "envoy.filters.http.header_mutation"
"""The filter that gives answers their headers, to which a route may add its own."""
HEALTH_PATHS = ("/healthz", "/readyz")
"""Where the gateway answers whether it is alive, and whether every service behind it is."""

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_GZIP = "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"
_FILTER_CONFIG = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
_ON = {"@type": _FILTER_CONFIG, "config": {}}
_OFF = {"@type": _FILTER_CONFIG, "disabled": True}
_COMPRESSION = "envoy.filters.http.compressor"
_CORS = "envoy.filters.http.cors"
_GRPC_WEB = "envoy.filters.http.grpc_web"
_TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
_BUFFER = "envoy.filters.http.buffer"
# A window of a stream, beside the largest message that is not whole yet.
_MAX_JSON_WAITING = 8 * STREAM_WINDOW_BYTES
_REQUEST_HEADERS = (
    "authorization,content-type,x-grpc-web,x-user-agent,grpc-timeout,connect-protocol-version"
)
_RESPONSE_HEADERS = "grpc-status,grpc-message,grpc-status-details-bin,x-request-id"
_TEXT = ("text/html", "text/css", "text/javascript", "image/svg+xml")
_SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}

Filters = dict[str, object]
"""What a route says of filters, by their names: Envoy's `typed_per_filter_config`."""


def of_grpc() -> Filters:
    """What a call over gRPC passes: no browser makes one, so nothing that is there for browsers."""
    return {HEADERS: _OFF}


def of_grpc_web(settings: GatewaySettings) -> Filters:
    """What a call over gRPC-Web passes, or the question of a browser whether it may call."""
    return {_GRPC_WEB: _ON, _CORS: _cors(settings)}


def of_json(settings: GatewaySettings) -> Filters:
    """What a request passes that is a call in JSON, or that leads nowhere."""
    return {_TRANSCODER: _ON, _CORS: _cors(settings)}


def of_files() -> Filters:
    """What a request for a file of the web app passes."""
    return {_COMPRESSION: _ON}


def of_health(path: str) -> Filters:
    """What a question after health passes, at one of `HEALTH_PATHS`."""
    return {path: _ON}


def unbuffered() -> Filters:
    """For a stream of requests, which has no size; each of its messages has the service's limit."""
    return {_BUFFER: {"@type": f"{_HTTP}.buffer.v3.BufferPerRoute", "disabled": True}}


def http_filters(settings: GatewaySettings, served: list[Method]) -> list[dict[str, object]]:
    """All that requests pass, in this order.

    The token is looked at after transcoding: by then every call is a gRPC call, so that one rule
    for each method does for REST too, and a refusal takes the one way back.
    """
    # One process of a service is enough.
    ready = {cluster_of(addresses): {"value": 1.0} for addresses in settings.upstreams.values()}
    return [
        # On for all that does not say otherwise: what no route matches has these headers too.
        _filter(
            HEADERS, "header_mutation.v3.HeaderMutation", mutations=_security_headers(settings)
        ),
        _where_asked_for(_compression()),
        _where_asked_for(_health("/healthz")),
        _where_asked_for(_health("/readyz", cluster_min_healthy_percentages=ready)),
        _where_asked_for(_filter(_CORS, "cors.v3.Cors")),
        _where_asked_for(_filter(_GRPC_WEB, "grpc_web.v3.GrpcWeb")),
        *limits_by_address(settings),
        _where_asked_for(_transcoder(settings, served)),
        token_filter(settings, served),
        *limits_by_person(settings),
        _filter(_BUFFER, "buffer.v3.Buffer", max_request_bytes=settings.max_request_bytes),
        _filter("envoy.filters.http.router", "router.v3.Router", suppress_envoy_headers=True),
    ]


def _where_asked_for(http_filter: dict[str, object]) -> dict[str, object]:
    return {**http_filter, "disabled": True}


def _compression() -> dict[str, object]:
    """Makes the app's text smaller on its way; never an answer to a call, which holds secrets."""
    return _filter(
        _COMPRESSION,
        "compressor.v3.Compressor",
        response_direction_config={
            "common_config": {"content_type": list(_TEXT), "min_content_length": 1024}
        },
        compressor_library={"name": "gzip", "typed_config": {"@type": _GZIP}},
    )


def _transcoder(settings: GatewaySettings, served: Iterable[Method]) -> dict[str, object]:
    return _filter(
        _TRANSCODER,
        "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(settings.descriptors.resolve()),
        services=sorted({method.service for method in served}),
        convert_grpc_status=True,
        # What its window lets through of a stream may come at once after its reader was slow. Past
        # this the stream is broken off, and the default is what a connection may have waiting.
        max_response_body_size=_MAX_JSON_WAITING,
        print_options={
            # An empty list or title is an answer: someone without generated types sees it.
            "always_print_primitive_fields": True,
            "stream_newline_delimited": True,
        },
        request_validation_options={
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    )


def _health(path: str, **conditions: object) -> dict[str, object]:
    """Named by its path: there are two, and routes ask for a filter by its name."""
    return _filter(
        path,
        "health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": path}}],
        **conditions,
    )


def _security_headers(settings: GatewaySettings) -> dict[str, object]:
    headers = dict(_SECURITY_HEADERS)
    if settings.tls_certificate_file is not None:
        headers["strict-transport-security"] = "max-age=31536000"
    return {
        "response_mutations": [
            {
                "append": {
                    "header": {"key": key, "value": value},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            }
            for key, value in headers.items()
        ]
    }


def _cors(settings: GatewaySettings) -> dict[str, object]:
    return {
        "@type": f"{_HTTP}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in settings.cors_origins],
        "allow_methods": "GET,POST,PUT,PATCH,DELETE",
        "allow_headers": _REQUEST_HEADERS,
        "expose_headers": _RESPONSE_HEADERS,
        "max_age": "3600",
    }


def _filter(name: str, kind: str, **config: object) -> dict[str, object]:
    return {"name": name, "typed_config": {"@type": f"{_HTTP}.{kind}", **config}}
