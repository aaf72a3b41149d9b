"""More processes of a service, beside the ones of the stack."""

import subprocess
import sys

import grpc

from local.stack import Stack


def start_replica(stack: Stack, port: int) -> "subprocess.Popen[bytes]":
    """Starts one more process of the messages service, and waits until it answers."""
    listen = f"127.0.0.1:{port}"
    environment = {**stack.service("messages").environment, "INGLENOOK_LISTEN": listen}
    command = [sys.executable, "-m", "services.messages"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with grpc.insecure_channel(listen) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
    return process
