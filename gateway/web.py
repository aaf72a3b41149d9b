"""The web app's files, at paths that no method of the contract has.

Each file is a route of its own, read when the gateway starts: a path leads to a file of the app or
to nothing, and the files that belong together are served together until the next start.
"""

import base64
import binascii
import json

from gateway.files import ASK_AGAIN, FOR_EVER, Served, answer, header, type_of
from gateway.routes import nowhere
from gateway.settings import GatewaySettings

_SIGN_IN = "development-sign-in"


def web_routes(settings: GatewaySettings) -> list[dict[str, object]]:
    """A route for each file, and one to the app's only page for each address that it may show."""
    folder = settings.web_folder
    if folder is None:
        return []
    headers = _page_headers(settings)
    page = Served(folder / "index.html", "text/html; charset=utf-8", ASK_AGAIN)
    assets = [
        Served(path, type_of(path), FOR_EVER)
        for path in sorted((folder / "assets").iterdir())
        if path.is_file()
    ]
    configuration = answer(
        {"path": "/configuration.json"},
        {"inline_string": json.dumps(_configuration(settings))},
        "application/json",
        {**headers, "cache-control": ASK_AGAIN},
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
        page.at({"prefix": "/", "headers": [header("accept", "contains", "text/html")]}, headers),
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
