"""The development sign-in: gives the web app a token for whoever it names.

It runs in the launcher, beside the development issuer's key, and nowhere else. The gateway leads to
it from its own origin, so that no other site's page can read what it answers.
"""

import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from services.runtime.development_issuer import development_token

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_PERSON = re.compile(r"[a-z][a-z0-9-]{0,39}")
_LARGEST = 1024


class SignIn:
    """Answers until it is closed, on a port of its own."""

    def __init__(self, issuer: Path, *, lifetime: float = 3600) -> None:
        """Takes the folder of the issuer's key, and how many seconds a token is good for."""

        class Handler(_Handler):
            def token(self, person: str) -> str:
                return development_token(issuer, person, lifetime=lifetime)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, name="sign-in", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = 5

    def token(self, person: str) -> str:
        raise NotImplementedError

    def do_POST(self) -> None:
        # Another site's page could have its own name lead here: then it comes by that name.
        if urlsplit(f"//{self.headers['host']}").hostname not in _OWN_NAMES:
            self._answer(HTTPStatus.FORBIDDEN, {"message": "Only this machine's pages may ask."})
            return
        person = self._person()
        if person is None:
            message = "Name a person: small letters, digits and hyphens, at most 40."
            self._answer(HTTPStatus.BAD_REQUEST, {"message": message})
            return
        self._answer(HTTPStatus.OK, {"token": self.token(person)})

    def _person(self) -> str | None:
        length = self.headers["content-length"] or ""
        # Only a page of the same origin can send JSON without asking first.
        is_json = (self.headers["content-type"] or "").startswith("application/json")
        if not is_json or not length.isdecimal() or int(length) > _LARGEST:
            return None
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except ValueError:
            return None
        person = asked.get("person") if isinstance(asked, dict) else None
        return person if isinstance(person, str) and _PERSON.fullmatch(person) else None

    def _answer(self, status: HTTPStatus, body: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """The gateway writes the line of each request."""
