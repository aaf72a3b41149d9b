"""What a service with Watch methods stands on: feeds, wake-ups between its processes, streams."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Table

from services.runtime.cursors import Cursors
from services.runtime.database import Database
from services.runtime.epoch import epoch_of, read_epoch
from services.runtime.feed import Batch, Feeds
from services.runtime.settings import ServiceSettings
from services.runtime.streams import Streams
from services.runtime.wakeups import Wakeups
from services.runtime.wakeups.carriers import carrier_of
from services.runtime.watch import Watches

Change = TypeVar("Change")


@dataclass(frozen=True, slots=True)
class Live:
    """The live side of a process."""

    feeds: Feeds
    wakeups: Wakeups
    watches: Watches
    streams: Streams
    """All streams of the process, watches among them."""
    listeners: list[Callable[[str, int], None]]
    """Called with each feed that was changed, here or by another process, and its revision. What
    others changed may come twice, or never."""

    def announce(self, name: str, change: Change, revision: int, *, removes: bool = False) -> None:
        """Tells a feed's watchers of a change that was just stored: here at once, and elsewhere."""
        self.feeds.publish(name, revision - 1, Batch([change], revision, removes=removes))
        self.wakeups.send(name, revision)
        for listener in self.listeners:
            listener(name, revision)


@asynccontextmanager
async def live(
    database: Database,
    settings: ServiceSettings,
    cursors: Cursors,
    *,
    feeds_of: Table,
    revisions: Callable[[Sequence[str]], Awaitable[Mapping[str, int]]],
) -> AsyncIterator[Live]:
    """Runs a service's live side.

    `feeds_of` is the table whose rows count the feeds' revisions, `revisions` reads them by the
    feeds' names.
    """
    query = epoch_of(feeds_of)
    carrier = carrier_of(settings, database, str(feeds_of.schema))

    async def epoch() -> int:
        return await read_epoch(database, query)

    async with Feeds(revisions, epoch) as feeds:
        listeners: list[Callable[[str, int], None]] = []

        def learn(name: str, revision: int) -> None:
            for listener in (feeds.learn, *listeners):
                listener(name, revision)

        async with Wakeups(carrier, learn=learn, look=feeds.look) as wakeups:
            streams = Streams(settings.streams_per_person)
            watches = Watches(feeds, cursors, streams)
            yield Live(feeds, wakeups, watches, streams, listeners)
