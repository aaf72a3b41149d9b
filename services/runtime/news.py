"""Waiting for news, or for a while: what thousands of idle followers do."""

import asyncio
import time


class News:
    """Whether there is news for the one task that waits for it.

    An `asyncio.Event` would do, with `asyncio.timeout`. Together they hold four times the memory,
    most of it for many tasks that wait and for a timeout that nests.
    """

    __slots__ = ("_told", "_waiter", "told_at")

    def __init__(self) -> None:
        """There is none yet."""
        self._told = False
        self._waiter: asyncio.Future[None] | None = None
        self.told_at = 0.0
        """When the first of what is not known yet came, by `time.perf_counter`."""

    def set(self) -> None:
        """There is news: whoever waits goes on."""
        if not self._told:
            self._told = True
            self.told_at = time.perf_counter()
        self._wake()

    def clear(self) -> None:
        """What there was is known."""
        self._told = False

    async def wait(self, seconds: float) -> bool:
        """Whether there is news, now or within so many seconds."""
        if not self._told and seconds > 0:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._told

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
