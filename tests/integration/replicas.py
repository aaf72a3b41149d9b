"""More processes of a service, beside the ones of the stack."""

import subprocess
import sys

import grpc

from local.stack import Stack


def start_replica(
    stack: Stack, port: int, service: str = "messages", **settings: str | None
) -> "subprocess.Popen[bytes]":
    """Starts one more process of a service, and waits until it answers.

    `settings` are some of its own, by their names without the prefix; None for one that it lacks.
    """
    listen = f"127.0.0.1:{port}"
    own = {f"INGLENOOK_{name.upper()}": value for name, value in settings.items()}
    of_its_own = {"INGLENOOK_LISTEN": listen, "INGLENOOK_METRICS_LISTEN": ""}
    all_settings = {**stack.service(service).environment, **of_its_own, **own}
    environment = {name: value for name, value in all_settings.items() if value is not None}
    command = [sys.executable, "-m", f"services.{service}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with grpc.insecure_channel(listen) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
    return process
