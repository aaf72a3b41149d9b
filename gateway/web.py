"""The web app's files, at paths that no method of the contract has.

Each file is a route of its own, read when the gateway starts: a path leads to a file of the app or
to nothing, and the files that belong together are served together until the next start.
"""

import base64
import binascii
import json
import mimetypes
from pathlib import Path

from gateway.filters import HEADERS, of_files
from gateway.routes import nowhere
from gateway.settings import GatewaySettings

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_SIGN_IN = "development-sign-in"
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


def web_routes(settings: GatewaySettings) -> list[dict[str, object]]:
    """A route for each file, and one to the app's only page for each address that it may show."""
    folder = settings.web_folder
    if folder is None:
        return []
    headers = _page_headers(settings)
    page = _Served(folder / "index.html", "text/html; charset=utf-8", _ASK_AGAIN)
    assets = [
        _Served(path, _type_of(path), _FOR_EVER)
        for path in sorted((folder / "assets").iterdir())
        if path.is_file()
    ]
    configuration = _answer(
        {"path": "/configuration.json"},
        {"inline_string": json.dumps(_configuration(settings))},
        "application/json",
        {**headers, "cache-control": _ASK_AGAIN},
    )
    return [
        *(asset.at({"path": f"/assets/{asset.path.name}"}, headers) for asset in assets),
        configuration,
        *_sign_in_route(settings),
        page.at({"path": "/"}, headers),
        # What a browser asks for as a page, and is no call, is an address that the app shows.
        *(
            nowhere(settings, {"path_separated_prefix": prefix})
            for prefix in ("/v1", "/assets", "/development")
        ),
        page.at({"prefix": "/", "headers": [_header("accept", "contains", "text/html")]}, headers),
    ]


def largest_file(settings: GatewaySettings) -> int:
    """The size in bytes of the largest file that is served."""
    folder = settings.web_folder
    files = [] if folder is None else [folder / "index.html", *(folder / "assets").iterdir()]
    return max((path.stat().st_size for path in files), default=0)


def web_clusters(settings: GatewaySettings) -> list[dict[str, object]]:
    """The development sign-in's address, where it is on."""
    if settings.development_sign_in is None:
        return []
    host, _, port = settings.development_sign_in.rpartition(":")
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    return [
        {
            "name": _SIGN_IN,
            "type": "STATIC",
            "connect_timeout": "2s",
            "load_assignment": {
                "cluster_name": _SIGN_IN,
                "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
            },
        }
    ]


class _Served:
    """A file, its type, and for how long it may be kept."""

    def __init__(self, path: Path, content_type: str, caching: str) -> None:
        self.path = path
        self._content_type = content_type
        self._caching = caching

    def at(self, match: dict[str, object], headers: dict[str, str]) -> dict[str, object]:
        """A route to it."""
        body = {"filename": str(self.path.resolve())}
        return _answer(match, body, self._content_type, {**headers, "cache-control": self._caching})


def _answer(
    match: dict[str, object], body: dict[str, str], content_type: str, headers: dict[str, str]
) -> dict[str, object]:
    reading = _header(":method", "safe_regex", {"regex": "GET|HEAD"})
    others = match.get("headers")
    conditions = [reading, *(others if isinstance(others, list) else [])]
    return {
        "match": {**match, "headers": conditions},
        "direct_response": {"status": 200, "body": body},
        # Before the filters, since compression asks for it.
        "response_headers_to_add": [_overwriting("content-type", content_type)],
        "typed_per_filter_config": {
            **of_files(),
            HEADERS: {
                "@type": f"{_HTTP}.header_mutation.v3.HeaderMutationPerRoute",
                "mutations": {
                    "response_mutations": [
                        {"append": _overwriting(key, value)} for key, value in headers.items()
                    ]
                },
            },
        },
    }


def _overwriting(key: str, value: str) -> dict[str, object]:
    header = {"key": key, "value": value}
    return {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _header(name: str, how: str, what: object) -> dict[str, object]:
    return {"name": name, "string_match": {how: what}}


def _page_headers(settings: GatewaySettings) -> dict[str, str]:
    """What the app's pages may do: run its own files and call this gateway, nothing else."""
    clerk = _clerk_origin(settings.clerk_publishable_key)
    also = f" {clerk}" if clerk else ""
    policy = (
        "default-src 'none'",
        f"script-src 'self'{also}",
        "style-src 'self'",
        f"connect-src 'self'{also}",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Clerk's script keeps its time in a worker of its own making.
        *(
            ("worker-src blob:",)
            if clerk
            else ("require-trusted-types-for 'script'", "trusted-types 'none'")
        ),
    )
    return {
        "content-security-policy": "; ".join(policy),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }


def _configuration(settings: GatewaySettings) -> dict[str, object]:
    """What the app is told: which services answer behind this gateway, and how people sign in."""
    return {"services": sorted(settings.upstreams), **_way_of_signing_in(settings)}


def _way_of_signing_in(settings: GatewaySettings) -> dict[str, str]:
    if settings.development_sign_in is not None:
        return {"signIn": "development", "person": settings.development_person}
    if settings.clerk_publishable_key:
        return {
            "signIn": "clerk",
            "publishableKey": settings.clerk_publishable_key,
            "origin": _clerk_origin(settings.clerk_publishable_key),
        }
    return {"signIn": "none"}


def _sign_in_route(settings: GatewaySettings) -> list[dict[str, object]]:
    if settings.development_sign_in is None:
        return []
    return [
        {
            "match": {"path": "/development/token"},
            "route": {"cluster": _SIGN_IN, "timeout": "5s"},
        }
    ]


def _clerk_origin(key: str) -> str:
    """Where an application's Clerk answers: its publishable key says so, in base64."""
    if not key:
        return ""
    encoded = key.rpartition("_")[2]
    try:
        host = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        host = ""
    return f"https://{host.removesuffix('$')}"


def _type_of(path: Path) -> str:
    guessed, _ = mimetypes.guess_type(path.name)
    kind = guessed or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
