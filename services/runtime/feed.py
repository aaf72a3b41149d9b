"""Live updates: following a feed from a revision, without losing or repeating anything.

A feed is something that changes and counts its changes: each gets the next revision, under a lock
that is held until its commit, so that whoever sees revision r sees all before it. The stored state
is the log: following means reading "what has a revision above mine", again whenever somebody says
that there is news, and once in a while in case nobody said so. A follower holds its revision and
nothing else, so a slow one costs no memory and loses nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from services.runtime.errors import server_stopping

Change = TypeVar("Change")

HEARTBEAT_SECONDS = 15.0
POLL_SECONDS = 5.0


class Signal(Enum):
    """What a frame says when it holds no changes."""

    CURRENT = "current"
    HEARTBEAT = "heartbeat"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Batch(Generic[Change]):
    """Changes that were read together, in order, and the revision that stands after them."""

    changes: list[Change]
    revision: int
    complete: bool = True
    """Whether nothing was stored beyond `revision` when this was read."""


@dataclass(frozen=True, slots=True)
class Frame(Generic[Change]):
    """What a follower gets: changes or a signal, and the revision that stands after it."""

    revision: int
    changes: list[Change] | None = None
    signal: Signal | None = None


class Feeds:
    """Who in this process follows which feed."""

    def __init__(self) -> None:
        self._stopping = False
        self._followers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def wake(self, feed: str | None) -> None:
        """Makes the followers of a feed look for news; None means of every feed."""
        feeds = self._followers if feed is None else {feed: self._followers.get(feed, set())}
        for followers in feeds.values():
            for news in followers:
                news.set()

    def stop(self) -> None:
        """Ends every follower: this process stops, and another one answers them."""
        self._stopping = True
        self.wake(None)

    async def follow(
        self,
        feed: str,
        *,
        start: Callable[[], Awaitable[tuple[bool, Batch[Change]]]],
        after: Callable[[int], Awaitable[Batch[Change]]],
    ) -> AsyncGenerator[Frame[Change], None]:
        """The frames of a feed: what `start` gives, `current`, then what `after` finds, for ever.

        `start` reads where to begin: whether the follower must drop what it holds, and the first
        changes. `after(revision)` reads the changes above a revision, as many as fit a frame.

        Raises:
            Refusal: SERVER_STOPPING, when this process stops.
        """
        news = asyncio.Event()
        # Registered before the first read, so that what commits after it is not missed.
        self._followers[feed].add(news)
        try:
            async for frame in self._frames(news, start, after):
                yield frame
        finally:
            self._followers[feed].discard(news)
            if not self._followers[feed]:
                del self._followers[feed]

    async def _frames(
        self,
        news: asyncio.Event,
        start: Callable[[], Awaitable[tuple[bool, Batch[Change]]]],
        after: Callable[[int], Awaitable[Batch[Change]]],
    ) -> AsyncGenerator[Frame[Change], None]:
        reset, batch = await start()
        if reset:
            # Until the snapshot has arrived, nothing is held: resuming from 0 brings everything.
            yield Frame(0, signal=Signal.RESET)
        current = False
        quiet_since = asyncio.get_running_loop().time()
        while True:
            revision = batch.revision
            if batch.changes:
                yield Frame(revision, changes=batch.changes)
            if batch.complete and not current:
                current = True
                yield Frame(revision, signal=Signal.CURRENT)
            now = asyncio.get_running_loop().time()
            if batch.changes:
                quiet_since = now
            elif now - quiet_since >= HEARTBEAT_SECONDS:
                quiet_since = now
                yield Frame(revision, signal=Signal.HEARTBEAT)
            if batch.complete:
                await self._news(news)
            # Cleared before reading, so that news which comes while reading is looked for again.
            news.clear()
            batch = await after(revision)

    async def _news(self, news: asyncio.Event) -> None:
        """Waits until somebody says that there is news, or until it is time to look anyway."""
        if not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await news.wait()
        if self._stopping:
            raise server_stopping()
