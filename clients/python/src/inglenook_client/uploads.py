"""Sending a stream of requests, and learning why the server ended it before its end.

gRPC for Python has its own answer to both: it takes an iterator's failure for a cancellation, and a
write that fails, as one does when the call is over, for INTERNAL. It says so before it has taken in
what the server said, or, where both come at once, in its place.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any, TypeVar

from grpc import StatusCode, aio

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
_TURNS, _TURN_SECONDS = 100, 0.01


async def uploaded(
    call: "aio.StreamUnaryCall[Any, Answer]",
    requests: Iterable[Request] | AsyncIterable[Request],
) -> Answer:
    """The answer to a stream of requests.

    Raises:
        grpc.aio.AioRpcError: it was refused, or broken off.
        Exception: what giving the requests failed of; the server gets no end of them.
    """
    end = _End(call)
    try:
        async with aclosing(_one_by_one(requests)) as given:
            async for request in given:
                if call.done():
                    break
                try:
                    await call.write(request)
                except aio.AioRpcError:
                    await end.has_been_told()
                    break
        await call.done_writing()
        return await call
    except aio.AioRpcError as error:
        raise end.told or error from None
    finally:
        call.cancel()


class _End:
    """How a call ended, as the server said, whatever gRPC takes it for later."""

    def __init__(self, call: "aio.StreamUnaryCall[Any, Any]") -> None:
        self.told: aio.AioRpcError | None = None
        """None while a write that failed is all that is known."""
        self._call = call
        call.add_done_callback(lambda _: self._note())

    async def has_been_told(self) -> None:
        """Waits for what the server said, which has come by now: a write found the call over."""
        for _ in range(_TURNS):
            self._note()
            if self.told is not None:
                return
            await asyncio.sleep(_TURN_SECONDS)

    def _note(self) -> None:
        """Notes how the call stands: at once, since in the next turn gRPC may have replaced it."""
        error = _at_once(_standing(self._call))
        # A server of the contract says more than its status.
        is_of_a_write = error.code() is StatusCode.INTERNAL and not error.trailing_metadata()
        if not is_of_a_write:
            self.told = error


async def _standing(call: "aio.StreamUnaryCall[Any, Any]") -> aio.AioRpcError:
    return aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        await call.details(),
    )


def _at_once(ready: Coroutine[Any, Any, Result]) -> Result:
    """The result of what has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise RuntimeError("it has something to wait for")


async def _one_by_one(
    requests: Iterable[Request] | AsyncIterable[Request],
) -> AsyncGenerator[Request, None]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
