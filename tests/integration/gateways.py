"""More gateways, beside the one of the stack."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx

from local.stack import Stack, free_ports
from tests.integration.eventually import eventually

_TIMES_TO_TELL = 3
_PATIENCE_SECONDS = 10
_ANSWER_SECONDS = 60


class Gateway:
    """A process of the gateway."""

    def __init__(self, environment: Mapping[str, str], trusted: str) -> None:
        self.port = int(environment["INGLENOOK_LISTEN"].rpartition(":")[2])
        self.url = f"{'https' if trusted else 'http'}://localhost:{self.port}"
        self._trusted = ssl.create_default_context(cafile=trusted or None)
        self._folder = Path(environment["INGLENOOK_BOOTSTRAP_FILE"]).parent
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], env=environment, stdout=subprocess.DEVNULL
        )

    def answers(self, path: str) -> int | None:
        """The HTTP status of an answer; None when no connection is accepted, or kept."""
        url = f"{self.url}{path}"
        try:
            return httpx.get(url, verify=self._trusted, timeout=_ANSWER_SECONDS).status_code
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            # Whoever stops listening also drops those whom it has not looked at yet.
            return None

    def is_alive(self) -> bool:
        """Whether it answers that it lives; not whether another one does, since it has ended."""
        assert self.process.poll() is None, "the gateway ended; the output above says why"
        return self.answers("/healthz") == httpx.codes.OK

    def well(self, address: str) -> bool:
        """Whether the process at an address is one that calls go to."""
        shown = self._admin("/clusters")
        flags = re.findall(rf"::{re.escape(address)}::health_flags::(.*)", shown)
        assert flags, f"{address} is not among {shown}"
        return flags == ["healthy"]

    def ill(self, address: str) -> bool:
        """Whether no calls go to the process at an address any more."""
        return not self.well(address)

    def has_announced_its_end(self) -> bool:
        """Whether it says of itself that it will not take calls for long."""
        return '"DRAINING"' in self._admin("/server_info")

    def tell_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stops it, however it may be doing."""
        for _ in range(_TIMES_TO_TELL):
            self.tell_to_stop()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE_SECONDS)
                return
        self.process.kill()

    def _admin(self, path: str) -> str:
        transport = httpx.HTTPTransport(uds=str(self._folder / "envoy-admin.sock"))
        with httpx.Client(
            transport=transport, base_url="http://envoy", timeout=_ANSWER_SECONDS
        ) as client:
            return client.get(path).text


def trusting_as(stack: Stack) -> dict[str, str]:
    """Settings by which a gateway trusts whom a stack trusts."""
    environment = stack.service("messages").environment
    names = ("environment", "issuers", "development_issuer")
    return {name: environment[f"INGLENOOK_{name.upper()}"] for name in names}


@contextmanager
def started_gateway(
    folder: Path,
    upstreams: Mapping[str, str | Sequence[str]],
    trusted: str = "",
    **settings: str,
) -> Iterator[Gateway]:
    """A gateway before these upstreams that is alive; files are in `folder`.

    `settings` are more of its own, by their names without the prefix. If it has a certificate,
    `trusted` is the file of its authority's.
    """
    own = {f"INGLENOOK_{name.upper()}": value for name, value in settings.items()}
    environment = {
        **os.environ,
        "INGLENOOK_LISTEN": f"127.0.0.1:{free_ports().gateway}",
        "INGLENOOK_UPSTREAMS": json.dumps(upstreams),
        "INGLENOOK_BOOTSTRAP_FILE": str(folder / "envoy.json"),
        "INGLENOOK_LAME_DUCK_SECONDS": "0",
        # Tests ask as fast as they can.
        "INGLENOOK_ADDRESS_REQUESTS_PER_MINUTE": "0",
        "INGLENOOK_PERSON_REQUESTS_PER_MINUTE": "0",
        **own,
    }
    gateway = Gateway(environment, trusted)
    try:
        eventually(gateway.is_alive)
        yield gateway
    finally:
        gateway.stop()


@contextmanager
def served(
    service: str,
    handlers: "dict[str, grpc.RpcMethodHandler[bytes, bytes]]",
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    """A service with handlers of the test's own, over TLS with credentials; gives its address."""
    server = grpc.server(ThreadPoolExecutor())
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    anywhere = "127.0.0.1:0"
    port = (
        server.add_insecure_port(anywhere)
        if credentials is None
        else server.add_secure_port(anywhere, credentials)
    )
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
