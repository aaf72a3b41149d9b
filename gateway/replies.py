"""What Envoy answers by itself, in the contract's one error shape (see `inglenook.errors.v1`).

To a gRPC caller an error is a status with its details in a trailer; to anyone else it is JSON.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from inglenook.errors.v1.errors_pb2 import Reason

from gateway.limits import LIMITED, seconds_to_wait
from gateway.settings import GatewaySettings
from services.runtime.errors import Refusal, dependency_unavailable, request_malformed
from services.runtime.tokens import token_expired, token_invalid, token_missing

_EXPRESSION_FILTER = (
    "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
)
# A call that was transcoded looks like gRPC from inside; the path it came with tells.
_IS_GRPC = (
    "('content-type' in request.headers"
    " && request.headers['content-type'].startsWith('application/grpc')"
    " && !('x-envoy-original-path' in request.headers))"
)
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What stands in a `grpc-message` as it is (gRPC's HTTP/2 mapping, "Percent-Encoded")."""
_NOT_ADMITTED = "response.code_details.startsWith('jwt_authn_access_denied')"
_NO_KEYS = "response.code_details.contains('Jwks_remote_fetch_is_failed')"
"""Envoy's own words: whether the token is good cannot be told, since its issuer does not answer."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """When it is given (CEL over Envoy's attributes), with which HTTP status, and what it says."""

    condition: str
    http_status: int
    refusal: Refusal
    retry_seconds: int = 0
    """When to try again, if it is known."""


def route_not_found() -> Refusal:
    """There is no such route or method."""
    return Refusal(
        grpc.StatusCode.UNIMPLEMENTED, Reason.REASON_ROUTE_NOT_FOUND, "There is no such route."
    )


def request_too_large() -> Refusal:
    """The request is larger than any of the contract."""
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.REASON_REQUEST_TOO_LARGE,
        "The request is too large.",
    )


def rate_limited(retry_seconds: int) -> Refusal:
    """More requests came from the person, or the address, than may come in a minute."""
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.REASON_RATE_LIMITED,
        "Too many requests came from you or from your address. Try again after the delay given.",
        retry_after=retry_seconds,
    )


_REPLIES = (
    _Reply(f"{_NOT_ADMITTED} && {_NO_KEYS}", 503, dependency_unavailable()),
    _Reply(f"{_NOT_ADMITTED} && response.code_details.contains('missing')", 401, token_missing()),
    _Reply(f"{_NOT_ADMITTED} && response.code_details.contains('expired')", 401, token_expired()),
    _Reply(_NOT_ADMITTED, 401, token_invalid()),
    _Reply("response.code == 413", 413, request_too_large()),
    _Reply("response.code == 404", 404, route_not_found()),
    _Reply("response.code >= 400 && response.code < 500", 400, request_malformed()),
    _Reply("response.code >= 500", 503, dependency_unavailable()),
)


def local_replies(settings: GatewaySettings) -> dict[str, object]:
    """Envoy's LocalReplyConfig: for each reply, how it reads over gRPC and as JSON."""
    seconds = seconds_to_wait(settings)
    limited = _Reply(
        f"response.code_details == '{LIMITED}'", 429, rate_limited(seconds), retry_seconds=seconds
    )
    return {
        "mappers": [
            mapper
            for reply in (limited, *_REPLIES)
            for mapper in (_over_grpc(reply), _as_json(reply))
        ]
    }


def _over_grpc(reply: _Reply) -> Mapping[str, object]:
    details = base64.b64encode(reply.refusal.status().SerializeToString()).decode().rstrip("=")
    return {
        "filter": _when(f"({reply.condition}) && {_IS_GRPC}"),
        # Nothing but headers: gRPC-Web would make a status of its own for what has a body.
        "status_code": 200,
        "body_format_override": {
            "text_format_source": {"inline_string": ""},
            "content_type": "application/grpc",
        },
        "headers_to_add": [
            _header("grpc-message", quote(reply.refusal.message, safe=_PLAIN)),
            _header("grpc-status", str(reply.refusal.code.value[0])),
            _header("grpc-status-details-bin", details),
        ],
    }


def _as_json(reply: _Reply) -> Mapping[str, object]:
    body = json_format.MessageToJson(reply.refusal.status(), indent=None)
    return {
        "filter": _when(reply.condition),
        "status_code": reply.http_status,
        "body": {"inline_string": body},
        "headers_to_add": (
            [_header("retry-after", str(reply.retry_seconds))] if reply.retry_seconds else []
        ),
        "body_format_override": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": "application/json",
        },
    }


def _when(expression: str) -> dict[str, object]:
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": _EXPRESSION_FILTER, "expression": expression},
        }
    }


def _header(key: str, value: str) -> dict[str, object]:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
