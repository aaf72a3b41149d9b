"""The leases of a process's writers: what says to everybody that a growing message is written.

Each is renewed long before it runs out. When a message has ended by another's hand, or has another
writer, the call that wrote it is ended. That is looked for whenever its conversation has changed by
others, and with each renewal.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from psycopg import Error

from services.messages.growth import LEASE_SECONDS
from services.messages.lease_store import LeaseStore
from services.messages.metrics import show_growing
from services.messages.tables import Conversation
from services.runtime.background import ended

_log = logging.getLogger(__name__)

_RENEW_SECONDS = LEASE_SECONDS / 4
# How long a message whose call ended early waits for another one to take it up.
_RETURN_SECONDS = 3.0


@dataclass(slots=True, eq=False)
class Lease:
    """What a call holds while it writes a message."""

    conversation: Conversation
    message_id: UUID
    writer: UUID
    call: "asyncio.Task[object]"
    """Cancelled when the lease is lost."""
    revision: int
    """The last one that the conversation got by this writer."""
    ends: bool = False
    """Whether the writer itself is ending the message."""
    lost: bool = False
    """Whether the message has ended, or has another writer."""

    @property
    def written(self) -> tuple[Conversation, UUID, UUID]:
        """What is written, and by whom."""
        return self.conversation, self.message_id, self.writer


class Leases:
    """Renews the leases of a process. Use as `async with`."""

    def __init__(self, store: LeaseStore) -> None:
        """Takes where leases are."""
        self._store = store
        self._held: defaultdict[str, set[Lease]] = defaultdict(set)
        """By the conversation's feed."""
        self._suspect: set[Lease] = set()
        self._has_suspects = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        show_growing(lambda: sum(map(len, self._held.values())))

    async def __aenter__(self) -> "Leases":
        self._tasks = [
            asyncio.create_task(self._renew_always(), name="leases of writers"),
            asyncio.create_task(self._look_always(), name="leases in doubt"),
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await ended(*self._tasks)
        await asyncio.gather(*self._leaving)

    def hold(self, lease: Lease) -> None:
        """Renews a lease from now on."""
        self._held[lease.conversation.feed].add(lease)

    def drop(self, lease: Lease) -> None:
        """Renews a lease no longer: its message has ended."""
        feed = lease.conversation.feed
        self._held[feed].discard(lease)
        self._suspect.discard(lease)
        if not self._held[feed]:
            del self._held[feed]

    def let_go(self, lease: Lease) -> None:
        """Drops a lease early, and shortens it to what the writer may take to come back.

        In the background: a call that was cancelled must not wait for anything.
        """
        self.drop(lease)
        task = asyncio.create_task(self._shorten(lease), name="writer leaves")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def learn(self, feed: str, revision: int) -> None:
        """Notes that a conversation has changed: looks after the leases in it, if by others."""
        held = self._held.get(feed)
        if held is None:
            return
        suspect = {lease for lease in held if revision > lease.revision}
        if suspect:
            self._suspect |= suspect
            self._has_suspects.set()

    async def _shorten(self, lease: Lease) -> None:
        try:
            await self._store.shorten(*lease.written, seconds=_RETURN_SECONDS)
        except Error:
            _log.warning("a lease cannot be shortened; it runs out by itself", exc_info=True)

    async def _renew_always(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            held = [lease for held in self._held.values() for lease in held]
            if not held:
                continue
            try:
                await self._store.renew([lease.written for lease in held])
                await self._look_after(held)
            except Error:
                _log.warning("leases cannot be renewed; trying again", exc_info=True)

    async def _look_always(self) -> None:
        while True:
            await self._has_suspects.wait()
            self._has_suspects.clear()
            suspect, self._suspect = self._suspect, set()
            try:
                await self._look_after(suspect)
            except Error:
                _log.warning("leases cannot be looked after; they will be", exc_info=True)

    async def _look_after(self, leases: Collection[Lease]) -> None:
        """Ends the calls whose leases are lost."""
        writers = await self._store.writers([lease.written for lease in leases])
        for lease in leases:
            # A message that its own writer ends, or has ended meanwhile, is as it should be.
            is_held = lease in self._held.get(lease.conversation.feed, ())
            if lease.writer not in writers and is_held and not lease.ends:
                lease.lost = True
                lease.call.cancel()
