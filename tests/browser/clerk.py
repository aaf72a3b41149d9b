"""A stand-in for a Clerk application: its script, its API and its sign-in page, over HTTPS.

What a Clerk application is to the web app: a script at the address that the publishable key
holds, which signs people in on a page of its own and gives out session tokens, RS256, good for a
moment. It is a development instance of Clerk: a browser is known by an id in its requests
(`__clerk_db_jwt`) and not by a cookie of another site. The script is `clerk.js` beside this file.
With INGLENOOK_CLERK_SCRIPTS set to the folder `dist` of version 5 of the npm package
@clerk/clerk-js, Clerk's own is served instead.
"""

import base64
import datetime
import json
import os
import ssl
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import RSAAlgorithm

_HOST = "talks.clerk.accounts.dev"
_LOOPBACK = "127.0.0.1"
ISSUER = f"https://{_HOST}"
PUBLISHABLE_KEY = f"pk_test_{base64.b64encode(f'{_HOST}$'.encode()).decode()}"
_STAND_IN = Path(__file__).with_name("clerk.js")
_BROWSER = "__clerk_db_jwt"
_KEY_ID = "ins_1"
# Clerk's page is told behind the hash where to lead back to.
_SIGN_IN_PAGE = """<!doctype html><title>Clerk</title><a>Ann</a><script>
const back = new URLSearchParams(location.hash.slice(2)).get("sign_in_force_redirect_url");
document.querySelector("a").href =
  `/sign-in${location.search}&person=ann&redirect_url=${encodeURIComponent(back)}`;
</script>"""


