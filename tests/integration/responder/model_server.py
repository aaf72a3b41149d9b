"""A language model's server, as the responder knows one: chat completions, streamed by SSE."""

import json
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG = object()
"""A step of a script: waits until the test lets it go on, or the client has left."""
BREAK = object()
"""A step of a script: cuts the connection."""

_HEARD_SECONDS = 60


@dataclass
class Asked:
    """A request that the model got."""

    body: dict[str, Any]
    key: str
    go_on: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when the client left before the end."""

    @property
    def said(self) -> list[tuple[str, str]]:
        """The conversation that it was given, after the instructions."""
        return [(message["role"], message["content"]) for message in self.body["messages"][1:]]


class ModelServer:
    """Answers a request by the script for what the person said last: text, then how it ends.

    A script that is a number is an HTTP status. Its last step may be a reason to finish, as
    `{"finish_reason": "stop"}`.
    """

    def __init__(self) -> None:
        self._scripts: defaultdict[str, queue.SimpleQueue[Any]] = defaultdict(queue.SimpleQueue)
        self._asked: defaultdict[str, queue.SimpleQueue[Asked]] = defaultdict(queue.SimpleQueue)
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def will(self, said: str, *script: object) -> None:
        """Says how the next request about something is answered: with these pieces, to the end."""
        self.breaks_off(said, [*script, {"finish_reason": "stop"}])

    def breaks_off(self, said: str, script: object) -> None:
        """Says how the next request about something is answered, and that is all."""
        self._scripts[said].put(script)

    def asked(self, said: str) -> Asked:
        """The next request about something that comes, or has come."""
        return self._asked[said].get(timeout=_HEARD_SECONDS)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["content-length"])))
        asked = Asked(body, request.headers["authorization"].removeprefix("Bearer "))
        said = asked.said[-1][1]
        self._asked[said].put(asked)
        script = self._scripts[said].get(timeout=_HEARD_SECONDS)
        if isinstance(script, int):
            quoted = json.dumps({"error": {"message": json.dumps(body)}}).encode()
            request.send_response(script)
            request.send_header("content-type", "application/json")
            request.send_header("content-length", str(len(quoted)))
            request.end_headers()
            request.wfile.write(quoted)
            return
        request.send_response(200)
        request.send_header("content-type", "text/event-stream")
        request.send_header("connection", "close")
        request.end_headers()
        request.close_connection = True
        try:
            for step in script:
                if step is BREAK:
                    return
                if step is HANG:
                    _wait(request, asked)
                    continue
                _send(request, _chunk(body["model"], step))
            _send(request, "[DONE]")
        except OSError:
            asked.left.set()


def _wait(request: BaseHTTPRequestHandler, asked: Asked) -> None:
    while not asked.go_on.wait(0.02):
        # A comment of SSE: writing is how one finds out that nobody reads.
        request.wfile.write(b": still here\n\n")
        request.wfile.flush()
    asked.go_on.clear()


def _send(request: BaseHTTPRequestHandler, data: str) -> None:
    request.wfile.write(f"data: {data}\n\n".encode())
    request.wfile.flush()


def _chunk(model: str, step: object) -> str:
    if isinstance(step, dict) and "error" in step:
        return json.dumps(step)
    ends = step if isinstance(step, dict) else {"finish_reason": None}
    delta = {} if isinstance(step, dict) else {"content": step}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "delta": delta, **ends}],
        }
    )


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    try:
        yield server
    finally:
        server.close()
