"""Vault's transit secrets engine over HTTP, as much of it as is used: real versions, real GCM."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY = "inglenook"
TOKEN = "s.only-for-this-test"


class TransitError(Exception):
    """What Vault answers instead."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class VaultServer:
    """One transit key, aes256-gcm96, whose versions are counted from 1."""

    def __init__(self) -> None:
        self._versions = [AESGCM(os.urandom(32))]
        self.sealed = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                answer: dict[str, object]
                try:
                    token = self.headers.get("x-vault-token")
                    status, answer = 200, {"data": outer.answer(self.path, token, body)}
                except TransitError as error:
                    status, answer = error.status, {"errors": [str(error)]}
                written = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(written)))
                self.end_headers()
                self.wfile.write(written)

            def log_message(self, *_arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, token: str | None, body: dict[str, str]) -> dict[str, Any]:
        if self.sealed:
            raise TransitError(503, "Vault is sealed")
        if token != TOKEN:
            raise TransitError(403, "permission denied")
        match path.removeprefix("/v1/transit/").split("/"):
            case ["keys", name] if name == KEY:
                return {"latest_version": len(self._versions), "type": "aes256-gcm96"}
            case ["keys", name, "rotate"] if name == KEY:
                self._versions.append(AESGCM(os.urandom(32)))
                return {}
            case ["encrypt", name] if name == KEY:
                return {"ciphertext": self._encrypt(body)}
            case ["decrypt", name] if name == KEY:
                return {"plaintext": self._decrypt(body)}
            case _:
                raise TransitError(400, "encryption key not found")

    def _encrypt(self, body: dict[str, str]) -> str:
        nonce = os.urandom(12)
        sealed = self._versions[-1].encrypt(
            nonce, base64.b64decode(body["plaintext"]), base64.b64decode(body["associated_data"])
        )
        return f"vault:v{len(self._versions)}:{base64.b64encode(nonce + sealed).decode()}"

    def _decrypt(self, body: dict[str, str]) -> str:
        try:
            prefix, version, encoded = body["ciphertext"].split(":")
            number, sealed = int(version.removeprefix("v")), base64.b64decode(encoded)
        except ValueError:
            raise TransitError(400, "invalid ciphertext: could not decode base64") from None
        if prefix != "vault" or not version.startswith("v"):
            raise TransitError(400, "invalid ciphertext: no prefix")
        if number > len(self._versions):
            raise TransitError(400, "invalid ciphertext: version is too new")
        try:
            plaintext = self._versions[number - 1].decrypt(
                sealed[:12], sealed[12:], base64.b64decode(body["associated_data"])
            )
        except (InvalidTag, ValueError):
            raise TransitError(400, "cipher: message authentication failed") from None
        return base64.b64encode(plaintext).decode()
