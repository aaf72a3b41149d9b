"""More processes of a service, beside the ones of the stack."""

import subprocess

import grpc

from local.stack import Stack


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
    with grpc.insecure_channel(listen) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
    return process
