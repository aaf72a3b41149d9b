"""A service with no data key in memory."""

import grpc

from local.stack import Stack


def restart(stack: Stack, service: str) -> None:
    """Restarts a service, and waits until it answers itself.

    The gateway's word is not enough: it may not have noticed yet that the service was away.
    """
    stack.restart(service)
    with grpc.insecure_channel(stack.ports.address(service)) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
