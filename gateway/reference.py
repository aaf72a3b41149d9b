"""The API's reference, beside the API: `/v1/openapi.json`, and `/v1/reference` for people."""

from contract.folders import REFERENCE
from gateway.files import ASK_AGAIN, Served

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
}
_FILES = {
    "/v1/openapi.json": Served(REFERENCE / "openapi.json", "application/json", ASK_AGAIN),
    "/v1/reference": Served(REFERENCE / "index.html", "text/html; charset=utf-8", ASK_AGAIN),
    "/v1/reference/style.css": Served(
        REFERENCE / "style.css", "text/css; charset=utf-8", ASK_AGAIN
    ),
}


def reference_routes() -> list[dict[str, object]]:
    """A route for each file of the reference. Anyone may read it: the contract is no secret."""
    return [file.at({"path": path}, _HEADERS) for path, file in _FILES.items()]


def largest_reference_file() -> int:
    """The size in bytes of the reference's largest file."""
    return max(file.path.stat().st_size for file in _FILES.values())
