"""What an append is compared with: a bare grpc.aio server on uvloop that answers without looking.

`python -m bench.echo 127.0.0.1:<port> <bytes of an answer>`
"""

from __future__ import annotations

import sys

import grpc
import uvloop
from grpc import aio

SERVICE = "inglenook.bench.Echo"
METHOD = "Call"


async def _serve(address: str, size: int) -> None:
    answer = bytes(size)

    async def call(_request: bytes, _context: object) -> bytes:
        return answer

    server = aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        METHOD: grpc.unary_unary_rpc_method_handler(call)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
