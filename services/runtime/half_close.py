"""Telling who has said all from who vanished: both end a call's requests."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from grpc import aio


async def until_half_closed(
    requests: AsyncIterator[bytes], context: "aio.ServicerContext[Any, Any]"
) -> AsyncGenerator[bytes, None]:
    """The requests of a call, whose end is one that the caller meant.

    The requests of a caller who vanished end, too, right before the call is cancelled. gRPC takes
    in the loss of a stream as one thing, and what is asked of the stream afterwards is served after
    it: reading once more finds nothing, and is answered once the cancellation has come.
    """
    async for request in requests:
        yield request
    await context.read()
