"""More processes of a service, beside the ones of the stack."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from local.stack import Stack, transport_of
from services.runtime.probe import is_serving

_GUARD = 120.0


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that stays a replica's own, also while it is killed and started again.

    Where many run their tests, a port that nothing listens on is soon another's. Linux lets a
    server have a port that is merely held, and gives it to nobody who asks for any.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        if sys.platform != "linux":
            holder.close()
        yield port


def start_replica(
    stack: Stack, port: int, service: str = "messages", **settings: str | None
) -> "subprocess.Popen[bytes]":
    """Starts one more process of a service, and waits until it answers.

    `settings` are some of its own, by their names without the prefix; None for one that it lacks.
    It writes to the log of the stack's own process.
    """
    listen = f"127.0.0.1:{port}"
    own = {f"INGLENOOK_{name.upper()}": value for name, value in settings.items()}
    of_its_own = {"INGLENOOK_LISTEN": listen, "INGLENOOK_METRICS_LISTEN": ""}
    spec = stack.service(service)
    all_settings = {**spec.environment, **of_its_own, **own}
    environment = {name: value for name, value in all_settings.items() if value is not None}
    with spec.log.open("ab") as log:
        process = subprocess.Popen(spec.command, env=environment, stdout=log)
    transport = transport_of(environment)
    deadline = time.monotonic() + _GUARD
    while time.monotonic() < deadline:
        assert process.poll() is None, f"a replica ended: see {spec.log}"
        if is_serving(listen, transport):
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"a replica does not answer: see {spec.log}")
