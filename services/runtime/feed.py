"""Live updates: following a feed from a revision, without losing or repeating anything.

A feed is something that changes and counts its changes: each gets the next revision, under a lock
that is held until its commit, so that whoever sees revision r sees all before it. The stored state
is the log: following means reading "what has a revision above mine", again whenever somebody says
that there is news, and once in a while in case nobody said so. A follower holds its revision and
nothing else, so a slow one costs no memory and loses nothing.

What the followers of a feed have in common is done once in a process: a read from one revision is
shared by all who stand there, its changes are decrypted and serialised once, and what this process
itself wrote is handed on without any reading.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from psycopg import Error

from services.runtime.errors import server_stopping

_log = logging.getLogger(__name__)

Change = TypeVar("Change")

POLL_SECONDS = 5.0
_POLLED_AT_ONCE = 1_000
_KEPT_FRAMES = 32
_KEPT_BYTES = 1 << 20


class Signal(Enum):
    """What a frame says when it holds no changes."""

    CURRENT = "current"
    HEARTBEAT = "heartbeat"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Batch(Generic[Change]):
    """Changes that stand together, in order, and the revision that stands after them."""

    changes: Sequence[Change]
    revision: int
    removes: bool = False
    """Whether something is gone by them, which must not be sent any more."""


@dataclass(frozen=True, slots=True)
class Start(Generic[Change]):
    """Where a follower begins."""

    held: Batch[Change]
    """A snapshot; or nothing, and the revision that the follower already holds."""
    revision: int
    """The feed's revision when this was read."""
    reset: bool = False
    """Whether the follower must drop what it holds."""


class Source(Protocol[Change]):
    """A feed: its name, its changes, and how they are spelled."""

    @property
    def name(self) -> str:
        """What wake-ups call it."""

    async def after(self, revision: int) -> Batch[Change]:
        """The changes above a revision, as many as fit a frame; none when there are none."""

    def frame(self, revision: int, told: Sequence[Change] | Signal) -> bytes:
        """A serialised response: changes or a signal, and the revision that stands after it."""


@dataclass(frozen=True, slots=True)
class _Frame:
    revision: int
    payload: bytes


class _OpenFeed(Generic[Change]):
    """A feed that somebody in this process follows."""

    def __init__(self, source: Source[Change]) -> None:
        self.followers: set[asyncio.Event] = set()
        self.revision = 0
        """The highest revision that is known to be stored."""
        self._source = source
        self._kept: OrderedDict[int, _Frame] = OrderedDict()
        self._kept_bytes = 0
        self._reads: dict[int, asyncio.Task[_Frame | None]] = {}

    def learn(self, revision: int) -> None:
        """Notes that a revision is stored, and wakes the followers if that is news."""
        if revision > self.revision:
            self.revision = revision
            self.wake()

    def wake(self) -> None:
        """Makes every follower look."""
        for news in self.followers:
            news.set()

    def publish(self, after: int, batch: Batch[Change]) -> None:
        """Takes changes that were just stored, for whoever stands right before them."""
        self._keep(after, batch)
        self.learn(batch.revision)

    async def next(self, after: int) -> _Frame | None:
        """What follows a revision; None when there turns out to be nothing."""
        kept = self._kept.get(after)
        if kept is not None:
            return kept
        task = self._reads.get(after)
        if task is None:
            task = asyncio.create_task(self._read(after), name="feed read")
            self._reads[after] = task
            task.add_done_callback(lambda done: self._forget_read(after, done))
        # Others may wait for it too: a follower that leaves does not end it.
        return await asyncio.shield(task)

    async def _read(self, after: int) -> _Frame | None:
        said = self.revision
        batch = await self._source.after(after)
        if batch.changes:
            return self._keep(after, batch)
        if self.revision == said:
            # Whoever said that there is more was wrong: what is stored decides.
            self.revision = after
        return None

    def _forget_read(self, after: int, task: "asyncio.Task[_Frame | None]") -> None:
        del self._reads[after]
        if not task.cancelled():
            # Read here too, for the case that everyone who waited for it has left.
            task.exception()

    def _keep(self, after: int, batch: Batch[Change]) -> _Frame:
        if batch.removes:
            self._kept.clear()
            self._kept_bytes = 0
        frame = _Frame(batch.revision, self._source.frame(batch.revision, batch.changes))
        if after not in self._kept:
            self._kept[after] = frame
            self._kept_bytes += len(frame.payload)
        while len(self._kept) > _KEPT_FRAMES or self._kept_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.payload)
        return frame


