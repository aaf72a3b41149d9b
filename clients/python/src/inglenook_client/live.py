"""Following a feed through every cut."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from grpc import StatusCode

from inglenook_client.backoff import Backoff
from inglenook_client.errors import InglenookError
from inglenook_client.feed import Frame, Held

State = TypeVar("State", bound=Held[Any])
Item = TypeVar("Item")

_log = logging.getLogger("inglenook_client")


async def follow(
    held: State,
    open_feed: Callable[[str], AsyncGenerator[Frame[Any], None]],
    *,
    silence: float,
    backoff: Backoff,
) -> AsyncGenerator[State, None]:
    """What is held of a feed, each time that it has changed; first when its snapshot is complete.

    `open_feed` opens the feed's stream at a resume token. A stream that ends is opened anew after a
    while, at once where the contract foresees its end; one on which nothing comes for `silence`
    seconds, not even a heartbeat, is broken off.

    Raises:
        InglenookError: the feed was refused for good.
    """
    failures = 0
    shown = held.current
    while True:
        frames = 0
        try:
            async with aclosing(open_feed(held.resume_token)) as stream:
                async for frame in _heard(stream, silence):
                    frames += 1
                    held = held.apply(frame)
                    if held.current and (held.changes or not shown):
                        yield held
                        held = held.settled()
                    shown = held.current
            error = InglenookError(StatusCode.UNAVAILABLE, "The stream ended.")
        except InglenookError as refused:
            error = refused
        if error.reason == "RESUME_TOKEN_INVALID":
            held, shown = type(held)(), False
        elif _is_for_good(error, frames):
            raise error
        failures = 1 if frames else failures + 1
        _log.info("a watch was cut (%s), and is taken up again", error)
        if failures > 1 or not _is_foreseen(error):
            await asyncio.sleep(max(backoff.wait(failures), error.retry_delay or 0.0))


async def _heard(stream: AsyncIterator[Item], silence: float) -> AsyncGenerator[Item, None]:
    """What comes on a stream.

    Raises:
        InglenookError: nothing came for so many seconds.
    """
    while True:
        try:
            async with asyncio.timeout(silence):
                item = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise InglenookError(StatusCode.UNAVAILABLE, "The server went silent.") from None
        yield item


def _is_for_good(error: InglenookError, frames: int) -> bool:
    if error.remedy == "token":
        # With the freshest token that there is, the stream was not even opened.
        return frames == 0
    return error.remedy == "change"


def _is_foreseen(error: InglenookError) -> bool:
    """Whether the contract foresees this end: another replica answers, a fresh token is at hand."""
    return error.reason in {"SERVER_STOPPING", "RESUME_TOKEN_INVALID"} or error.remedy == "token"
