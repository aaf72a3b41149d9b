"""What watching is compared with: a bare grpc.aio server on uvloop, whose streams look at nothing.

A stream sends the very bytes that it was asked with: once, and stays open; or again and again.

`python -m bench.streams 127.0.0.1:<port>`
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import grpc
import uvloop
from grpc import aio

if TYPE_CHECKING:
    Context = aio.ServicerContext[bytes, bytes]

_SERVICE = "inglenook.bench.Streams"
HOLD = f"/{_SERVICE}/Hold"
PUSH = f"/{_SERVICE}/Push"
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    # As the services have it: the defaults reject thousands of streams that open at once.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
)


async def _hold(request: bytes, context: Context) -> None:
    await context.write(request)
    await asyncio.get_running_loop().create_future()


async def _push(request: bytes, context: Context) -> None:
    while True:
        await context.write(request)


async def _serve(address: str) -> None:
    server = aio.server(options=list(_OPTIONS))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        path.rpartition("/")[2]: grpc.unary_stream_rpc_method_handler(handle)
        for path, handle in ((HOLD, _hold), (PUSH, _push))
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, handlers)])
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