class ClerkApplication:
    """Signs people in until it is closed."""

    def __init__(self, folder: Path, *, lifetime: float) -> None:
        """Takes a folder for its certificate, and how many seconds a token is good for."""
        self.lifetime = lifetime
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.people: dict[str, str] = {}
        """Who is signed in, by session."""
        self.sessions: dict[str, str] = {}
        """The session of each browser in which somebody is."""
        self.tokens_given = 0
        application = self

        class Handler(_Handler):
            clerk = application

        for_browsers = ThreadingHTTPServer((_LOOPBACK, 0), Handler)
        for_browsers.socket = _secured(folder).wrap_socket(for_browsers.socket, server_side=True)
        self.rule = f"MAP {_HOST}:443 {_LOOPBACK}:{for_browsers.server_port}"
        """What tells Chromium where the application's host is (`--host-resolver-rules`)."""
        # Services trust no certificate of our making: they get the keys in plaintext.
        for_services = ThreadingHTTPServer((_LOOPBACK, 0), Handler)
        self.jwks_url = f"http://{_LOOPBACK}:{for_services.server_port}/.well-known/jwks.json"
        self._servers = (for_browsers, for_services)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def token(self, session: str, origin: str) -> str:
        """A session token for a page of an origin."""
        self.tokens_given += 1
        now = time.time()
        claims = {
            "iss": ISSUER,
            "sub": f"user_{self.people[session]}",
            "sid": session,
            "azp": origin,
            "iat": int(now),
            "nbf": int(now) - 10,
            "exp": int(now + self.lifetime),
        }
        return jwt.encode(claims, self.key, "RS256", headers={"kid": _KEY_ID})

    def end_sessions(self) -> None:
        """Signs everybody out, who learn of it when they next want a token."""
        self.sessions.clear()
        self.people.clear()

    def close(self) -> None:
        """Stops answering."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    clerk: ClerkApplication
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self) -> None:
        self._send(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/npm/@clerk/clerk-js@"):
            self._send(HTTPStatus.OK, _script(path.rpartition("/")[2]), "text/javascript")
        elif path == "/.well-known/jwks.json":
            self._json({"keys": [self._public_key()]})
        elif path == "/sign-in":
            self._sign_in_page()
        elif path == "/v1/environment":
            self._json(self._environment())
        elif path == "/v1/client":
            self._json({"response": self._client(), "client": None})
        else:
            self._send(HTTPStatus.NOT_FOUND, b"", "text/plain")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        match urlsplit(self.path).path.split("/")[2:]:
            case ["environment"]:
                self._json(self._environment())
            case ["dev_browser"]:
                self._json({"id": f"dvb_{uuid4().hex}"})
            case ["client", "sessions", session, "tokens"] if session in self.clerk.people:
                self._json({"object": "token", "jwt": self._token(session)})
            case ["client", "sessions", session, "touch"] if session in self.clerk.people:
                self._json({"response": self._session(session), "client": self._client()})
            case ["client", "sessions"] if self._asked("_method") == "DELETE":
                ended = self.clerk.sessions.pop(self._asked(_BROWSER), "")
                self.clerk.people.pop(ended, None)
                self._json({"response": self._client(), "client": None})
            case _:
                self._send(HTTPStatus.UNAUTHORIZED, b'{"errors": []}', "application/json")

    def _sign_in_page(self) -> None:
        if person := self._asked("person"):
            session = f"sess_{uuid4().hex}"
            self.clerk.sessions[self._asked(_BROWSER)] = session
            self.clerk.people[session] = person
            self._send(HTTPStatus.SEE_OTHER, b"", "text/plain", self._asked("redirect_url"))
            return
        self._send(HTTPStatus.OK, _SIGN_IN_PAGE.encode(), "text/html")

    def _asked(self, name: str) -> str:
        """What the address says under a name, or ""."""
        return parse_qs(urlsplit(self.path).query).get(name, [""])[0]

    def _public_key(self) -> dict[str, object]:
        public = RSAAlgorithm.to_jwk(self.clerk.key.public_key(), as_dict=True)
        return {**public, "kid": _KEY_ID, "alg": "RS256", "use": "sig"}

    def _token(self, session: str) -> str:
        return self.clerk.token(session, self.headers["origin"] or "")

    def _client(self) -> dict[str, object]:
        session = self.clerk.sessions.get(self._asked(_BROWSER))
        return {
            "object": "client",
            "id": "client_1",
            "sessions": [self._session(session)] if session else [],
            "sign_in": None,
            "sign_up": None,
            "last_active_session_id": session or None,
            "created_at": 1,
            "updated_at": 1,
        }

    def _session(self, session: str) -> dict[str, object]:
        person = self.clerk.people[session]
        end = int(time.time() + 3600) * 1000
        user = {"object": "user", "id": f"user_{person}", "first_name": person}
        return {
            "object": "session",
            "id": session,
            "status": "active",
            "expire_at": end,
            "abandon_at": end,
            "last_active_at": int(time.time() * 1000),
            "last_active_token": {"object": "token", "jwt": self._token(session)},
            "user": user,
            "public_user_data": {"user_id": user["id"]},
            "created_at": 1,
            "updated_at": 1,
        }

    def _environment(self) -> dict[str, object]:
        sign_in = f"{ISSUER}/sign-in"
        return {
            "object": "environment",
            "auth_config": {
                "object": "auth_config",
                "single_session_mode": True,
                "url_based_session_syncing": True,
            },
            "display_config": {
                "object": "display_config",
                "id": "display_config_1",
                "instance_environment_type": "development",
                "sign_in_url": sign_in,
                "home_url": sign_in,
                "application_name": "Talks",
            },
            "user_settings": {"attributes": {}, "social": {}, "actions": {}},
            "organization_settings": {},
        }

    def _json(self, answer: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if origin := self.headers["origin"]:
            self.send_header("access-control-allow-origin", origin)
            self.send_header("access-control-allow-credentials", "true")
            self.send_header("access-control-allow-headers", "content-type, authorization")
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _script(name: str) -> bytes:
    folder = os.environ.get("INGLENOOK_CLERK_SCRIPTS")
    return (Path(folder) / name if folder else _STAND_IN).read_bytes()


def _secured(folder: Path) -> ssl.SSLContext:
    """TLS by a certificate that its own key signed: browsers must be told to take it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "clerk.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
