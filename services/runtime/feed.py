"""Live updates: following a feed from a revision, without losing or repeating anything.

A feed is something that changes and counts its changes: each gets the next revision, under a lock
that is held until its commit, so that whoever sees revision r sees all before it. The stored state
is the log: following means reading "what has a revision above mine", again whenever somebody says
that there is news, and once in a while in case nobody said so. A follower holds its revision and
nothing else, so a slow one costs no memory and loses nothing.

What the followers of a feed have in common is done once in a process: a read from one revision is
shared by all who stand there, its changes are decrypted and serialised once, and what this process
itself wrote is handed on without any reading.

What is stored decides, always. When it stands before what was seen of it, the database was put back
to an older state: then streams end, and who watches again is told to begin anew.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

import grpc
from inglenook.errors.v1.errors_pb2 import Reason

from services.runtime.background import ended
from services.runtime.errors import Refusal, server_stopping
from services.runtime.kept_frames import Frame, KeptFrames
from services.runtime.news import News
from services.runtime.telemetry.feeds import FOUND_BY_LOOKING, Lag, show_feeds

_log = logging.getLogger(__name__)

Change = TypeVar("Change")

POLL_SECONDS = 5.0
_POLLED_AT_ONCE = 1_000
_KEPT_BYTES = 16 << 20


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

    @property
    def epoch(self) -> int:
        """Of the database that it is read from, as `Feeds.epoch` gave it."""

    async def revision(self) -> int:
        """The stored revision; refuses when there is no such feed any more."""

    async def after(self, revision: int) -> Batch[Change]:
        """The changes above a revision, as many as fit a frame; none when there are none."""

    def frame(self, revision: int, told: Sequence[Change] | Signal) -> bytes:
        """A serialised response: changes or a signal, and the revision that stands after it."""


class _OpenFeed(Generic[Change]):
    """A feed that somebody in this process follows."""

    def __init__(self, source: Source[Change], kept: KeptFrames) -> None:
        self.followers: set[News] = set()
        self.revision = 0
        """The highest revision that is known to be stored."""
        self.over = False
        """Whether what is stored went back, so that nobody can go on from where they stand."""
        self._source = source
        self._kept = kept
        self._gone = 0
        """Up to which revision something may have been removed of what came before."""
        self._reads: dict[int, asyncio.Task[Frame]] = {}
        self._running: set[asyncio.Task[Frame]] = set()

    def learn(self, revision: int) -> None:
        """Notes that a revision is stored, and wakes the followers if that is news."""
        if revision > self.revision:
            # Whatever happened elsewhere may have deleted what is kept here.
            self.forget(revision)
            self._advance(revision)

    def publish(self, after: int, batch: Batch[Change]) -> None:
        """Takes changes that were just stored, for whoever stands right before them."""
        if after > self.revision:
            # So may what happened there in between, of which no word has come yet.
            self.forget(after)
        if batch.removes:
            self.forget(batch.revision)
        if batch.revision >= self._gone:
            self._keep(after, batch)
        self._advance(batch.revision)

    def forget(self, revision: int = 0) -> None:
        """Lets go of what was read up to now: it is sent to nobody who comes later.

        Neither is what is told later of what was stored before this revision.
        """
        self._gone = max(self._gone, revision)
        self._kept.forget(self._source.name)
        self._reads.clear()

    def end(self) -> None:
        """Ends every follower: what is stored went back behind what they hold."""
        self.over = True
        self.forget()
        self.wake()

    def wake(self) -> None:
        """Makes every follower look."""
        for news in self.followers:
            news.set()

    async def next(self, after: int) -> Frame:
        """What follows a revision.

        Raises:
            Refusal: what is stored went back; or what the source refuses.
        """
        kept = self._kept.get(self._source.name, after)
        if kept is not None:
            return kept
        task = self._reads.get(after)
        if task is None:
            task = asyncio.create_task(self._read(after), name="feed read")
            self._reads[after] = task
            self._running.add(task)
            task.add_done_callback(lambda done: self._forget_read(after, done))
        # Others may wait for it too: a follower that leaves does not end it.
        return await asyncio.shield(task)

    async def _read(self, after: int) -> Frame:
        batch = await self._source.after(after)
        if not batch.changes:
            # Whoever said that there is more was wrong, or meant what left nothing behind. What is
            # learned from here on is news again.
            self.revision = after
            stored = await self._source.revision()
            if stored < after:
                self.end()
                raise _went_back()
            batch = await self._source.after(after)
            if not batch.changes:
                # Read after `stored` was: up to there, there is nothing to tell.
                self.revision = max(self.revision, stored)
                return Frame(stored, b"")
        if self._reads.get(after) is asyncio.current_task():
            return self._keep(after, batch)
        return self._frame(batch)

    def _forget_read(self, after: int, task: "asyncio.Task[Frame]") -> None:
        self._running.discard(task)
        if self._reads.get(after) is task:
            del self._reads[after]
        if not task.cancelled():
            # Read here too, for the case that everyone who waited for it has left.
            task.exception()

    def _keep(self, after: int, batch: Batch[Change]) -> Frame:
        frame = self._frame(batch)
        self._kept.keep(self._source.name, after, frame)
        return frame

    def _frame(self, batch: Batch[Change]) -> Frame:
        return Frame(batch.revision, self._source.frame(batch.revision, batch.changes))

    def _advance(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
            self.wake()


class Feeds:
    """Who in this process follows which feed. Use as `async with`."""

    def __init__(
        self,
        revisions: Callable[[Sequence[str]], Awaitable[Mapping[str, int]]],
        epoch: Callable[[], Awaitable[int]],
    ) -> None:
        """Takes what reads the present revisions of feeds by their names, and the epoch."""
        self._revisions = revisions
        self._read_epoch = epoch
        self._epoch: int | None = None
        self._stopping = False
        self._open: dict[str, _OpenFeed[Any]] = {}
        self._kept = KeptFrames(_KEPT_BYTES)
        self._look = News()
        self._poll: asyncio.Task[None] | None = None
        show_feeds(lambda: len(self._open), lambda: self._kept.size)

    async def __aenter__(self) -> "Feeds":
        self._poll = asyncio.create_task(self._poll_always(), name="feed poll")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._poll is not None:
            await ended(self._poll)

    async def epoch(self) -> int:
        """The database's epoch now. When it is another than before, every follower is ended."""
        epoch = await self._read_epoch()
        if epoch != self._epoch:
            self._epoch = epoch
            for feed in list(self._open.values()):
                feed.end()
        return epoch

    def is_followed(self, name: str) -> bool:
        """Whether anyone here follows a feed."""
        return name in self._open

    @property
    def kept_bytes(self) -> int:
        """How many bytes of frames are kept for others; it has a bound for all feeds together."""
        return self._kept.size

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
            Refusal: SERVER_STOPPING, when this process stops; DEPENDENCY_UNAVAILABLE, when what is
                stored went back; or what `start` and the source raise.
        """
        if source.epoch != self._epoch:
            raise _went_back()
        news = News()
        # Joined before the first read, so that what commits after it is not missed.
        feed = self._open.get(source.name)
        if feed is None or feed.over:
            feed = self._open[source.name] = _OpenFeed(source, self._kept)
        feed.followers.add(news)
        try:
            frames = self._frames(feed, source, news, await start(), heartbeat)
            async with aclosing(frames):
                async for payload in frames:
                    yield payload
        finally:
            feed.followers.discard(news)
            if not feed.followers:
                self._drop(feed, source.name)

    async def _frames(
        self,
        feed: _OpenFeed[Change],
        source: Source[Change],
        news: News,
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
        now = asyncio.get_running_loop().time
        silent_since = now()
        lag = Lag()
        while True:
            # Cleared before looking, so that what comes while looking is looked for again.
            news.clear()
            if self._stopping:
                raise server_stopping()
            if feed.over:
                raise _went_back()
            if revision < feed.revision:
                frame = await feed.next(revision)
                revision, payload = frame.revision, frame.payload
                if not payload:
                    continue
            elif not current:
                current = True
                payload = source.frame(revision, Signal.CURRENT)
            elif await news.wait(silent_since + heartbeat - now()):
                lag.told(news.told_at)
                continue
            else:
                payload = source.frame(revision, Signal.HEARTBEAT)
            lag.handed()
            yield payload
            silent_since = now()

    def _drop(self, feed: _OpenFeed[Any], name: str) -> None:
        if self._open.get(name) is feed:
            feed.forget()
            del self._open[name]

    async def _poll_always(self) -> None:
        while True:
            if await self._look.wait(POLL_SECONDS):
                self._look.clear()
            try:
                await self._poll_all()
            except Exception:  # noqa: BLE001 - whatever it is, it is all that covers lost wake-ups
                _log.warning("the revisions of feeds cannot be read; trying again", exc_info=True)

    async def _poll_all(self) -> None:
        if self._open:
            await self.epoch()
        feeds = list(self._open.items())
        for first in range(0, len(feeds), _POLLED_AT_ONCE):
            asked = feeds[first : first + _POLLED_AT_ONCE]
            # Noted before reading: what is known then is stored, unless it was taken back.
            known = [feed.revision for _, feed in asked]
            stored = await self._revisions([name for name, _ in asked])
            for (name, feed), revision in zip(asked, known, strict=True):
                found = stored.get(name, 0)
                if found < revision:
                    feed.end()
                else:
                    if found > feed.revision:
                        FOUND_BY_LOOKING.inc()
                    feed.learn(found)


def _went_back() -> Refusal:
    """The feed cannot be followed from where its followers stand."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        Reason.REASON_DEPENDENCY_UNAVAILABLE,
        "What is stored is behind what was sent. Watch again with the last resume token.",
    )
