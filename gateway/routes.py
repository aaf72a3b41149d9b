"""Where calls go: by their exact path in gRPC, to the service that the contract names."""

from collections.abc import Iterable

from contract.methods import Method
from gateway.filters import (
    HEALTH_PATHS,
    Filters,
    of_grpc,
    of_grpc_web,
    of_health,
    of_json,
    unbuffered,
)
from gateway.settings import GatewaySettings
from gateway.upstreams import cluster_of
from services.runtime.patience import TRIES

_NOWHERE = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
"""A route to nowhere and not a direct response, which would answer preflights too."""
_UNARY_TIMEOUT = "30s"
_PREVIOUS_HOSTS = (
    "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
)


def call_routes(settings: GatewaySettings, methods: Iterable[Method]) -> list[dict[str, object]]:
    """The routes of each method: one for gRPC, one for gRPC-Web.

    A call in JSON comes by the route that leads nowhere, becomes gRPC, and goes by the former.
    """
    return [
        route
        for method in methods
        for route in (
            _route(method, settings, {"grpc": {}}, of_grpc()),
            _route(method, settings, {}, of_grpc_web(settings)),
        )
    ]


def health_routes() -> list[dict[str, object]]:
    """The routes of the questions after health, which a filter answers."""
    return [
        {"match": {"path": path}, "route": _NOWHERE, "typed_per_filter_config": of_health(path)}
        for path in HEALTH_PATHS
    ]


def nowhere(settings: GatewaySettings, match: dict[str, object]) -> dict[str, object]:
    """A route for what is no call, unless it is one in JSON."""
    return {"match": match, "route": _NOWHERE, "typed_per_filter_config": of_json(settings)}


def _route(
    method: Method, settings: GatewaySettings, match: dict[str, object], filters: Filters
) -> dict[str, object]:
    action: dict[str, object] = {"cluster": cluster_of(settings.upstreams[method.service])}
    if method.server_streaming or method.client_streaming:
        # A watch lasts as long as its watcher, an import as long as there is more of it. Neither is
        # tried again from here: what was asked would be kept for all that time, some 4 KiB of each
        # watch, and whoever watches goes on where it stood.
        action |= {"timeout": "0s", "idle_timeout": "0s"}
    else:
        action |= {"timeout": _UNARY_TIMEOUT, "retry_policy": _retries(method)}
    if method.client_streaming:
        filters = filters | unbuffered()
    return {
        "match": {"path": method.path, **match},
        "route": action,
        "typed_per_filter_config": filters,
    }


def _retries(method: Method) -> dict[str, object]:
    """What is tried again, at another process if there is one.

    A call that no process has begun always is. One that may have been done, only where the contract
    says that doing it twice is like doing it once: whether a request carries an id that makes it so
    is for its sender to know, who repeats it.
    """
    retried = "connect-failure,refused-stream"
    if method.idempotent:
        retried += ",reset,unavailable"
    return {
        "retry_on": retried,
        "num_retries": TRIES - 1,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": _PREVIOUS_HOSTS},
            }
        ],
        # A process that fails at once has the fewest requests, and is chosen three times of four.
        "host_selection_retry_max_attempts": 32,
    }
