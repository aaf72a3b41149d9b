"""An issuer's key set over HTTP, which can change while it is served."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services.runtime.jwks import SigningKey, key_set


class KeyServer:
    """An issuer's JWK Set over HTTP."""

    def __init__(self) -> None:
        self.keys: dict[str, SigningKey] = {}
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = key_set(outer.keys).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/jwks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
