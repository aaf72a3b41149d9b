"""Telling other processes that a feed has news: PostgreSQL's NOTIFY.

A wake-up carries a feed's name and its revision, and nothing of what happened. It may be lost, come
twice or late: whoever is woken reads the stored state, and a slow poll covers the ones that never
came. They are sent after the commit and not in it, since NOTIFY inside a transaction makes commits
wait for each other.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from psycopg import Error, sql

from services.runtime.database import Connection, Database

_log = logging.getLogger(__name__)

_PAYLOAD_BYTES = 7_900  # PostgreSQL refuses 8,000.
_RECONNECT_SECONDS = 1.0
# What comes so soon after a wake-up waits and goes with what follows: each is a transaction, and
# under load there would be one for every batch that is written.
_GATHERING_SECONDS = 0.01
_SEPARATOR = " "
_EQUALS = "="


class Wakeups:
    """One process's link to the others on a channel. Use as `async with`."""

    def __init__(
        self,
        database: Database,
        channel: str,
        *,
        learn: Callable[[str, int], None],
        look: Callable[[], None],
    ) -> None:
        """Takes the channel's name, and what to call.

        `learn` is called with each feed that has news and its revision, `look` when wake-ups may
        have been lost.
        """
        self._database = database
        self._channel = channel
        self._learn = learn
        self._look = look
        self._pending: dict[str, int] = {}
        self._has_pending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Wakeups":
        self._tasks = [
            asyncio.create_task(self._receive_always(), name="wake-ups in"),
            asyncio.create_task(self._send_always(), name="wake-ups out"),
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def send(self, feed: str, revision: int) -> None:
        """Wakes the watchers of a feed in every other process, soon; many at once go together."""
        self._pending[feed] = max(revision, self._pending.get(feed, 0))
        self._has_pending.set()

    async def _receive_always(self) -> None:
        while True:
            try:
                connection = await self._database.connect()
                async with connection:
                    await self._receive(connection)
            except (Error, OSError):
                _log.warning("wake-ups cannot be received; trying again", exc_info=True)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _receive(self, connection: Connection) -> None:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        self._look()  # Whatever was sent while nobody listened is lost.
        async for notification in connection.notifies():
            for news in notification.payload.split(_SEPARATOR):
                feed, _, revision = news.rpartition(_EQUALS)
                self._learn(feed, int(revision))

    async def _send_always(self) -> None:
        connection: Connection | None = None
        while True:
            await self._has_pending.wait()
            payload = self._take_payload()
            try:
                if connection is None or connection.closed:
                    connection = await self._database.connect()
                await connection.execute("SELECT pg_notify(%s, %s)", (self._channel, payload))
                await asyncio.sleep(_GATHERING_SECONDS)
            except (Error, OSError):
                # Lost: the poll covers it.
                _log.warning("a wake-up could not be sent", exc_info=True)
                connection = None
                await asyncio.sleep(_RECONNECT_SECONDS)
            except asyncio.CancelledError:
                if connection is not None:
                    await connection.close()
                raise

    def _take_payload(self) -> str:
        """As many waiting feeds as one notification can name."""
        taken: list[str] = []
        length = 0
        for feed, revision in list(self._pending.items()):
            news = f"{feed}{_EQUALS}{revision}"
            length += len(news) + len(_SEPARATOR)
            if length > _PAYLOAD_BYTES:
                break
            taken.append(news)
            del self._pending[feed]
        if not self._pending:
            self._has_pending.clear()
        return _SEPARATOR.join(taken)
