"""Telling other processes that a feed has news, whatever carries it there.

A wake-up carries feeds' names and their revisions, and nothing of what happened; and when the first
of these was stored, so that operators can see how long wake-ups take. It may be lost, come twice or
late: whoever is woken reads the stored state, and a slow poll covers the ones that never came. They
are sent after the commit, and many at once go together.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.runtime.background import ended
from services.runtime.telemetry.feeds import WAKEUP_DELAY

_log = logging.getLogger(__name__)

_PAYLOAD_BYTES = 7_900  # PostgreSQL refuses 8,000.
_RECONNECT_SECONDS = 1.0
# What comes so soon after a wake-up waits and goes with what follows: each is a transaction, and
# under load there would be one for every batch that is written.
_GATHERING_SECONDS = 0.01
# Past so many that wait, as while what carries them is away, the oldest are dropped: whoever
# follows those finds the news by looking.
_WAITING_FEEDS = 20_000
# For how long a process that stops tries to tell what it stored last.
_LAST_SECONDS = 1.0
_SEPARATOR = " "
_EQUALS = "="
# In the place of a feed's name: its revision is the time, in milliseconds since 1970. No feed has
# this name, so that a process which does not know of it looks for no feed in vain.
STORED_AT = "@"
_REVISIONS = range(1, 1 << 63)
_LONGEST_TIME = 20


class CarrierError(Exception):
    """What carries wake-ups does not answer."""


class Carrier(Protocol):
    """Brings short texts from one process of a service to all others, as well as it can."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """What others send from now on, until the connection breaks.

        Raises:
            CarrierError: it cannot be listened, or not any longer.
        """

    async def send(self, payload: str) -> None:
        """Sends a text of at most 7,900 bytes of ASCII to everyone who listens.

        Raises:
            CarrierError: it could not be sent.
        """

    async def close(self) -> None:
        """Lets go of what sending holds; listening ends by itself."""


class Wakeups:
    """One process's link to the others. Use as `async with`."""

    def __init__(
        self, carrier: Carrier, *, learn: Callable[[str, int], None], look: Callable[[], None]
    ) -> None:
        """Takes what carries wake-ups, and what to call.

        `learn` is called with each feed that has news and its revision, `look` when wake-ups may
        have been lost.
        """
        self._carrier = carrier
        self._learn = learn
        self._look = look
        self._pending: dict[str, int] = {}
        self._pending_since = 0.0
        self._has_pending = asyncio.Event()
        self._ends = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Wakeups":
        self._tasks = [
            asyncio.create_task(self._receive_always(), name="wake-ups in"),
            asyncio.create_task(self._send_always(), name="wake-ups out"),
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._ends = True
        self._has_pending.set()
        try:
            await asyncio.wait(self._tasks[1:], timeout=_LAST_SECONDS)
        finally:
            await ended(*self._tasks)
            await self._carrier.close()

    def send(self, feed: str, revision: int) -> None:
        """Wakes the watchers of a feed in every other process, soon."""
        if not self._pending:
            self._pending_since = time.time()
        self._pending[feed] = max(revision, self._pending.get(feed, 0))
        if len(self._pending) > _WAITING_FEEDS:
            del self._pending[next(iter(self._pending))]
        self._has_pending.set()

    async def _receive_always(self) -> None:
        while True:
            try:
                async with self._carrier.listen() as payloads:
                    self._look()  # Whatever was sent while nobody listened is lost.
                    async for payload in payloads:
                        self._take(payload)
            except Exception:  # noqa: BLE001 - whatever it is, wake-ups must come again
                _log.warning("wake-ups cannot be received; trying again", exc_info=True)
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _take(self, payload: str) -> None:
        try:
            for feed, revision in news_in(payload):
                if feed == STORED_AT:
                    WAKEUP_DELAY.observe(max(time.time() - revision / 1000, 0))
                else:
                    self._learn(feed, revision)
        except ValueError:
            # Anyone who reaches the carrier may send anything; the poll does not depend on it.
            _log.warning("a malformed wake-up is ignored", extra={"characters": len(payload)})

    async def _send_always(self) -> None:
        while self._pending or not self._ends:
            await self._has_pending.wait()
            if not self._pending:
                continue  # There is only the end.
            since = self._pending_since
            news = self._take_pending()
            told = {STORED_AT: int(since * 1000)} | news
            payload = payload_of(told)
            try:
                await self._carrier.send(payload)
                await asyncio.sleep(_GATHERING_SECONDS)
            except Exception:  # noqa: BLE001 - whatever it is, wake-ups must go out again
                _log.warning("a wake-up could not be sent; trying again", exc_info=True)
                for feed, revision in news.items():
                    self.send(feed, revision)
                self._pending_since = since
                await asyncio.sleep(_RECONNECT_SECONDS)

    def _take_pending(self) -> dict[str, int]:
        """As many waiting feeds as one payload can name."""
        taken: dict[str, int] = {}
        length = _LONGEST_TIME
        for feed, revision in list(self._pending.items()):
            length += len(_spelled(feed, revision)) + len(_SEPARATOR)
            if length > _PAYLOAD_BYTES:
                break
            taken[feed] = self._pending.pop(feed)
        if not self._pending:
            self._has_pending.clear()
        return taken


def payload_of(news: Mapping[str, int]) -> str:
    """Feeds and their revisions as a payload."""
    return _SEPARATOR.join(map(_spelled, news, news.values()))


def news_in(payload: str) -> Iterator[tuple[str, int]]:
    """The feeds that a payload names, and their revisions.

    Raises:
        ValueError: it is none of ours.
    """
    for news in payload.split(_SEPARATOR):
        feed, _, revision = news.rpartition(_EQUALS)
        if not feed or int(revision) not in _REVISIONS:
            raise ValueError("neither feed nor revision")
        yield feed, int(revision)


def _spelled(feed: str, revision: int) -> str:
    return f"{feed}{_EQUALS}{revision}"