class Feeds:
    """Who in this process follows which feed. Use as `async with`."""

    def __init__(self, revisions: Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]) -> None:
        """Takes what reads the present revisions of feeds, by their names."""
        self._revisions = revisions
        self._stopping = False
        self._open: dict[str, _OpenFeed[Any]] = {}
        self._look = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Feeds":
        self._poll = asyncio.create_task(self._poll_always(), name="feed poll")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._poll is not None:
            self._poll.cancel()
            with suppress(asyncio.CancelledError):
                await self._poll

    def is_followed(self, name: str) -> bool:
        """Whether anyone here follows a feed."""
        return name in self._open

    def publish(self, name: str, after: int, batch: Batch[Change]) -> None:
        """Hands what this process stored to the followers of a feed: `batch` follows `after`."""
        feed = self._open.get(name)
        if feed is not None:
            feed.publish(after, batch)

    def learn(self, name: str, revision: int) -> None:
        """Notes that a feed has got to a revision: its followers look if they are behind."""
        feed = self._open.get(name)
        if feed is not None:
            feed.learn(revision)

    def look(self) -> None:
        """Looks after every feed now: wake-ups may have been lost."""
        self._look.set()

    def stop(self) -> None:
        """Ends every follower: this process stops, and another one answers them."""
        self._stopping = True
        for feed in self._open.values():
            feed.wake()

    async def follow(
        self,
        source: Source[Change],
        *,
        start: Callable[[], Awaitable[Start[Change]]],
        heartbeat: float,
    ) -> AsyncGenerator[bytes, None]:
        """The frames of a feed: where `start` begins, `current`, then changes, for ever.

        `heartbeat` is after how many seconds of silence one is sent.

        Raises:
            Refusal: SERVER_STOPPING, when this process stops; or what `start` and the source raise.
        """
        news = asyncio.Event()
        # Joined before the first read, so that what commits after it is not missed.
        feed = self._open.setdefault(source.name, _OpenFeed(source))
        feed.followers.add(news)
        try:
            async for payload in self._frames(feed, source, news, await start(), heartbeat):
                yield payload
        finally:
            feed.followers.discard(news)
            if not feed.followers and self._open.get(source.name) is feed:
                del self._open[source.name]

    async def _frames(
        self,
        feed: _OpenFeed[Change],
        source: Source[Change],
        news: asyncio.Event,
        start: Start[Change],
        heartbeat: float,
    ) -> AsyncGenerator[bytes, None]:
        feed.learn(start.revision)
        if start.reset:
            # Until the snapshot has arrived, nothing is held: resuming from 0 brings everything.
            yield source.frame(0, Signal.RESET)
        revision = start.held.revision
        if start.held.changes:
            yield source.frame(revision, start.held.changes)
        current = False
        while True:
            # Cleared before looking, so that what comes while looking is looked for again.
            news.clear()
            if self._stopping:
                raise server_stopping()
            if revision < feed.revision:
                frame = await feed.next(revision)
                if frame is not None:
                    revision = frame.revision
                    yield frame.payload
            elif not current:
                current = True
                yield source.frame(revision, Signal.CURRENT)
            elif not await _is_set(news, heartbeat):
                yield source.frame(revision, Signal.HEARTBEAT)

    async def _poll_always(self) -> None:
        while True:
            if await _is_set(self._look, POLL_SECONDS):
                self._look.clear()
            try:
                await self._poll_all()
            except Error:
                _log.warning("the revisions of feeds cannot be read; trying again", exc_info=True)

    async def _poll_all(self) -> None:
        names = list(self._open)
        for first in range(0, len(names), _POLLED_AT_ONCE):
            revisions = await self._revisions(names[first : first + _POLLED_AT_ONCE])
            for name, revision in revisions.items():
                self.learn(name, revision)


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set, now or within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
