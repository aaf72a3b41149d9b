"""A caller who vanishes is told from one who has said all, however close the two are in gRPC."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from grpc import aio

from services.runtime.half_close import until_half_closed

_METHOD = "/test.Service/Method"


class Counting(grpc.GenericRpcHandler):
    """Counts how the requests of its calls end."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.reads: asyncio.Queue[bytes] = asyncio.Queue()

    def service(self, _details: object) -> Any:  # noqa: ANN401 - a handler
        return grpc.stream_unary_rpc_method_handler(self._receive)

    async def _receive(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # noqa: ANN401
        try:
            async for request in until_half_closed(requests, context):
                self.reads.put_nowait(request)
        except asyncio.CancelledError:
            self.ends["vanished"] += 1
            raise
        self.ends["half-closed"] += 1
        return b""


async def test_the_requests_of_those_who_vanish_have_no_end() -> None:
    handler = Counting()
    server = aio.server()
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with asyncio.timeout(60), aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.stream_unary(_METHOD)
        for _ in range(300):
            call = method()
            await call.write(b"half of it")
            await handler.reads.get()
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        call = method()
        await call.write(b"all of it")
        await call.done_writing()
        await call
    await server.stop(None)
    assert handler.ends == {"vanished": 300, "half-closed": 1}
