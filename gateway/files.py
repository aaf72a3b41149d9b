"""Files that the gateway answers with, each at a path of its own, read when it starts."""

import mimetypes
from pathlib import Path

from gateway.filters import HEADERS, of_files

FOR_EVER = "public, max-age=31536000, immutable"
"""For a file whose name changes with its content."""
ASK_AGAIN = "no-cache"
"""For a file that may be kept, and is asked for whether it has changed."""

_HTTP = "type.googleapis.com/envoy.extensions.filters.http"


class Served:
    """A file, its type, and for how long it may be kept."""

    def __init__(self, path: Path, content_type: str, caching: str) -> None:
        self.path = path
        self._content_type = content_type
        self._caching = caching

    def at(self, match: dict[str, object], headers: dict[str, str]) -> dict[str, object]:
        """A route to it."""
        body = {"filename": str(self.path.resolve())}
        return answer(match, body, self._content_type, {**headers, "cache-control": self._caching})


def answer(
    match: dict[str, object], body: dict[str, str], content_type: str, headers: dict[str, str]
) -> dict[str, object]:
    """A route that answers with a body; `headers` are added to those that all answers have."""
    reading = header(":method", "safe_regex", {"regex": "GET|HEAD"})
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
    written = {"key": key, "value": value}
    return {"header": written, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def header(name: str, how: str, what: object) -> dict[str, object]:
    """A condition of a route: what a header of the request must be."""
    return {"name": name, "string_match": {how: what}}


def type_of(path: Path) -> str:
    """A file's content type, by its name."""
    guessed, _ = mimetypes.guess_type(path.name)
    kind = guessed or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
